//! Append-only files of spilled batches with checksums, within the executor's spill quota. An output has one file; a
//! result begins a new one after each 64 MiB.

use std::fs::File;
use std::io::{Cursor, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use hwacha_operators::sendable::sendable;

use crate::checked_spills::damaged;

/// The position of a batch in its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    offset: u64,
    length: usize,
    checksum: u32,
}

impl Extent {
    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.length as u64
    }
}

/// A spill file; deleted, and its quota given back, when the last reference is dropped.
pub(crate) struct ExchangeSpill {
    file: Arc<dyn SpillFile>,
    writer: Box<dyn SpillWriter>,
    reader: Arc<File>,
    end: u64,
    /// Whether a write has failed. Then the end of the file is unknown, because a part may have been written.
    has_failed: bool,
}

impl std::fmt::Debug for ExchangeSpill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExchangeSpill").field("path", &self.file.path()).field("end", &self.end).finish()
    }
}

impl ExchangeSpill {
    pub(crate) fn create(disk: &Arc<DiskManager>) -> Result<Self> {
        let file = disk.create_tmp_file("exchange")?;
        let path = file.path().ok_or_else(|| internal_datafusion_err!("spill files need a local directory"))?;
        let reader = Arc::new(File::open(path)?);
        let writer = file.open_writer()?;
        Ok(Self { file, writer, reader, end: 0, has_failed: false })
    }

    /// Appends a batch as an Arrow IPC stream. After an error, the batches that were written before stay readable, and
    /// nothing more is written.
    pub(crate) fn append(&mut self, batch: &RecordBatch) -> Result<Extent> {
        if self.has_failed {
            return Err(std::io::Error::other("a write to this spill file failed before").into());
        }
        let mut bytes = Vec::with_capacity(batch.get_array_memory_size() + 1024);
        let batch = sendable(batch.clone())?;
        let mut encoder = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        encoder.write(&batch)?;
        encoder.finish()?;
        drop(encoder);
        let extent = Extent { offset: self.end, length: bytes.len(), checksum: crc32fast::hash(&bytes) };
        self.writer.write_all(&bytes).inspect_err(|_| self.has_failed = true)?;
        self.end += bytes.len() as u64;
        Ok(extent)
    }

    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    /// A handle that reads extents on any thread.
    pub(crate) fn reader(&self) -> SpillReader {
        SpillReader { file: Arc::clone(&self.reader), keep: Arc::clone(&self.file) }
    }
}

/// Reads extents of a spill file and keeps it from being deleted.
#[derive(Clone)]
pub(crate) struct SpillReader {
    file: Arc<File>,
    keep: Arc<dyn SpillFile>,
}

impl std::fmt::Debug for SpillReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpillReader").field("path", &self.keep.path()).finish()
    }
}

impl SpillReader {
    /// Reads a batch back; the checksum is verified before anything is decoded.
    pub(crate) fn read(&self, extent: Extent) -> Result<RecordBatch> {
        let mut bytes = vec![0; extent.length];
        self.file.read_exact_at(&mut bytes, extent.offset)?;
        if crc32fast::hash(&bytes) != extent.checksum {
            return Err(damaged());
        }
        let mut batches = StreamReader::try_new(Cursor::new(bytes), None)?;
        match batches.next() {
            Some(batch) => Ok(batch?),
            None => Err(DataFusionError::IoError(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use datafusion::execution::disk_manager::DiskManagerBuilder;

    use super::*;

    fn batch(from: i64) -> RecordBatch {
        let numbers: Int64Array = (from..from + 100).collect();
        let words = StringArray::from_iter_values((from..from + 100).map(|number| format!("word {number}")));
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("w", Arc::new(words) as _)]).expect("a batch")
    }

    #[test]
    fn batches_come_back_in_any_order() {
        let disk = Arc::new(DiskManagerBuilder::default().build().expect("a disk manager"));
        let mut spill = ExchangeSpill::create(&disk).expect("a file");
        let first = spill.append(&batch(0)).expect("space");
        let second = spill.append(&batch(500)).expect("space");
        let reader = spill.reader();
        assert_eq!(reader.read(second).expect("a batch"), batch(500));
        assert_eq!(reader.read(first).expect("a batch"), batch(0));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let disk = Arc::new(DiskManagerBuilder::default().build().expect("a disk manager"));
        let mut spill = ExchangeSpill::create(&disk).expect("a file");
        let extent = spill.append(&batch(0)).expect("space");
        let file = File::options().write(true).open(spill.file.path().expect("a path")).expect("the file");
        file.write_all_at(&[0xff], 300).expect("a write");
        let error = spill.reader().read(extent).expect_err("the checksum differs");
        assert!(error.to_string().contains("checksum"), "{error}");
    }

    #[test]
    fn the_quota_is_kept_and_given_back() {
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(4096).build().expect("a disk manager");
        let disk = Arc::new(disk);
        let mut spill = ExchangeSpill::create(&disk).expect("a file");
        let error = (0..100).find_map(|from| spill.append(&batch(from)).err()).expect("the quota is small");
        assert!(matches!(error, DataFusionError::IoError(_)), "{error}");
        drop(spill);
        assert_eq!(disk.used_disk_space(), 0);
    }
}
