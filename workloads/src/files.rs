//! Writes generated tables as Parquet files. A file that exists in the directory is not written again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// Maximum rows of a row group. It is small enough that several tasks can share the scan of a table.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Minimum rows of a row group. Between minimum and maximum, the size is proportional to the scale. So small data has
/// as many row groups as data at scale 1, and gets similar plans.
const MIN_ROW_GROUP_ROWS: usize = 16 * 1024;
/// Name of the file that holds the scale of a directory's tables.
const SCALE: &str = "scale";
/// Rows of a batch that a generator returns.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Why data cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Parquet { path: PathBuf, source: ParquetError },
    #[error("no data at scale {scale}: {reason}")]
    Scale { scale: f64, reason: String },
    #[error("{} holds tables of scale {found}, not of {wanted}; name another directory, or delete this one", directory.display())]
    OtherScale { directory: PathBuf, found: String, wanted: f64 },
}

/// A table that can be generated.
pub(crate) struct Rows {
    pub schema: SchemaRef,
    pub batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
}

/// The file of a table.
pub fn path(directory: &Path, table: &str) -> PathBuf {
    directory.join(format!("{table}.parquet"))
}

/// The statement that creates a table over a Parquet file.
pub fn create_external_table(table: &str, file: &Path) -> String {
    format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}'", file.display())
}

/// Creates the directory for tables of one scale, if it does not exist. Fails if it has tables of another or unknown
/// scale.
pub(crate) fn create_directory(directory: &Path, scale: f64) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| Error::Io { path: directory.to_owned(), source })?;
    let path = directory.join(SCALE);
    match fs::read_to_string(&path) {
        Ok(found) if found == scale.to_string() => Ok(()),
        Ok(found) => Err(Error::OtherScale { directory: directory.to_owned(), found, wanted: scale }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match has_tables(directory) {
            true => {
                Err(Error::OtherScale { directory: directory.to_owned(), found: "unknown".to_owned(), wanted: scale })
            }
            false => fs::write(&path, scale.to_string()).map_err(|source| Error::Io { path, source }),
        },
        Err(source) => Err(Error::Io { path, source }),
    }
}

fn has_tables(directory: &Path) -> bool {
    let is_table = |path: PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
    fs::read_dir(directory)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_table(entry.path()))))
}

/// Writes a table's file if it does not exist. From scale 1 on, row groups have the maximum size. `progress` gets the
/// row count of each written batch.
pub(crate) fn write(
    directory: &Path,
    table: &str,
    scale: f64,
    rows: impl FnOnce() -> Rows,
    progress: impl Fn(u64),
) -> Result<(), Error> {
    let path = path(directory, table);
    if path.exists() {
        return Ok(());
    }
    let staged = path.with_extension("staged");
    write_file(&staged, rows(), row_group_rows(scale), progress)
        .map_err(|source| Error::Parquet { path: staged.clone(), source })?;
    fs::rename(&staged, &path).map_err(|source| Error::Io { path, source })
}

fn row_group_rows(scale: f64) -> usize {
    ((ROW_GROUP_ROWS as f64 * scale) as usize).clamp(MIN_ROW_GROUP_ROWS, ROW_GROUP_ROWS)
}

fn write_file(path: &Path, rows: Rows, row_group_rows: usize, progress: impl Fn(u64)) -> Result<(), ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(row_group_rows))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, rows.schema, Some(properties))?;
    for batch in rows.batches {
        let batch = batch?;
        writer.write(&batch)?;
        progress(batch.num_rows() as u64);
    }
    writer.into_inner()?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_tables_of_one_scale() {
        let directory = std::env::temp_dir().join(format!("hwacha-scale-{}", std::process::id()));
        let told = |scale| create_directory(&directory, scale).map_err(|error| error.to_string());
        assert_eq!([told(0.5), told(0.5)], [Ok(()), Ok(())]);
        assert!(told(1.0).is_err_and(|error| error.contains("of scale 0.5, not of 1;")));
        fs::write(directory.join("t.parquet"), "").expect("it can be written");
        assert_eq!(told(0.5), Ok(()));
        fs::remove_file(directory.join(SCALE)).expect("it is there");
        assert!(told(0.5).is_err_and(|error| error.contains("of scale unknown")));
        fs::remove_dir_all(&directory).expect("it is there");
    }
}
