//! Runs deep recursions on a stack that is large enough for them.
//!
//! Parsing, planning, encoding and decoding recurse as deep as a statement's expressions. The stack is reserved address
//! space: only what a recursion touches becomes memory.

use std::io;

use futures::channel::oneshot;

/// Enough for statements at the depth limit in builds without optimisation.
const STACK_BYTES: usize = 1 << 30;

/// Runs `work` on a thread of its own with a large stack. An error means that the thread could not start or panicked.
pub async fn on_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("deep".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        // The receiver is gone when nobody waits for the result any more.
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(|_| io::Error::other("a planning thread panicked; this is a bug"))
}
