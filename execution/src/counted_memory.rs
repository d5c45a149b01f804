//! Counts the bytes that each thread and the whole process allocate.
//!
//! DataFusion's memory pool only knows what its large operators reserve. Planning, expressions and accumulators
//! reserve nothing, so their memory is counted here. The count of a thread is what the thread allocates minus what it
//! frees. Memory that one thread allocates and another thread frees stays in the count of the first thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// Bytes by which a thread's count may differ from its part in the process's count (64 KiB: a hundred threads make the
/// process's count wrong by some 6 MiB at most).
const UNTOLD_BYTES: i64 = 64 << 10;

static PROCESS_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    // Has no destructor, because allocations at a thread's end must still be counted.
    static COUNT: Count = const { Count { net_bytes: Cell::new(0), told_bytes: Cell::new(0) } };
}

struct Count {
    net_bytes: Cell<i64>,
    /// The part of `net_bytes` that the process's count contains.
    told_bytes: Cell<i64>,
}

/// Bytes that the process has allocated and not freed, to within some megabytes. Always zero in a process whose
/// allocator is not a [`CountingAllocator`].
pub fn process_bytes() -> usize {
    PROCESS_BYTES.load(Ordering::Relaxed).max(0) as usize
}

/// Bytes that this thread has allocated and not freed. Negative if it frees what other threads have allocated. Always
/// zero in a process whose allocator is not a [`CountingAllocator`].
pub fn net_bytes() -> i64 {
    COUNT.try_with(|count| count.net_bytes.get()).unwrap_or(0)
}

/// Adds the rest of this thread's count to the process's count. Must run at the end of a thread: otherwise its last
/// bytes are missing forever.
pub fn tell_process() {
    let _ = COUNT.try_with(Count::tell);
}

impl Count {
    fn tell(&self) {
        let net = self.net_bytes.get();
        PROCESS_BYTES.fetch_add(net - self.told_bytes.replace(net), Ordering::Relaxed);
    }
}

#[inline]
fn count(bytes: i64) {
    // Never fails, because `COUNT` has no destructor.
    let _ = COUNT.try_with(|count| {
        let net = count.net_bytes.get().wrapping_add(bytes);
        count.net_bytes.set(net);
        if (net - count.told_bytes.get()).abs() >= UNTOLD_BYTES {
            count.tell();
        }
    });
}

/// An allocator that counts the bytes that it allocates and frees.
#[derive(Debug)]
pub struct CountingAllocator<A>(pub A);

#[expect(unsafe_code, reason = "an allocator is made of unsafe functions; each passes on its caller's promises")]
// SAFETY: every call goes to the inner allocator unchanged.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        let memory = unsafe { self.0.alloc(layout) };
        if !memory.is_null() {
            count(layout.size() as i64);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps the same promises.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        let memory = unsafe { self.0.alloc_zeroed(layout) };
        if !memory.is_null() {
            count(layout.size() as i64);
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        let moved = unsafe { self.0.realloc(memory, layout, new_size) };
        if !moved.is_null() {
            count(new_size as i64 - layout.size() as i64);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the functions of an allocator are unsafe")]
    fn what_is_allocated_and_freed_is_counted() {
        let allocator = CountingAllocator(System);
        let (small, before) = (Layout::new::<[u8; 1000]>(), net_bytes());
        // SAFETY: the memory is freed with the layout that it has.
        unsafe {
            let memory = allocator.alloc(small);
            assert_eq!(net_bytes() - before, 1000);
            let memory = allocator.realloc(memory, small, 3000);
            assert_eq!(net_bytes() - before, 3000);
            allocator.dealloc(memory, Layout::from_size_align_unchecked(3000, small.align()));
        }
        assert_eq!(net_bytes(), before);
    }

    #[test]
    #[expect(unsafe_code, reason = "the functions of an allocator are unsafe")]
    fn the_process_knows_of_large_pieces_and_of_what_threads_leave() {
        let (allocator, large) = (CountingAllocator(System), Layout::new::<[u8; 100 << 20]>());
        // SAFETY: the memory is freed with the layout that it has.
        unsafe {
            let memory = allocator.alloc(large);
            assert!(process_bytes() >= 99 << 20);
            allocator.dealloc(memory, large);
        }
        assert!(process_bytes() < 99 << 20);
    }
}
