//! How a scheduler process is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one scheduler process.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Names the build of this process. Executors must be of the same, since hashes are not stable across builds.
    pub build: String,
    /// Address that clients and executors connect to; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Directory for tables, views and the scheduler's epoch; made when missing.
    pub data_dir: PathBuf,
    /// How many queries run at once; more wait.
    pub max_running: usize,
    /// How many queries wait; more are refused.
    pub max_queued: usize,
    /// How long a query waits for an executor before it fails.
    pub executor_wait: Duration,
    /// An executor that has been silent for so long is lost.
    pub executor_lost_after: Duration,
    /// A result that nobody reads for so long is dropped and its query canceled.
    pub result_ttl: Duration,
    /// A session that has not been used for so long is forgotten.
    pub session_ttl: Duration,
    /// How long the list of a table's files holds, if nothing is changed here: at zero each query lists them.
    pub listing_ttl: Duration,
}

impl SchedulerConfig {
    /// The defaults, with the catalog at `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            build: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 50050)),
            data_dir: data_dir.into(),
            max_running: 64,
            max_queued: 512,
            executor_wait: Duration::from_secs(30),
            executor_lost_after: Duration::from_secs(10),
            result_ttl: Duration::from_secs(600),
            session_ttl: Duration::from_secs(3600),
            listing_ttl: Duration::ZERO,
        }
    }
}
