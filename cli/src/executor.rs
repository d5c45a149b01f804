//! `hwacha executor`: runs an executor until a signal stops it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hwacha_executor::{Error, Executor, ExecutorConfig};
use hwacha_model::ByteSize;
use hwacha_storage::BlockCache;

use crate::error::CliError;
use crate::scheduler::refuse_remote;
use crate::{BUILD, logs, settings, signals};

/// The arguments of `hwacha executor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExecutorArgs {
    /// The scheduler's URL.
    #[arg(long, env = "HWACHA_SCHEDULER", value_name = "URL", required_unless_present = "config")]
    scheduler: Option<String>,
    /// Address that other executors and the scheduler read rows from. Port 0 picks a free port and prints it.
    #[arg(long, env = "HWACHA_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// HOST:PORT that others connect to. Without it: the listen address, and if that is 0.0.0.0, the address by which this
    /// machine reaches the scheduler.
    #[arg(long, env = "HWACHA_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Number of compute threads, and of partitions per task. Without it: the number of the machine's cores.
    #[arg(long, env = "HWACHA_CORES", value_name = "NUMBER")]
    cores: Option<usize>,
    /// Number of tasks that may run at once.
    #[arg(long, env = "HWACHA_SLOTS", default_value_t = 64, value_name = "NUMBER")]
    slots: u32,
    /// Memory limit of all tasks together, such as 2GiB. Without it: 60 % of the machine's memory.
    #[arg(long, env = "HWACHA_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<ByteSize>,
    /// Directory for spill files. Files that dead executors left in it are removed. Without it: the system's temporary
    /// directory.
    #[arg(long, env = "HWACHA_SPILL_DIR", value_name = "DIRECTORY")]
    spill_dir: Option<PathBuf>,
    /// Limit of the disk space of all spill files together. Without it: 80 % of the space that is free at the start.
    #[arg(long, env = "HWACHA_SPILL_LIMIT", value_name = "SIZE")]
    spill_limit: Option<ByteSize>,
    /// Directory in which parts of remote files are kept for later queries, on a disk that is faster than the stores.
    /// Each executor needs its own. Without it: nothing is kept.
    #[arg(long, env = "HWACHA_CACHE_DIR", value_name = "DIRECTORY")]
    cache_dir: Option<PathBuf>,
    /// Limit of the disk space of the cache. Without it: 20 % of the space that is free at the start.
    #[arg(long, env = "HWACHA_CACHE_LIMIT", requires = "cache_dir", value_name = "SIZE")]
    cache_limit: Option<ByteSize>,
    /// Seconds that running tasks get to finish after the executor is asked to stop.
    #[arg(long, env = "HWACHA_DRAIN_TIMEOUT", default_value_t = 30, value_name = "SECONDS")]
    drain_timeout: u64,
    /// Allows a listen address that other machines can reach. There is no authentication: anyone who reaches the port
    /// can read rows.
    #[arg(long, env = "HWACHA_ALLOW_REMOTE")]
    allow_remote: bool,
    /// TOML file with settings. Its keys are the names of these flags. Flags and environment variables override it.
    #[arg(long, env = "HWACHA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs until SIGTERM or Ctrl-C. If the scheduler has declared this executor lost and evicts it, the executor starts
/// again under a new id.
pub(crate) async fn run(args: ExecutorArgs) -> Result<ExitCode, CliError> {
    logs::start(&args.logs)?;
    refuse_remote(args.listen, args.allow_remote)?;
    let config = config(&args).await?;
    let mut stop = Box::pin(signals::stop());
    loop {
        let mut executor = Executor::start(config.clone()).await?;
        let ended = tokio::select! {
            () = &mut stop => None,
            error = serve(&mut executor) => Some(error),
        };
        match ended {
            None => {
                executor.shutdown().await;
                return Ok(ExitCode::SUCCESS);
            }
            Some(Error::Evicted) => tracing::warn!("the scheduler had given this executor up; starting anew"),
            Some(error) => return Err(error.into()),
        }
    }
}

async fn serve(executor: &mut Executor) -> Error {
    let registered = executor.registration();
    tokio::select! {
        // Whoever read the first line may have closed the pipe.
        () = registered => drop(writeln!(std::io::stdout(), "ready {}", executor.address())),
        error = executor.stopped() => return error,
    }
    executor.stopped().await
}

async fn config(args: &ExecutorArgs) -> Result<ExecutorConfig, CliError> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let memory = args.memory_limit.map(|limit| limit.0 as usize);
    let missing = || CliError::Usage("an executor needs its scheduler's URL: say --scheduler URL".to_owned());
    let cache = match &args.cache_dir {
        Some(folder) => {
            let cache = BlockCache::open(folder, args.cache_limit.map(|limit| limit.0)).await;
            Some(Arc::new(cache.map_err(CliError::Usage)?))
        }
        None => None,
    };
    Ok(ExecutorConfig {
        build: BUILD.to_owned(),
        scheduler: args.scheduler.clone().ok_or_else(missing)?,
        listen: args.listen,
        advertise: args.advertise.clone(),
        cores: args.cores.unwrap_or_else(cores).max(1),
        slots: args.slots.max(1),
        memory_limit_bytes: memory.unwrap_or_else(hwacha_executor::default_memory_limit_bytes),
        spill_dir: args.spill_dir.clone(),
        spill_limit_bytes: args.spill_limit.map(|limit| limit.0),
        drain_timeout: Duration::from_secs(args.drain_timeout),
        storage: settings::storage(args.config.as_deref())?,
        cache,
    })
}
