//! The measured cluster: processes of this binary, and a connection to them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use clap::Args;
use hwacha_client::{Connection, Progress};
use hwacha_model::ByteSize;
use hwacha_workloads::files;
use hwacha_workloads::suite::Suite;

use crate::Result;
use crate::output::OutputArgs;
use crate::parties::Process;
use crate::suites::SuiteName;

const TECHNIQUES: &str = "SELECT name FROM information_schema.df_settings WHERE name LIKE 'hwacha.%' \
                          AND value = 'true' AND name <> 'hwacha.optimizer.distributed' ORDER BY name";

/// The queries to run, and how often.
#[derive(Args, Clone, Debug)]
pub(crate) struct WorkloadArgs {
    /// Suite of queries to run.
    #[arg(long, value_enum, default_value_t = SuiteName::Tpch)]
    pub suite: SuiteName,
    /// Directory of the tables' Parquet files. Missing files are generated [default: data/SUITE-SCALE]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Scale factor of the generated tables.
    #[arg(long, default_value_t = 10.0)]
    pub scale: f64,
    /// Memory limit of each executor, such as 1GiB. Plain DataFusion has no limit, because its answers must be there.
    #[arg(long, default_value = "6GiB", value_name = "SIZE")]
    pub memory_limit: ByteSize,
    /// Number of times that each query runs on each engine.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Runs only these queries, such as `1,6,18`.
    #[arg(long, value_delimiter = ',')]
    pub queries: Vec<usize>,
    /// Statement that Hwacha runs before the queries, such as `SET hwacha.exchange.pipelined = false`.
    #[arg(long)]
    pub set: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A workload, and the size of the cluster that runs it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    pub workload: WorkloadArgs,
    #[arg(long, default_value_t = 2)]
    pub executors: usize,
    /// Cores of each executor. Plain DataFusion uses as many cores as all executors together.
    #[arg(long, default_value_t = 1)]
    pub cores: usize,
}

impl ClusterArgs {
    pub(crate) fn shape(&self) -> Shape {
        Shape { executors: self.executors, cores: self.cores, memory: self.workload.memory_limit }
    }
}

impl WorkloadArgs {
    /// The absolute path of the directory of the tables.
    pub(crate) fn data(&self) -> Result<PathBuf> {
        let usual = || Path::new("data").join(format!("{}-{}", self.suite.name(), self.scale));
        Ok(std::path::absolute(self.data.clone().unwrap_or_else(usual))?)
    }

    /// The suite and its scale, for titles.
    pub(crate) fn title(&self) -> String {
        format!("{}, scale {}", self.suite.name(), self.scale)
    }

    /// The tables and the queries to run. Generates missing tables. Fails if a query number does not exist.
    pub(crate) fn suite(&self) -> Result<Suite> {
        let data = self.data()?;
        self.suite.generate(&data, self.scale)?;
        let mut suite = self.suite.load(&data)?;
        match self.queries.iter().find(|number| !suite.queries.contains_key(number)) {
            Some(wrong) => return Err(format!("there is no query {wrong}").into()),
            None if self.queries.is_empty() => {}
            None => suite.queries.retain(|number, _| self.queries.contains(number)),
        }
        Ok(suite)
    }
}

/// The number of executors, and the cores and memory of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub executors: usize,
    pub cores: usize,
    pub memory: ByteSize,
}

/// Where the tables are if they are not on the local disk.
pub(crate) struct Remote {
    /// The URL of the store.
    pub endpoint: String,
    pub bucket: String,
    /// Whether executors have a cache.
    pub has_cache: bool,
}

/// A scheduler, its executors, and a session.
pub(crate) struct Cluster {
    pub scheduler: Process,
    pub executors: Vec<Process>,
    connection: Connection,
}

impl Cluster {
    /// Starts the processes and creates the tables.
    pub(crate) async fn start(shape: Shape, suite: &Suite, scratch: &Path) -> Result<Self> {
        Self::start_remote(shape, suite, scratch, None).await
    }

    /// Like [`Self::start`], for tables in a store.
    pub(crate) async fn start_remote(
        shape: Shape,
        suite: &Suite,
        scratch: &Path,
        remote: Option<&Remote>,
    ) -> Result<Self> {
        let path = |name: &str| scratch.join(name).display().to_string();
        let data_dir = path("scheduler");
        let mut arguments = vec!["scheduler", &data_dir];
        arguments.extend(remote.iter().flat_map(|remote| ["--endpoint", &remote.endpoint, "--bucket", &remote.bucket]));
        let scheduler = Process::start(&arguments).await?;
        let url = format!("http://{}", scheduler.address);
        let (spill, cores, memory) = (path("spill"), shape.cores.to_string(), shape.memory.0.to_string());
        let mut executors = vec![];
        for number in 0..shape.executors {
            let cache = path(&format!("cache-{number}"));
            let mut arguments = vec!["executor", &url, &spill, &cores, &memory];
            if remote.is_some_and(|remote| remote.has_cache) {
                arguments.extend(["--cache-dir", &cache]);
            }
            executors.push(Process::start(&arguments).await?);
        }
        let connection = Connection::connect(&format!("grpc://{}", scheduler.address)).await?;
        let cluster = Self { scheduler, executors, connection };
        for (table, file) in &suite.tables {
            cluster.rows(&files::create_external_table(table, file)).await?;
        }
        Ok(cluster)
    }

    /// Runs statements that change the session.
    pub(crate) async fn set(&self, statements: &[String]) -> Result<()> {
        for statement in statements {
            self.rows(statement).await?;
        }
        Ok(())
    }

    /// The names of Hwacha's settings that are `true` in this session, except `distributed`.
    pub(crate) async fn techniques(&self) -> Result<Vec<String>> {
        let found = self.rows(TECHNIQUES).await?;
        let names = found.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten());
        Ok(names.map(str::to_owned).collect())
    }

    /// All rows of a statement.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.connection.query(sql).await?.collect().await?)
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<Answered> {
        let started = Instant::now();
        let query = self.connection.query(sql).await?;
        let id = query.id().map(str::to_owned).ok_or("the query has no number")?;
        let rows = query.collect().await?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Answered { seconds, rows, progress: self.connection.progress(&id).await? })
    }

    /// The ids of all processes.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        self.executors.iter().chain([&self.scheduler]).map(Process::id).collect()
    }
}

/// The rows of a query, the time until all of them arrived, and the query's statistics.
pub(crate) struct Answered {
    pub seconds: f64,
    pub rows: Vec<RecordBatch>,
    pub progress: Progress,
}
