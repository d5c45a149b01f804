//! `hwacha demo`.

use std::process::ExitCode;

use clap::Args;

use crate::error::CliError;

/// What `hwacha demo` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// The TPC-H scale factor; 1 is about 1 GB of text.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

pub(crate) async fn run(_: DemoArgs) -> Result<ExitCode, CliError> {
    Ok(ExitCode::SUCCESS)
}
