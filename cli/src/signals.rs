//! Waits for the signals that ask a process to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process receives SIGTERM or SIGINT (Ctrl-C).
pub(crate) async fn stop() {
    let mut terminate = signal(SignalKind::terminate()).expect("signal handlers can be set");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signal handlers can be set");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
