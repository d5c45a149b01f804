//! Lengthens the time slices for which a process keeps a core while others wait for it.
//!
//! If several executors share a core, they take turns some hundred times a second, and lose the contents of the CPU
//! caches each time. Executors on several machines do not share cores, so a benchmark that estimates their CPU time on
//! one machine must keep this loss small.

/// Gives this thread, and all threads and processes that it starts later, the longest time slices that the kernel
/// allows. When one of these threads wakes up, it does not interrupt another thread (`SCHED_BATCH`). Linux supports the
/// time slices from 6.12 on. Older versions only apply `SCHED_BATCH`.
pub(crate) fn lengthen() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::lengthen() {
        tracing::warn!("cores change hands as often as ever: {error}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    /// The longest time slice that the kernel gives (100 ms).
    const NANOSECONDS: u64 = 100_000_000;

    #[expect(unsafe_code, reason = "no safe binding has these calls")]
    pub(super) fn lengthen() -> io::Result<()> {
        let size = size_of::<libc::sched_attr>();
        // SAFETY: all fields are numbers, and zero is valid for each.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes no more than `size` bytes.
        done(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
        attributes.size = size as u32;
        attributes.sched_policy = libc::SCHED_BATCH as u32;
        attributes.sched_runtime = NANOSECONDS;
        // SAFETY: the kernel only reads the attributes, and `attributes.size` is their true size.
        done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
    }

    fn done(result: libc::c_long) -> io::Result<()> {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
