//! How the processes' allocator treats memory that was freed.

use std::ffi::{c_int, c_long};
use std::sync::OnceLock;

/// mimalloc's `mi_option_purge_delay`, which its binding does not name.
const PURGE_DELAY: c_int = 15;
/// Longer than queries are apart on a server that has work.
const PURGE_DELAY_MILLISECONDS: c_long = 10_000;

/// Lets mimalloc keep freed memory for some seconds, unless the variable `MIMALLOC_PURGE_DELAY` says otherwise.
///
/// Queries free at their end what the next one takes at its start. Given back to the system in between, every page is
/// cleared again when it is first touched: a quarter of the time of a query that exchanges much. To be called by a
/// process that has mimalloc as its allocator, before it starts threads.
#[expect(unsafe_code, reason = "the allocator's options can be set in no other way")]
pub fn keep_freed_memory() {
    // SAFETY: no other thread runs yet, and the option takes any number of milliseconds.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MILLISECONDS) }
}

/// With `gives`, the allocator returns freed memory to the system at once; otherwise it keeps it for the usual time. Near the
/// memory limit freed memory must not stay resident: a hash table that doubles frees its old half each time.
#[expect(unsafe_code, reason = "the allocator's options can be set in no other way")]
pub(crate) fn give_back_freed_memory(gives: bool) {
    // SAFETY: the functions may be called by any thread at any time.
    unsafe {
        let usual = *USUAL_DELAY.get_or_init(|| libmimalloc_sys::mi_option_get(PURGE_DELAY));
        libmimalloc_sys::mi_option_set(PURGE_DELAY, if gives { 0 } else { usual });
        if gives {
            libmimalloc_sys::mi_collect(true);
        }
    }
}

static USUAL_DELAY: OnceLock<c_long> = OnceLock::new();
