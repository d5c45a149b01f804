//! Errors of the scheduler, and the one place where they become gRPC statuses.

use std::net::SocketAddr;
use std::path::PathBuf;

use datafusion::error::DataFusionError;
use hwacha_execution::failure::{classify, disk_failure};
use hwacha_model::{Failure, FailureKind};
use tonic::{Code, Status};

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Correct the statement.
    Invalid,
    /// Name something that exists.
    NotFound,
    /// Connect again.
    Unauthenticated,
    /// Use another feature: this one is not supported.
    Unsupported,
    /// Try again later.
    Unavailable,
    /// Ask for less, or give the servers more resources.
    ResourcesExhausted,
    /// Nothing: the query was canceled.
    Canceled,
    /// Report it.
    Internal,
}

/// Why the scheduler cannot start, or why a statement cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot use {}: {source}", path.display())]
    Store { path: PathBuf, source: std::io::Error },
    #[error("the record {key} in the data directory is damaged: {source}")]
    Record { key: String, source: serde_json::Error },
    #[error(
        "{place} does not contain a valid start count of the scheduler; write a number that is greater than every \
         earlier count and less than 8388608"
    )]
    Epoch { place: String },
    #[error("the scheduler has stopped: {0}; restart the scheduler")]
    Broken(&'static str),
    #[error("{message}")]
    Statement { kind: ErrorKind, message: String },
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("the scheduler is stopping")]
    Stopping,
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Statement { kind: ErrorKind::Invalid, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::Statement { kind: ErrorKind::NotFound, message: message.into() }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::Statement { kind: ErrorKind::Unsupported, message: message.into() }
    }

    /// The kind of the error. It decides the status that clients get.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Statement { kind, .. } => *kind,
            Self::Failed(failure) => match failure.kind {
                FailureKind::UserError => ErrorKind::Invalid,
                FailureKind::ResourcesExhausted => ErrorKind::ResourcesExhausted,
                FailureKind::Canceled => ErrorKind::Canceled,
                FailureKind::ExecutorLost
                | FailureKind::ExchangeLost { .. }
                | FailureKind::Unavailable
                | FailureKind::StoreUnavailable => ErrorKind::Unavailable,
                // A query that outgrows its plan gets a second plan, which has no row limit. So no statement fails
                // with `Outgrown`.
                FailureKind::Outgrown | FailureKind::Internal => ErrorKind::Internal,
            },
            Self::Stopping => ErrorKind::Unavailable,
            Self::Store { source, .. } if disk_failure(source) == FailureKind::ResourcesExhausted => {
                ErrorKind::ResourcesExhausted
            }
            Self::Store { .. } => ErrorKind::Unavailable,
            Self::Listen { .. } | Self::Record { .. } | Self::Epoch { .. } | Self::Broken(_) => ErrorKind::Internal,
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(classify(&error))
    }
}

/// The only place where the error of a statement becomes a status.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Invalid => Code::InvalidArgument,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Unauthenticated => Code::Unauthenticated,
            ErrorKind::Unsupported => Code::Unimplemented,
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::ResourcesExhausted => Code::ResourceExhausted,
            ErrorKind::Canceled => Code::Cancelled,
            ErrorKind::Internal => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
