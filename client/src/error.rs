//! Errors as users of the library see them.

use tonic::{Code, Status};

/// The action that an error asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Correct the statement or the URL.
    Invalid,
    /// Connect again: the server does not know this session any more.
    Unauthenticated,
    /// Try again later.
    Unavailable,
    /// Ask for less, or give the servers more.
    ResourcesExhausted,
    /// Nothing: a user canceled the query.
    Canceled,
    /// Report it.
    Internal,
}

/// An error: the action that it asks of the caller, one sentence for users, and its cause.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into(), source: None }
    }

    pub(crate) fn internal(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { kind: ErrorKind::Internal, message: source.to_string(), source: Some(Box::new(source)) }
    }
}

impl Error {
    /// The error for a failed call to the server at `address`. A status with a source does not come from the server: it
    /// was made in this process because the transport failed. Its text does not help users, so the message names the
    /// address instead.
    pub(crate) fn from_server(address: &str, status: Status) -> Self {
        if std::error::Error::source(&status).is_none() {
            return Self::from(status);
        }
        let message = format!(
            "the connection to the scheduler at {address} was lost, and the statement may or may not have taken \
             effect; check that before you run it again"
        );
        Self { kind: ErrorKind::Unavailable, message, source: Some(Box::new(status)) }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::OutOfRange => ErrorKind::Invalid,
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::Unavailable | Code::DeadlineExceeded => ErrorKind::Unavailable,
            Code::ResourceExhausted => ErrorKind::ResourcesExhausted,
            Code::Cancelled => ErrorKind::Canceled,
            _ => ErrorKind::Internal,
        };
        Self { kind, message: status.message().to_owned(), source: Some(Box::new(status)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let error = Error::from(Status::not_found("table \"t\" does not exist"));
        assert_eq!((error.kind, error.to_string().as_str()), (ErrorKind::Invalid, "table \"t\" does not exist"));
        assert_eq!(Error::from(Status::unavailable("gone")).kind, ErrorKind::Unavailable);
        assert_eq!(Error::from(Status::data_loss("odd")).kind, ErrorKind::Internal);
    }

    #[test]
    fn a_broken_transport_names_the_server() {
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        let error = Error::from_server("host:1", broken);
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains("host:1"), "{error}");
        assert_eq!(Error::from_server("host:1", Status::not_found("no table")).message, "no table");
    }
}
