//! Runs deep recursions on a stack that is large enough for them.
//!
//! Parsing, planning, encoding and decoding recurse as deep as a statement's expressions. The stack is reserved
//! address space. Only the pages that a recursion touches take memory, until the thread has been idle for a second.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::counted_memory::tell_process;

/// Bytes of a stack (1 GiB: enough for statements at the depth limit in builds without optimization).
const STACK_BYTES: usize = 1 << 30;
/// How long an idle thread is kept. The stages of a query follow each other much faster and reuse the thread.
const IDLE: Duration = Duration::from_secs(1);

/// A runtime that is only used for its blocking threads.
static THREADS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_current_thread()
        .thread_name("deep")
        .thread_stack_size(STACK_BYTES)
        .thread_keep_alive(IDLE)
        .on_thread_stop(tell_process)
        .build()
});

/// Runs `work` on a thread with a large stack. An error means that the thread could not start or panicked.
pub async fn on_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let threads = THREADS.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    // Tokio panics if it cannot start its first thread.
    let task = catch_unwind(AssertUnwindSafe(|| threads.spawn_blocking(work)));
    let task = task.map_err(|_| io::Error::other("no thread with a large stack could be started"))?;
    task.await.map_err(|_| io::Error::other("a planning thread panicked; this is a bug"))
}
