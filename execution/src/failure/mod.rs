//! Turns errors of operators into failures. No other code does this. The kind of a failure depends only on the types
//! of the errors, never on their text.

mod blame;
mod errors;
mod root;

use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use hwacha_model::{Failure, FailureKind, TaskId};

pub use errors::{ExchangeReadError, FileError};
use root::Root;

/// The failure of an attempt that ended with an operator's error.
pub fn classify(error: &DataFusionError) -> Failure {
    let root = Root::of(error);
    Failure::new(root.kind(), root.message())
}

/// Whether the root of an error is a [`Failure`], which has a kind and a message for users. Stores return such errors.
pub fn is_explained(error: &DataFusionError) -> bool {
    matches!(Root::of(error), Root::Failure(_))
}

impl Root<'_> {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Exchange(error) => FailureKind::ExchangeLost { producer: error.producer },
            Self::Failure(failure) => failure.kind.clone(),
            Self::File(error) => match Root::of(&error.error) {
                Root::Io(error) if is_damage(error) => FailureKind::UserError,
                Root::Io(_) => FailureKind::Unavailable,
                root => root.kind(),
            },
            // Errors of table files are `File`, so other I/O errors come from spilling. A damaged spill file is not
            // read again: the next attempt writes its own.
            Self::Io(error) if is_damage(error) => FailureKind::Internal,
            Self::Io(error) => disk_failure(error),
            Self::Store(
                object_store::Error::NotFound { .. }
                | object_store::Error::PermissionDenied { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::Unauthenticated { .. },
            ) => FailureKind::UserError,
            Self::Store(_) => FailureKind::Unavailable,
            Self::Arrow(ArrowError::MemoryError(_)) => FailureKind::ResourcesExhausted,
            Self::Arrow(_) => FailureKind::UserError,
            Self::DataFusion(error) => match error {
                DataFusionError::ResourcesExhausted(_) => FailureKind::ResourcesExhausted,
                DataFusionError::ParquetError(_)
                | DataFusionError::SQL(..)
                | DataFusionError::NotImplemented(_)
                | DataFusionError::Plan(_)
                | DataFusionError::Configuration(_)
                | DataFusionError::SchemaError(..)
                | DataFusionError::Execution(_) => FailureKind::UserError,
                _ => FailureKind::Internal,
            },
        }
    }

    /// The message of the root error in one sentence, without the prefixes of the errors around it.
    fn message(&self) -> String {
        match self {
            Self::Exchange(error) => error.to_string(),
            Self::Failure(failure) => failure.message.clone(),
            Self::Io(error) => spill_message(error),
            Self::File(error) => {
                let cause = match Root::of(&error.error) {
                    // A file of a table, not a spill file.
                    Root::Io(error) => error.to_string(),
                    root => root.message(),
                };
                format!("the file {} cannot be read: {cause}", error.file)
            }
            Self::Store(object_store::Error::NotFound { path, .. }) => {
                format!("the file /{} does not exist", path.trim_start_matches('/'))
            }
            Self::Store(object_store::Error::Precondition { path, .. }) => {
                format!("the file /{} has changed since the query began; run it again", path.trim_start_matches('/'))
            }
            Self::Store(error) => error.to_string(),
            Self::Arrow(error) => error.to_string(),
            Self::DataFusion(error) => match error {
                DataFusionError::ParquetError(error) => error.to_string(),
                DataFusionError::SchemaError(error, _) => error.to_string(),
                DataFusionError::ResourcesExhausted(message) => memory_message(message),
                DataFusionError::Plan(message) => plan_message(message).to_owned(),
                DataFusionError::Execution(message) | DataFusionError::Configuration(message) => message.clone(),
                error => error.strip_backtrace(),
            },
        }
    }
}

/// If no signature of a function fits, DataFusion reports an internal error and asks the user to report it. The
/// useful part of the message comes after that.
fn plan_message(message: &str) -> &str {
    let remedy = message.find("No function matches").filter(|_| message.starts_with("Internal error"));
    &message[remedy.unwrap_or(0)..]
}

/// The root of an error, if the root is an I/O error.
pub fn io_cause(error: &DataFusionError) -> Option<&io::Error> {
    match Root::of(error) {
        Root::Io(error) => Some(error),
        _ => None,
    }
}

/// The failure kind of an I/O error in one of Hwacha's own files: `ResourcesExhausted` for a full disk or a reached
/// quota, else `Unavailable`, for example for too many open files.
pub fn disk_failure(error: &io::Error) -> FailureKind {
    match error.kind() {
        // DataFusion reports its spill quota as `ErrorKind::Other`.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Other => {
            FailureKind::ResourcesExhausted
        }
        _ => FailureKind::Unavailable,
    }
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// DataFusion's advice names its own settings, which the user of a cluster cannot reach. This message names the
/// executors' flags.
fn spill_message(error: &io::Error) -> String {
    let text = error.to_string();
    let cause = text.split(" Please try").next().unwrap_or_default().trim_end_matches('.');
    let remedy = match disk_failure(error) {
        FailureKind::ResourcesExhausted => "; give the executors more space with --spill-dir and --spill-limit",
        _ => "",
    };
    format!("a spill file could not be written or read: {cause}{remedy}")
}

