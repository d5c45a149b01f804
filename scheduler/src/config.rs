//! How a scheduler process is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hwacha_storage::{Allowed, StorageConfig};

/// Settings of one scheduler process.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Names the build of this process. Executors must have the same build, since hashes are not stable across
    /// builds.
    pub build: String,
    /// Address that clients and executors connect to; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Directory for tables, views and the scheduler's epoch. It is created if it is missing.
    pub data_dir: PathBuf,
    /// Maximum number of queries that run at once. Further queries wait.
    pub max_running: usize,
    /// Maximum number of queries that wait. Further queries are refused.
    pub max_queued: usize,
    /// How long a query waits for an executor before it fails.
    pub executor_wait: Duration,
    /// How long an executor may send no heartbeat. Then it is lost.
    pub executor_lost_after: Duration,
    /// How long a result may stay unread. Then it is dropped and its query is canceled.
    pub result_ttl: Duration,
    /// How long a session with a token may be unused. Then it is dropped. A session without a token ends with its
    /// connection.
    pub session_ttl: Duration,
    /// How long a listing of a table's files is kept. At zero each query lists the files. Statements that define or
    /// analyze tables drop all listings.
    pub listing_ttl: Duration,
    /// How the stores of tables are reached.
    pub storage: StorageConfig,
    /// The locations that queries may read, beside the tables in the data directory.
    pub allowed: Allowed,
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
            storage: StorageConfig::default(),
            allowed: Allowed::Everything,
        }
    }
}
