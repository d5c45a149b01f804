//! How long a process keeps a core when others want it.
//!
//! Where several executors share a core, each loses its caches to the others whenever they take turns, some hundred times a
//! second. Executors with cores of their own do not, and those are what a benchmark of few cores is to tell about.

/// Lets this thread, and what it starts from now on, keep a core for as long as the kernel allows, and not take it from
/// others on waking up. Linux can be told so from 6.12 on; before, only the latter.
pub(crate) fn lengthen() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::lengthen() {
        tracing::warn!("cores change hands as often as ever: {error}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    /// The longest turn that the kernel gives.
    const NANOSECONDS: u64 = 100_000_000;

    #[expect(unsafe_code, reason = "no safe binding has these calls")]
    pub(super) fn lengthen() -> io::Result<()> {
        let size = size_of::<libc::sched_attr>();
        // SAFETY: all of it are numbers, which may be zero.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes no more than `size` bytes.
        done(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
        attributes.size = size as u32;
        attributes.sched_policy = libc::SCHED_BATCH as u32;
        attributes.sched_runtime = NANOSECONDS;
        // SAFETY: the kernel only reads the attributes, which are as long as they say.
        done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
    }

    fn done(result: libc::c_long) -> io::Result<()> {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
