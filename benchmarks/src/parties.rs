//! The processes of a run: a scheduler, executors and plain DataFusion, all of this binary.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use clap::Subcommand;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use hwacha_executor::{Executor, ExecutorConfig};
use hwacha_scheduler::{Scheduler, SchedulerConfig};
use hwacha_storage::{BlockCache, StorageConfig};
use hwacha_workloads::suite::Suite;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Runtime;
use url::Url;

use crate::slow_store::{configuration, in_bucket};
use crate::suites::SuiteName;
use crate::{Result, slow_store};

/// Time within which a process must print `ready`; otherwise the run fails.
const START: Duration = Duration::from_secs(180);
/// Time limit of one query; a slower query fails.
const QUERY: Duration = Duration::from_secs(1800);
/// Ticks per second in the CPU times of `/proc/PID/stat`, on every platform that we run on.
const TICKS_A_SECOND: f64 = 100.0;
/// Bytes of stack of each thread (16 MiB, tokio's default is 2 MiB). Optimizers recurse as deep as the plan is.
const STACK_BYTES: usize = 16 << 20;

/// The role of a process of this binary.
#[derive(Subcommand)]
pub(crate) enum Party {
    #[command(hide = true)]
    Scheduler {
        data_dir: PathBuf,
        /// The URL of the store of remote tables, and their bucket.
        #[arg(long, requires = "bucket")]
        endpoint: Option<String>,
        #[arg(long)]
        bucket: Option<String>,
    },
    #[command(hide = true)]
    Executor {
        scheduler: String,
        spill_dir: PathBuf,
        cores: usize,
        memory_bytes: usize,
        #[arg(long)]
        cache_dir: Option<PathBuf>,
    },
    /// A store with the latency of a network ([`crate::slow_store`]).
    #[command(hide = true)]
    Store { folder: PathBuf, first_byte_millis: u64, bytes_per_second: u64 },
    /// Plain DataFusion. Each line of standard input is the number of a query and the path of the file for its rows.
    #[command(hide = true)]
    Plain {
        suite: SuiteName,
        data: PathBuf,
        cores: usize,
        /// The URL of the store of the tables. Without it, they are in `data`.
        #[arg(long, requires = "bucket")]
        endpoint: Option<String>,
        #[arg(long)]
        bucket: Option<String>,
    },
}

pub(crate) fn runtime(threads: usize) -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(threads).thread_stack_size(STACK_BYTES).enable_all().build()?)
}

/// Runs the party. The scheduler and executors run until they are killed, plain DataFusion until standard input ends.
pub(crate) fn run(party: Party) -> Result<()> {
    match party {
        Party::Scheduler { data_dir, endpoint, bucket } => runtime(1)?.block_on(async {
            let mut config = SchedulerConfig::new(data_dir);
            if let Some((endpoint, bucket)) = endpoint.zip(bucket) {
                config.storage = configuration(&endpoint, &bucket)?;
            }
            config.listen.set_port(0);
            let scheduler = Scheduler::start(config).await?;
            ready(&scheduler.address().to_string())?;
            std::future::pending().await
        }),
        Party::Executor { scheduler, spill_dir, cores, memory_bytes, cache_dir } => runtime(1)?.block_on(async {
            let cache = match cache_dir {
                Some(folder) => Some(Arc::new(BlockCache::open(&folder, None).await?)),
                None => None,
            };
            let config = ExecutorConfig {
                build: String::new(),
                scheduler,
                listen: ([127, 0, 0, 1], 0).into(),
                advertise: None,
                cores,
                slots: 64,
                memory_limit_bytes: memory_bytes,
                spill_dir: Some(spill_dir),
                spill_limit_bytes: None,
                drain_timeout: Duration::from_secs(1),
                storage: StorageConfig::default(),
                cache,
            };
            let executor = Executor::start(config).await?;
            executor.registered().await;
            ready(&executor.address().to_string())?;
            std::future::pending().await
        }),
        Party::Store { folder, first_byte_millis, bytes_per_second } => {
            let first_byte = Duration::from_millis(first_byte_millis);
            runtime(1)?.block_on(slow_store::serve(folder, first_byte, bytes_per_second))
        }
        Party::Plain { suite, data, cores, endpoint, bucket } => {
            let suite = suite.load(&data)?;
            match endpoint.zip(bucket) {
                Some((endpoint, bucket)) => {
                    let store = AmazonS3Builder::new()
                        .with_endpoint(endpoint)
                        .with_bucket_name(&bucket)
                        .with_allow_http(true)
                        .with_skip_signature(true)
                        .build()?;
                    let suite = in_bucket(&suite, &bucket);
                    plain(&runtime(cores)?, &suite, cores, Some((format!("s3://{bucket}").parse()?, Arc::new(store))))
                }
                None => plain(&runtime(cores)?, &suite, cores, None),
            }
        }
    }
}

