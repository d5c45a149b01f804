//! Why a command ends without success.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
    #[error("cannot read {}: {source}", path.display())]
    ReadFile { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}", path.display())]
    WriteFile { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    ConfigFile { path: PathBuf, message: String },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Editor(rustyline::error::ReadlineError),
    #[error(transparent)]
    Local(#[from] hwacha_local::Error),
    #[error(transparent)]
    Client(#[from] hwacha_client::Error),
    #[error(transparent)]
    Scheduler(#[from] hwacha_scheduler::Error),
    #[error(transparent)]
    Executor(#[from] hwacha_executor::Error),
    #[error("{0}")]
    Data(String),
}
