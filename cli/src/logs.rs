//! Logs: to standard error, as text or JSON.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::error::CliError;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The arguments about logs, which the scheduler and the executor share.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// Format of the log lines on standard error.
    #[arg(long, env = "HWACHA_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Level of the logs (error, warn, info, debug, trace), or levels by module such as `info,hwacha_executor=debug`.
    #[arg(long, env = "HWACHA_LOG", default_value = "info", value_name = "FILTER")]
    log_filter: String,
}

/// Starts logging to standard error. Colors are used only if that is a terminal.
pub(crate) fn start(args: &LogArgs) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&args.log_filter).map_err(|error| {
        let text = format!(
            "--log-filter \"{}\": {error}; write a filter like info or info,hwacha_executor=debug",
            args.log_filter
        );
        CliError::Usage(text)
    })?;
    let stderr = std::io::stderr;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(stderr().is_terminal()).with_writer(stderr);
    match args.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
