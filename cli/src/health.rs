//! `hwacha health`: asks a process whether it takes work, for probes of containers.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hwacha_client::{Health, health};

use crate::error::CliError;

/// The arguments of `hwacha health`.
#[derive(Args, Clone, Debug)]
pub(crate) struct HealthArgs {
    /// URL of a scheduler or an executor.
    #[arg(default_value = "grpc://127.0.0.1:50050", value_name = "URL")]
    url: String,
    /// Asks only whether the process answers. Without it, an executor must also be registered and not drain.
    #[arg(long)]
    live: bool,
    /// Seconds to wait for the answer.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    timeout: u64,
}

/// Prints `ready`, or `live` with `--live`. If the process is not, prints `not` before it, and exits with status 1.
pub(crate) async fn run(args: HealthArgs) -> Result<ExitCode, CliError> {
    let (asked, name) = if args.live { (Health::Live, "live") } else { (Health::Ready, "ready") };
    match health(&args.url, asked, Duration::from_secs(args.timeout)).await? {
        true => {
            println!("{name}");
            Ok(ExitCode::SUCCESS)
        }
        false => {
            println!("not {name}");
            Ok(ExitCode::FAILURE)
        }
    }
}
