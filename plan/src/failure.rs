//! Sorts errors of operators into failures. The only place that does; it looks at types, never at text.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use hwacha_model::{Failure, FailureKind, TaskId};

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

/// What an operator's error means for its attempt.
pub fn classify(error: &DataFusionError) -> Failure {
    let root = error.find_root();
    if let DataFusionError::External(source) = root
        && let Some(lost) = source.downcast_ref::<ExchangeReadError>()
    {
        return Failure::new(FailureKind::ExchangeLost { producer: lost.producer }, lost.to_string());
    }
    Failure::new(kind(root), message(root))
}

fn kind(error: &DataFusionError) -> FailureKind {
    match error {
        DataFusionError::ResourcesExhausted(_) => FailureKind::ResourcesExhausted,
        // Files of tables are read through the object store; plain I/O errors come from spilling.
        DataFusionError::IoError(_) => FailureKind::ResourcesExhausted,
        DataFusionError::ObjectStore(error) => match error.as_ref() {
            object_store::Error::NotFound { .. }
            | object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => FailureKind::UserError,
            _ => FailureKind::Unavailable,
        },
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::MemoryError(_) => FailureKind::ResourcesExhausted,
            ArrowError::IoError(..) => FailureKind::ResourcesExhausted,
            _ => FailureKind::UserError,
        },
        DataFusionError::ParquetError(_)
        | DataFusionError::SQL(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Plan(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Execution(_) => FailureKind::UserError,
        _ => FailureKind::Internal,
    }
}

/// The innermost message, without the wrappers' prefixes.
fn message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::ParquetError(error) => error.to_string(),
        DataFusionError::ObjectStore(error) => match error.as_ref() {
            object_store::Error::NotFound { path, .. } => {
                format!("the file /{} does not exist", path.trim_start_matches('/'))
            }
            error => error.to_string(),
        },
        DataFusionError::IoError(error) => format!(
            "a spill file could not be written or read: {error}; give the executors more space with --spill-dir and --spill-limit"
        ),
        DataFusionError::SchemaError(error, _) => error.to_string(),
        DataFusionError::ResourcesExhausted(message) => message.clone(),
        DataFusionError::Execution(message) | DataFusionError::Plan(message) => message.clone(),
        error => error.strip_backtrace(),
    }
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
}
