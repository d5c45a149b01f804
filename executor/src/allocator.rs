//! When the allocator (mimalloc) returns freed memory to the system.

use std::ffi::{c_int, c_long};

/// mimalloc's `mi_option_purge_delay`, which its binding does not name.
const PURGE_DELAY: c_int = 15;
/// Freed memory returns to the system after this time (10 s: longer than the pause between queries on a busy server).
const PURGE_DELAY_MILLISECONDS: c_long = 10_000;

/// Lets mimalloc keep freed memory for 10 s, unless the variable `MIMALLOC_PURGE_DELAY` says otherwise.
///
/// A query frees its memory at its end, and the next query allocates as much at its start. If the memory went back to
/// the system in between, the kernel would clear every page again at its first touch. This takes a quarter of the
/// time of a query that exchanges many bytes. Call this only if the process's allocator is mimalloc, and before the
/// process starts threads.
#[expect(unsafe_code, reason = "the allocator's options can be set in no other way")]
pub fn keep_freed_memory() {
    // SAFETY: no other thread runs yet, and the option takes any number of milliseconds.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MILLISECONDS) }
}

/// While this value lives, the allocator returns freed memory to the system at once. After its drop, the previous delay
/// applies again. Near the memory limit, freed memory must not stay resident: a hash table that doubles frees its old
/// half each time.
#[derive(Debug)]
pub(crate) struct GivingBack {
    usual_delay: c_long,
}

impl GivingBack {
    /// Blocks until the memory that is free now has returned to the system.
    #[expect(unsafe_code, reason = "the allocator's options can be set in no other way")]
    pub(crate) fn start() -> Self {
        // SAFETY: mimalloc reads the option without synchronization. A thread may use the old delay once more; both
        // are valid.
        unsafe {
            let usual_delay = libmimalloc_sys::mi_option_get(PURGE_DELAY);
            libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
            libmimalloc_sys::mi_collect(true);
            Self { usual_delay }
        }
    }
}

impl Drop for GivingBack {
    #[expect(unsafe_code, reason = "the allocator's options can be set in no other way")]
    fn drop(&mut self) {
        // SAFETY: as in `start`.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, self.usual_delay) }
    }
}
