//! `hwacha scheduler`: runs a scheduler until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hwacha_scheduler::{Scheduler, SchedulerConfig};

use crate::error::CliError;
use crate::{BUILD, logs, signals};

/// What `hwacha scheduler` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct SchedulerArgs {
    /// Address that clients and executors connect to. Port 0 picks a free one, which is printed.
    #[arg(long, env = "HWACHA_LISTEN", default_value = "127.0.0.1:50050", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Directory for tables and views; they survive a restart on the same directory.
    #[arg(long, env = "HWACHA_DATA_DIR", default_value = "hwacha-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// How many queries run at once; more wait.
    #[arg(long, env = "HWACHA_MAX_RUNNING", default_value_t = 64, value_name = "NUMBER")]
    max_running: usize,
    /// How many queries wait; more are refused.
    #[arg(long, env = "HWACHA_MAX_QUEUED", default_value_t = 512, value_name = "NUMBER")]
    max_queued: usize,
    /// Seconds that a query waits for an executor before it fails.
    #[arg(long, env = "HWACHA_EXECUTOR_WAIT", default_value_t = 30, value_name = "SECONDS")]
    executor_wait: u64,
    /// Seconds of silence after which an executor is taken for lost.
    #[arg(long, env = "HWACHA_EXECUTOR_LOST_AFTER", default_value_t = 10, value_name = "SECONDS")]
    executor_lost_after: u64,
    /// Seconds after which a result that nobody fetches is dropped.
    #[arg(long, env = "HWACHA_RESULT_TTL", default_value_t = 600, value_name = "SECONDS")]
    result_ttl: u64,
    /// Seconds after which an unused session is forgotten.
    #[arg(long, env = "HWACHA_SESSION_TTL", default_value_t = 3600, value_name = "SECONDS")]
    session_ttl: u64,
    /// Seconds for which the list of a table's files holds; what others add or remove is seen so much later, and files
    /// must not be written over. At 0 each query lists them.
    #[arg(long, env = "HWACHA_LISTING_TTL", default_value_t = 0, value_name = "SECONDS")]
    listing_ttl: u64,
    /// Allows an address beyond this machine. There is no authentication: whoever reaches the port can run SQL.
    #[arg(long, env = "HWACHA_ALLOW_REMOTE")]
    allow_remote: bool,
    /// TOML file with settings by the names of these flags; flags and environment go before it.
    #[arg(long, env = "HWACHA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs until SIGTERM or Ctrl-C.
pub(crate) async fn run(args: SchedulerArgs) -> Result<ExitCode, CliError> {
    logs::start(&args.logs)?;
    refuse_remote(args.listen, args.allow_remote)?;
    let config = SchedulerConfig {
        build: BUILD.to_owned(),
        listen: args.listen,
        data_dir: args.data_dir,
        max_running: args.max_running.max(1),
        max_queued: args.max_queued,
        executor_wait: Duration::from_secs(args.executor_wait),
        executor_lost_after: Duration::from_secs(args.executor_lost_after.max(1)),
        result_ttl: Duration::from_secs(args.result_ttl.max(1)),
        session_ttl: Duration::from_secs(args.session_ttl.max(1)),
        listing_ttl: Duration::from_secs(args.listing_ttl),
    };
    let mut scheduler = Scheduler::start(config).await?;
    println!("ready {}", scheduler.address());
    tokio::select! {
        () = signals::stop() => {}
        error = scheduler.stopped() => return Err(error.into()),
    }
    scheduler.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Nothing listens beyond this machine unless told.
pub(crate) fn refuse_remote(listen: SocketAddr, allowed: bool) -> Result<(), CliError> {
    if allowed || listen.ip().is_loopback() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{listen} can be reached from other machines, and there is no authentication; say --allow-remote if that is wanted"
    )))
}
