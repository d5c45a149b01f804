//! `hwacha scheduler`: runs a scheduler until a signal stops it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hwacha_scheduler::{Scheduler, SchedulerConfig};
use hwacha_storage::{Allowed, Location, StorageConfig};

use crate::error::CliError;
use crate::{BUILD, logs, settings, signals};

/// The arguments of `hwacha scheduler`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SchedulerArgs {
    /// Address that clients and executors connect to. Port 0 picks a free port and prints it.
    #[arg(long, env = "HWACHA_LISTEN", default_value = "127.0.0.1:50050", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Directory for tables and views. They survive a restart with the same directory.
    #[arg(long, env = "HWACHA_DATA_DIR", default_value = "hwacha-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Number of queries that may run at once. Further queries wait.
    #[arg(long, env = "HWACHA_MAX_RUNNING", default_value_t = 64, value_name = "NUMBER")]
    max_running: usize,
    /// Number of queries that may wait. Further queries are refused.
    #[arg(long, env = "HWACHA_MAX_QUEUED", default_value_t = 512, value_name = "NUMBER")]
    max_queued: usize,
    /// Seconds that a query waits for an executor before it fails.
    #[arg(long, env = "HWACHA_EXECUTOR_WAIT", default_value_t = 30, value_name = "SECONDS")]
    executor_wait: u64,
    /// Seconds without a message after which an executor is declared lost.
    #[arg(long, env = "HWACHA_EXECUTOR_LOST_AFTER", default_value_t = 10, value_name = "SECONDS")]
    executor_lost_after: u64,
    /// Seconds after which a result is dropped if no client fetches it.
    #[arg(long, env = "HWACHA_RESULT_TTL", default_value_t = 600, value_name = "SECONDS")]
    result_ttl: u64,
    /// Seconds after which an unused session is dropped.
    #[arg(long, env = "HWACHA_SESSION_TTL", default_value_t = 3600, value_name = "SECONDS")]
    session_ttl: u64,
    /// Seconds for which the list of a table's files is cached. Files that others add or remove are seen only after
    /// this time, and existing files must not be overwritten. At 0 each query lists the files.
    #[arg(long, env = "HWACHA_LISTING_TTL", default_value_t = 0, value_name = "SECONDS")]
    listing_ttl: u64,
    /// Location that queries may read: a directory, or a URL such as s3://bucket/prefix. May be given several times.
    /// Queries may also read the locations of the [storage] sections of --config and the tables of --data-dir.
    #[arg(long, env = "HWACHA_ALLOW_LOCATION", value_delimiter = ',', value_name = "LOCATION")]
    allow_location: Vec<String>,
    /// Allows a listen address that other machines can reach. There is no authentication: anyone who reaches the port
    /// can run SQL.
    #[arg(long, env = "HWACHA_ALLOW_REMOTE")]
    allow_remote: bool,
    /// TOML file with settings. Its keys are the names of these flags. Flags and environment variables override it.
    #[arg(long, env = "HWACHA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs until SIGTERM or Ctrl-C.
pub(crate) async fn run(args: SchedulerArgs) -> Result<ExitCode, CliError> {
    logs::start(&args.logs)?;
    refuse_remote(args.listen, args.allow_remote)?;
    let storage = settings::storage(args.config.as_deref())?;
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
        allowed: allowed(&args.allow_location, &storage)?,
        storage,
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

/// The locations that queries may read, in addition to the tables of the data directory.
fn allowed(places: &[String], storage: &StorageConfig) -> Result<Allowed, CliError> {
    let location = |place: &String| {
        Location::of_place(place).map_err(|problem| CliError::Usage(format!("--allow-location: {problem}")))
    };
    let mut allowed: Vec<_> = storage.locations().cloned().collect();
    allowed.extend(places.iter().filter(|place| !place.is_empty()).map(location).collect::<Result<Vec<_>, _>>()?);
    Ok(Allowed::Only(allowed))
}

/// Refuses an address that other machines can reach, unless `--allow-remote` was given.
pub(crate) fn refuse_remote(listen: SocketAddr, allowed: bool) -> Result<(), CliError> {
    if allowed || listen.ip().is_loopback() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{listen} can be reached from other machines, and there is no authentication; say --allow-remote if that is wanted"
    )))
}
