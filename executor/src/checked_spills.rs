//! Spill files of DataFusion's operators, with checksums: a bit that flips on the disk fails the task instead of
//! changing a sum.
//!
//! A file is a sequence of blocks. The writer keeps the checksum of each block in memory, also of the last block, which
//! still grows. The reader returns a block only after it has verified the checksum, because DataFusion decodes spill
//! files without validation.

use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use crc32fast::Hasher;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::{Stream, StreamExt, stream};

/// Bytes of a block, which has one checksum (64 KiB: half of the chunks that DataFusion reads).
const BLOCK_BYTES: usize = 64 << 10;

/// Makes files with checksums in the directory, and under the quota, of a disk manager.
pub(crate) struct CheckedSpills {
    disk: Arc<DiskManager>,
}

impl CheckedSpills {
    pub(crate) fn new(disk: Arc<DiskManager>) -> Self {
        Self { disk }
    }
}

impl TempFileFactory for CheckedSpills {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        Ok(Arc::new(CheckedFile { file: self.disk.create_tmp_file(description)?, sums: Arc::default() }))
    }
}

struct CheckedFile {
    file: Arc<dyn SpillFile>,
    sums: Arc<Mutex<Sums>>,
}

impl SpillFile for CheckedFile {
    fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    fn size(&self) -> Option<u64> {
        self.file.size()
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let reader = CheckedReader {
            chunks: self.file.read_stream()?,
            sums: Arc::clone(&self.sums),
            unverified: BytesMut::new(),
            blocks: 0,
            passed_bytes: 0,
            passed: Hasher::new(),
        };
        let next = |mut reader: CheckedReader| async { Ok(reader.next().await?.map(|bytes| (bytes, reader))) };
        Ok(stream::try_unfold(reader, next).boxed())
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(CheckedWriter { writer: self.file.open_writer()?, sums: Arc::clone(&self.sums) }))
    }
}

/// The checksums of the bytes that were written to a file.
#[derive(Default)]
struct Sums {
    /// Checksums of the complete blocks.
    blocks: Vec<u32>,
    /// Checksum of the last block, which is incomplete.
    last: Hasher,
    last_bytes: usize,
}

impl Sums {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (fitting, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.last_bytes));
            self.last.update(fitting);
            self.last_bytes += fitting.len();
            if self.last_bytes == BLOCK_BYTES {
                self.blocks.push(std::mem::take(&mut self.last).finalize());
                self.last_bytes = 0;
            }
            bytes = rest;
        }
    }

    /// How many bytes of a block have been written, and their checksum.
    fn block(&self, block: usize) -> (usize, u32) {
        match self.blocks.get(block) {
            Some(sum) => (BLOCK_BYTES, *sum),
            None => (self.last_bytes, self.last.clone().finalize()),
        }
    }
}

fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    // `add` does not panic, so the sums of a poisoned lock are valid.
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

struct CheckedWriter {
    writer: Box<dyn SpillWriter>,
    sums: Arc<Mutex<Sums>>,
}

impl Write for CheckedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        lock(&self.sums).add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl SpillWriter for CheckedWriter {
    fn finish(&mut self) -> Result<()> {
        self.writer.finish()
    }
}

struct CheckedReader {
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    sums: Arc<Mutex<Sums>>,
    /// Bytes that were read from the file and not verified yet.
    unverified: BytesMut,
    /// How many complete blocks were verified and returned.
    blocks: usize,
    /// Bytes of the current block that were returned before, when it was the last block and not complete.
    passed_bytes: usize,
    passed: Hasher,
}

impl CheckedReader {
    /// The next bytes of the file; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.verified()? {
                return Ok(Some(bytes));
            }
            match self.chunks.next().await {
                Some(chunk) => self.unverified.extend_from_slice(&chunk?),
                None if self.is_at_end() => return Ok(None),
                None => return Err(damaged()),
            }
        }
    }

    /// The rest of the current block, once all bytes that were written of it have been read. Example: of a block of
    /// 100 bytes, all 100 are verified and returned. The block then grows to 64 KiB, and the other 65,436 bytes are
    /// returned after the checksum of the whole block was verified.
    fn verified(&mut self) -> Result<Option<Bytes>> {
        let (written_bytes, sum) = lock(&self.sums).block(self.blocks);
        let left_bytes = written_bytes - self.passed_bytes;
        if left_bytes == 0 || self.unverified.len() < left_bytes {
            return Ok(None);
        }
        let bytes = self.unverified.split_to(left_bytes).freeze();
        self.passed.update(&bytes);
        if self.passed.clone().finalize() != sum {
            return Err(damaged());
        }
        self.passed_bytes = written_bytes;
        if written_bytes == BLOCK_BYTES {
            self.blocks += 1;
            self.passed_bytes = 0;
            self.passed = Hasher::new();
        }
        Ok(Some(bytes))
    }

    fn is_at_end(&self) -> bool {
        let sums = lock(&self.sums);
        self.unverified.is_empty() && (self.blocks, self.passed_bytes) == (sums.blocks.len(), sums.last_bytes)
    }
}

