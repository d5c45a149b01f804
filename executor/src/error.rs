//! Why an executor cannot start or go on.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::machine_memory::MIN_MEMORY_LIMIT_BYTES;

/// Why an executor cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("\"{url}\" is not the URL of a scheduler; write it like http://127.0.0.1:50050")]
    SchedulerUrl { url: String },
    #[error("the scheduler at {url} refused this executor: {reason}")]
    Refused { url: String, reason: String },
    #[error("the scheduler had declared this executor lost; its tasks run elsewhere")]
    Evicted,
    #[error("cannot use the spill directory {}: {source}", path.display())]
    SpillDir { path: PathBuf, source: std::io::Error },
    #[error(
        "a memory limit of {limit_bytes} bytes is too small to run anything; give at least {MIN_MEMORY_LIMIT_BYTES} with --memory-limit"
    )]
    MemoryLimit { limit_bytes: usize },
    #[error("cannot start a thread pool: {0}")]
    Threads(std::io::Error),
    #[error("cannot set up the runtime of queries: {0}")]
    Runtime(#[from] datafusion::error::DataFusionError),
}
