//! How an executor process is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hwacha_storage::{BlockCache, StorageConfig};

/// Settings of one executor process.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Names the build of this process. The scheduler must be of the same build, because hashes differ between
    /// builds.
    pub build: String,
    /// The scheduler's URL, such as `http://127.0.0.1:50050`.
    pub scheduler: String,
    /// Address that other executors and the scheduler read outputs from; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Host and port that other processes connect to, if they differ from `listen`.
    pub advertise: Option<String>,
    /// Threads that run operators, and partitions per task.
    pub cores: usize,
    /// How many tasks run at once.
    pub slots: u32,
    /// Bytes that operators and the exchange may hold together.
    pub memory_limit_bytes: usize,
    /// Directory for spill files; the executor makes a directory of its own below it. `None` means the system's
    /// temporary directory.
    pub spill_dir: Option<PathBuf>,
    /// Bytes that spill files may take together. `None` means 80 % of the bytes that are free on the volume at the start.
    pub spill_limit_bytes: Option<u64>,
    /// How long running tasks may go on after a stop was asked for.
    pub drain_timeout: Duration,
    /// How the stores of tables are reached.
    pub storage: StorageConfig,
    /// Keeps parts of remote files on a disk of this machine. It outlives the executor, which may start again.
    pub cache: Option<Arc<BlockCache>>,
}
