//! A whole cluster inside one process: a scheduler and executors on free loopback ports. They are stopped together.
//!
//! The shell and the tests use such a cluster. Executors in one process pass rows to each other without encoding them.

use std::path::PathBuf;
use std::time::Duration;

use hwacha_executor::{Executor, ExecutorConfig};
use hwacha_scheduler::{Scheduler, SchedulerConfig};
use hwacha_storage::StorageConfig;
use tempfile::TempDir;

/// The settings of a local cluster.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Number of executors; at least one.
    pub executors: usize,
    /// Threads of each executor, and partitions of each of its tasks.
    pub cores: usize,
    /// Memory limit of each executor in bytes. If `None`, the executors share 60 % of the machine's memory equally.
    pub memory_limit_bytes: Option<usize>,
    /// Directory for tables and views. If `None`, a temporary directory.
    pub data_dir: Option<PathBuf>,
    /// Directory for spill files. If `None`, `hwacha-spill` in the system's temporary directory.
    pub spill_dir: Option<PathBuf>,
    /// Maximum bytes of the spill files of each executor. If `None`, 80 % of the free space.
    pub spill_limit_bytes: Option<u64>,
    /// How long a query waits for an executor.
    pub executor_wait: Duration,
    /// Endpoints and credentials of the object stores of tables.
    pub storage: StorageConfig,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            executors: 1,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_limit_bytes: None,
            data_dir: None,
            spill_dir: None,
            spill_limit_bytes: None,
            executor_wait: Duration::from_secs(30),
            storage: StorageConfig::default(),
        }
    }
}

/// Why a cluster cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scheduler did not start.
    #[error(transparent)]
    Scheduler(#[from] hwacha_scheduler::Error),
    /// An executor did not start.
    #[error(transparent)]
    Executor(#[from] hwacha_executor::Error),
    /// No temporary directory could be made for the tables and views.
    #[error("cannot make a temporary directory: {0}")]
    TemporaryDirectory(std::io::Error),
}

/// A running cluster. Dropping it stops it at once.
pub struct LocalCluster {
    scheduler: Scheduler,
    executors: Vec<Executor>,
    _temporary: Option<TempDir>,
}

impl LocalCluster {
    /// Starts a cluster and waits until its executors are registered.
    pub async fn start(config: LocalConfig) -> Result<Self, Error> {
        let temporary = match &config.data_dir {
            Some(_) => None,
            None => Some(TempDir::new().map_err(Error::TemporaryDirectory)?),
        };
        let data_dir = match (&config.data_dir, &temporary) {
            (Some(data_dir), _) => data_dir.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => unreachable!("one of them was made above"),
        };
        let mut scheduler_config = SchedulerConfig::new(data_dir);
        scheduler_config.listen.set_port(0);
        scheduler_config.executor_wait = config.executor_wait;
        scheduler_config.storage = config.storage.clone();
        let scheduler = Scheduler::start(scheduler_config).await?;
        let mut executors = vec![];
        for _ in 0..config.executors {
            let executor = Executor::start(executor_config(&config, &scheduler)).await?;
            executor.registered().await;
            executors.push(executor);
        }
        Ok(Self { scheduler, executors, _temporary: temporary })
    }

    /// The URL that clients connect to.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.scheduler.address())
    }

    /// Stops the executors, then the scheduler.
    pub async fn shutdown(self) {
        for executor in self.executors {
            executor.shutdown().await;
        }
        self.scheduler.shutdown().await;
    }
}

fn executor_config(config: &LocalConfig, scheduler: &Scheduler) -> ExecutorConfig {
    ExecutorConfig {
        // Empty, as in the default scheduler configuration: an executor needs the same build as its scheduler.
        build: String::new(),
        scheduler: format!("http://{}", scheduler.address()),
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        cores: config.cores,
        slots: 64,
        memory_limit_bytes: config
            .memory_limit_bytes
            .unwrap_or_else(|| hwacha_executor::default_memory_limit_bytes() / config.executors.max(1)),
        spill_dir: config.spill_dir.clone(),
        spill_limit_bytes: config.spill_limit_bytes,
        drain_timeout: Duration::from_secs(5),
        storage: config.storage.clone(),
        cache: None,
    }
}
