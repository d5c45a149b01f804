//! Logs: to standard error, as text or JSON.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What a process logs, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// How log lines look on standard error.
    #[arg(long, env = "HWACHA_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), or levels by module such as `info,hwacha_executor=debug`.
    #[arg(long, env = "HWACHA_LOG", default_value = "info", value_name = "FILTER")]
    log_filter: String,
}

/// Starts logging.
pub(crate) fn start(args: &LogArgs) {
    let filter = EnvFilter::new(&args.log_filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