fn ready(address: &str) -> Result<()> {
    println!("ready {address}");
    Ok(std::io::stdout().flush()?)
}

/// Runs queries in plain DataFusion, whose tables may be in a `store` with a URL.
fn plain(runtime: &Runtime, suite: &Suite, cores: usize, store: Option<(Url, Arc<dyn ObjectStore>)>) -> Result<()> {
    let config = SessionConfig::new().with_target_partitions(cores);
    let context = SessionContext::new_with_config(config);
    if let Some((url, store)) = store {
        context.register_object_store(&url, store);
    }
    runtime.block_on(async {
        for (table, path) in &suite.tables {
            context.register_parquet(table, path.display().to_string(), ParquetReadOptions::default()).await?;
        }
        Result::Ok(())
    })?;
    ready("")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (number, path) = line.split_once(' ').ok_or("a number and a path")?;
        let sql = suite.queries[&number.parse::<usize>()?].clone();
        let started = Instant::now();
        // The query runs on a worker thread, as in a server. This thread only waits.
        let context = context.clone();
        let rows = runtime.block_on(runtime.spawn(async move { context.sql(&sql).await?.collect().await }))?;
        let seconds = started.elapsed().as_secs_f64();
        match rows {
            Ok(rows) => {
                write(Path::new(path), &rows)?;
                println!("{seconds}");
            }
            Err(error) => println!("failed {}", error.to_string().replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn write(path: &Path, rows: &[RecordBatch]) -> Result<()> {
    let file = std::fs::File::create(path)?;
    let schema = rows.first().map(RecordBatch::schema).unwrap_or_else(|| std::sync::Arc::new(Schema::empty()));
    let mut writer = FileWriter::try_new(file, &schema)?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(writer.finish()?)
}

/// A running party. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// The address that the process printed after `ready`.
    pub address: String,
}

impl Process {
    /// Starts a party of this binary and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments);
        Self::spawn(command, arguments[0]).await
    }

    /// Starts a program and waits until it prints `ready`.
    pub(crate) async fn spawn(mut command: Command, name: &str) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdin = child.stdin.take().ok_or("standard input is piped")?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("standard output is piped")?).lines();
        let line = tokio::time::timeout(START, stdout.next_line()).await??;
        let line = line.ok_or_else(|| format!("{name} ended before it was ready"))?;
        let address = line.strip_prefix("ready ").ok_or(line.clone())?.to_owned();
        Ok(Self { child, stdin, stdout, address })
    }

    pub(crate) fn id(&self) -> Result<u32> {
        Ok(self.child.id().ok_or("a process has ended")?)
    }

    /// The CPU time of the process so far, all cores together.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.id()?)
    }

    /// Sends a line to a party that answers each line with a line.
    pub(crate) async fn ask(&mut self, line: &str) -> Result<String> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(tokio::time::timeout(QUERY, self.stdout.next_line()).await??.ok_or("the party has ended")?)
    }

    /// Sends a query number to a party that reads numbers. Returns the run time in seconds and the rows.
    pub(crate) async fn query(&mut self, number: usize, scratch: &Path) -> Result<(f64, Vec<RecordBatch>)> {
        let path = scratch.join(format!("{}.arrow", self.id()?));
        let line = self.ask(&format!("{number} {}", path.display())).await?;
        if let Some(failure) = line.strip_prefix("failed ") {
            return Err(failure.into());
        }
        let rows = FileReader::try_new(std::fs::File::open(path)?, None)?.collect::<std::result::Result<_, _>>()?;
        Ok((line.parse()?, rows))
    }
}

/// The CPU time of a process so far, all cores together.
pub(crate) fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name, which may contain spaces and `)`. The text after the last `)` starts with
    // the third field.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field - 3).ok_or("no such field")?.parse()?) };
    Ok((ticks(14)? + ticks(15)?) / TICKS_A_SECOND)
}
