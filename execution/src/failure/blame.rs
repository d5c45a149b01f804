//! Errors of a scan that name the file.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::errors::FileError;
use super::root::Root;

impl FileError {
    /// Names the file in `error` if the file is at fault. Scans also compute expressions, and a failing expression is
    /// not the file's fault. Errors of object stores already name the file.
    pub fn blame(file: &str, file_type: &str, error: DataFusionError) -> DataFusionError {
        let of_the_file = match Root::of(&error) {
            Root::Arrow(error) => match error {
                ArrowError::CsvError(_)
                | ArrowError::JsonError(_)
                | ArrowError::AvroError(_)
                | ArrowError::IpcError(_)
                | ArrowError::ParquetError(_) => true,
                ArrowError::ParseError(_) | ArrowError::CastError(_) => matches!(file_type, "csv" | "json"),
                _ => false,
            },
            Root::DataFusion(error) => matches!(error, DataFusionError::ParquetError(_)),
            Root::Io(_) => true,
            Root::Exchange(_) | Root::Failure(_) | Root::File(_) | Root::Store(_) => false,
        };
        match of_the_file {
            true => Self { file: file.to_owned(), error }.into(),
            false => error,
        }
    }

    /// Whether the root of `error` names a file.
    pub fn is_in(error: &DataFusionError) -> bool {
        matches!(Root::of(error), Root::File(_))
    }
}
