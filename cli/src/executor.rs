//! `hwacha executor`: runs an executor until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hwacha_executor::{Error, Executor, ExecutorConfig};
use hwacha_model::ByteSize;

use crate::error::CliError;
use crate::scheduler::refuse_remote;
use crate::{BUILD, logs, signals};

/// What `hwacha executor` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExecutorArgs {
    /// The scheduler's URL.
    #[arg(long, env = "HWACHA_SCHEDULER", value_name = "URL", required_unless_present = "config")]
    scheduler: Option<String>,
    /// Address that other executors and the scheduler read rows from. Port 0 picks a free one, which is printed.
    #[arg(long, env = "HWACHA_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// HOST:PORT that others are told to connect to, when it differs from the address that is listened on.
    #[arg(long, env = "HWACHA_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Threads that compute, and partitions of each task; all of the machine's when not given.
    #[arg(long, env = "HWACHA_CORES", value_name = "NUMBER")]
    cores: Option<usize>,
    /// How many tasks run at once.
    #[arg(long, env = "HWACHA_SLOTS", default_value_t = 64, value_name = "NUMBER")]
    slots: u32,
    /// Memory for all tasks together, such as 2GiB; 60 % of the machine's when not given.
    #[arg(long, env = "HWACHA_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<ByteSize>,
    /// Directory for spill files; emptied of what dead executors left. The system's temporary directory when not given.
    #[arg(long, env = "HWACHA_SPILL_DIR", value_name = "DIRECTORY")]
    spill_dir: Option<PathBuf>,
    /// Disk space that spill files may take together.
    #[arg(long, env = "HWACHA_SPILL_LIMIT", default_value = "100GiB", value_name = "SIZE")]
    spill_limit: ByteSize,
    /// Seconds that running tasks may go on after a stop was asked for.
    #[arg(long, env = "HWACHA_DRAIN_TIMEOUT", default_value_t = 30, value_name = "SECONDS")]
    drain_timeout: u64,
    /// Allows an address beyond this machine. There is no authentication: whoever reaches the port can read rows.
    #[arg(long, env = "HWACHA_ALLOW_REMOTE")]
    allow_remote: bool,
    /// TOML file with settings by the names of these flags; flags and environment go before it.
    #[arg(long, env = "HWACHA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs until SIGTERM or Ctrl-C. An executor that was taken for lost starts anew under another identity.
pub(crate) async fn run(args: ExecutorArgs) -> Result<ExitCode, CliError> {
    logs::start(&args.logs)?;
    refuse_remote(args.listen, args.allow_remote)?;
    let config = config(&args)?;
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
        () = registered => println!("ready {}", executor.address()),
        error = executor.stopped() => return error,
    }
    executor.stopped().await
}

fn config(args: &ExecutorArgs) -> Result<ExecutorConfig, CliError> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let memory = args.memory_limit.map(|limit| limit.0 as usize);
    let missing = || CliError::Usage("an executor needs its scheduler's URL: say --scheduler URL".to_owned());
    Ok(ExecutorConfig {
        build: BUILD.to_owned(),
        scheduler: args.scheduler.clone().ok_or_else(missing)?,
        listen: args.listen,
        advertise: args.advertise.clone(),
        cores: args.cores.unwrap_or_else(cores).max(1),
        slots: args.slots.max(1),
        memory_limit_bytes: memory.unwrap_or_else(hwacha_executor::default_memory_limit_bytes),
        spill_dir: args.spill_dir.clone(),
        spill_limit_bytes: args.spill_limit.0,
        drain_timeout: Duration::from_secs(args.drain_timeout),
    })
}