/// The error for damaged rows. It fails the attempt; the next attempt writes its own files.
pub(crate) fn damaged() -> DataFusionError {
    let problem = "the checksum of its rows does not match; check the disk of --spill-dir";
    DataFusionError::IoError(io::Error::new(io::ErrorKind::InvalidData, problem))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use datafusion::execution::disk_manager::DiskManagerBuilder;
    use futures::TryStreamExt;

    use super::*;

    fn file() -> Arc<dyn SpillFile> {
        let disk = DiskManagerBuilder::default().build().expect("a disk manager");
        CheckedSpills::new(Arc::new(disk)).create_temp_file("a test").expect("a file")
    }

    fn written(pieces: &[usize]) -> (Arc<dyn SpillFile>, Vec<u8>) {
        let file = file();
        let mut writer = file.open_writer().expect("a writer");
        let bytes: Vec<u8> = (0..pieces.iter().sum()).map(|n: usize| (n * 7 + n / 251) as u8).collect();
        let mut rest = bytes.as_slice();
        for piece in pieces {
            writer.write_all(&rest[..*piece]).expect("space");
            rest = &rest[*piece..];
        }
        (file, bytes)
    }

    async fn read(file: &Arc<dyn SpillFile>) -> Result<Vec<u8>> {
        let chunks: Vec<Bytes> = file.read_stream()?.try_collect().await?;
        Ok(chunks.concat())
    }

    fn open(file: &Arc<dyn SpillFile>) -> File {
        File::options().write(true).open(file.path().expect("a local file")).expect("the file")
    }

    #[tokio::test]
    async fn files_of_any_length_come_back() {
        for pieces in [&[][..], &[1], &[BLOCK_BYTES], &[10, BLOCK_BYTES, 0, 3 * BLOCK_BYTES], &[BLOCK_BYTES - 1, 1, 5]]
        {
            let (file, bytes) = written(pieces);
            assert!(read(&file).await.expect("whole") == bytes, "{pieces:?}");
            assert_eq!(file.size(), Some(bytes.len() as u64));
        }
    }

    #[tokio::test]
    async fn any_flipped_bit_is_noticed() {
        let (file, bytes) = written(&[10, 2 * BLOCK_BYTES, 77]);
        for position in [0, 9, BLOCK_BYTES - 1, BLOCK_BYTES, bytes.len() - 1] {
            open(&file).write_all_at(&[bytes[position] ^ 0x10], position as u64).expect("a write");
            let error = read(&file).await.expect_err("a block does not have its checksum");
            assert!(error.to_string().contains("checksum"), "{error}");
            open(&file).write_all_at(&bytes[position..=position], position as u64).expect("a write");
        }
        assert!(read(&file).await.expect("whole again") == bytes);
    }

    #[tokio::test]
    async fn a_file_that_was_cut_or_extended_is_noticed() {
        let (file, bytes) = written(&[2 * BLOCK_BYTES]);
        for length in [0, 100, BLOCK_BYTES, 2 * BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 1] {
            open(&file).set_len(length as u64).expect("a change");
            read(&file).await.expect_err("not what was written");
            open(&file).write_all_at(&bytes, 0).expect("a write");
        }
    }

    #[tokio::test]
    async fn a_reader_follows_the_writer() {
        let file = file();
        let mut writer = file.open_writer().expect("a writer");
        let mut chunks = file.read_stream().expect("a reader");
        for _ in 0..3 {
            let piece = vec![7; BLOCK_BYTES / 2 + 1];
            writer.write_all(&piece).expect("space");
            let mut read = 0;
            while read < piece.len() {
                read += chunks.try_next().await.expect("not damaged").expect("not at the end").len();
            }
            assert_eq!(read, piece.len());
        }
    }
}
