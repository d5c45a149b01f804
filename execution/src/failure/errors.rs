//! Hwacha's own errors that say where a task failed.

use datafusion::error::DataFusionError;
use hwacha_model::TaskId;

/// A producer's output could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the output of task {producer} could not be read: {reason}")]
pub struct ExchangeReadError {
    pub producer: TaskId,
    pub reason: String,
}

impl From<ExchangeReadError> for DataFusionError {
    fn from(error: ExchangeReadError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Reading a file failed. The inner error is not its `source`, so the search for a root stops at this error.
#[derive(Debug, thiserror::Error)]
#[error("the file {file} cannot be read: {error}")]
pub struct FileError {
    pub file: String,
    pub error: DataFusionError,
}

impl From<FileError> for DataFusionError {
    fn from(error: FileError) -> Self {
        Self::External(Box::new(error))
    }
}