/// DataFusion lists the largest consumers, one a line. The last line has the requested and the remaining bytes.
fn memory_message(message: &str) -> String {
    let cause = message.lines().last().unwrap_or_default();
    let cause = cause.strip_prefix("Error: ").unwrap_or(cause).trim_end_matches('.');
    format!("out of memory: {cause}; give the executors more with --memory-limit")
}

/// The failure of an attempt whose code panicked.
pub fn panicked(attempt: TaskId, panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Failure::new(FailureKind::Internal, format!("task {attempt} panicked: {text}; this is a bug"))
}

#[cfg(test)]
mod tests {
    use datafusion::parquet::errors::ParquetError;
    use hwacha_model::{QueryId, StageId, TaskIndex};

    use super::*;

    #[test]
    fn the_root_decides_whatever_is_wrapped_around_it() {
        let zero = DataFusionError::from(ArrowError::DivideByZero).context("evaluating a / b");
        assert_eq!(classify(&zero), Failure::new(FailureKind::UserError, "Divide by zero error"));

        let producer = TaskId { query: QueryId(1), stage: StageId(2), task: TaskIndex(3), attempt: 0 };
        let lost = DataFusionError::from(ExchangeReadError { producer, reason: "connection reset".into() });
        let shared = DataFusionError::Shared(std::sync::Arc::new(lost));
        assert_eq!(classify(&shared).kind, FailureKind::ExchangeLost { producer });

        let memory = DataFusionError::ResourcesExhausted("no memory".into()).context("join");
        assert_eq!(classify(&memory).kind, FailureKind::ResourcesExhausted);
    }

    #[test]
    fn what_ran_out_is_said_with_our_remedy() {
        let quota = std::io::Error::other("The limit is exceeded. Please try increasing the config: `x`.");
        assert_eq!(
            classify(&DataFusionError::from(ArrowError::from(quota))),
            Failure::new(
                FailureKind::ResourcesExhausted,
                "a spill file could not be written or read: The limit is exceeded; give the executors more space with --spill-dir and --spill-limit"
            )
        );
        let files = std::io::Error::from_raw_os_error(24);
        assert_eq!(
            classify(&DataFusionError::IoError(files)),
            Failure::new(
                FailureKind::Unavailable,
                "a spill file could not be written or read: Too many open files (os error 24)"
            )
        );
        let full = ParquetError::External(Box::new(std::io::Error::from_raw_os_error(28)));
        assert_eq!(classify(&full.into()).kind, FailureKind::ResourcesExhausted);
        let damaged = DataFusionError::IoError(std::io::ErrorKind::InvalidData.into());
        assert_eq!(classify(&damaged).kind, FailureKind::Internal, "it is tried again");
        let memory = "Additional allocation failed as:\n  Sort consumed 1 MB.\nError: Failed to allocate 1 MB for Sort";
        assert_eq!(
            classify(&DataFusionError::ResourcesExhausted(memory.into())).message,
            "out of memory: Failed to allocate 1 MB for Sort; give the executors more with --memory-limit"
        );
    }

    #[test]
    fn a_store_that_fails_is_not_the_users_fault_and_a_file_is() {
        let error = || object_store::Error::Generic { store: "S3", source: "503 Slow Down".into() };
        let within = DataFusionError::from(ParquetError::External(Box::new(error())));
        let named = FileError::blame("/a.parquet", "parquet", within);
        assert!(!FileError::is_in(&named), "the store names the file itself");
        assert_eq!(classify(&named).kind, FailureKind::Unavailable);

        let footer = FileError::blame("/a.parquet", "parquet", ParquetError::General("no footer".into()).into());
        assert_eq!(
            classify(&footer.context("scan")),
            Failure::new(FailureKind::UserError, "the file /a.parquet cannot be read: Parquet error: no footer")
        );
        let disk = FileError::blame("/a.csv", "csv", ArrowError::from(std::io::Error::other("bad sector")).into());
        assert_eq!(classify(&disk).kind, FailureKind::Unavailable);

        let locked = FileError::blame("/a.csv", "csv", std::io::Error::from_raw_os_error(13).into());
        assert_eq!(classify(&locked).kind, FailureKind::Unavailable);
        let cut = FileError::blame("/a.avro", "avro", std::io::Error::from(io::ErrorKind::UnexpectedEof).into());
        assert_eq!(classify(&cut).kind, FailureKind::UserError);

        let zero = FileError::blame("/a.parquet", "parquet", ArrowError::DivideByZero.into());
        assert!(!FileError::is_in(&zero), "an expression in the scan failed");
    }
}
