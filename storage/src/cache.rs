//! Keeps parts of remote files on a local disk, so that a query that reads them again does not ask the store.
//!
//! A block is 256 KiB of one file. Its key is the file's location and entity tag and its number, so a block of a
//! replaced file is never found again. Blocks survive a restart.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Seek, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode,
};
use futures::future::{join_all, try_join_all};
use object_store::Result;

use crate::usage::Usage;

/// Bytes of a block (256 KiB). Reads are widened to whole blocks: at most two more blocks for a read of a row group's
/// columns, which has some megabytes.
const BLOCK_BYTES: u64 = 1 << 18;
/// Bytes of blocks in memory (64 MiB).
const MEMORY_BYTES: usize = 64 << 20;
/// Fewest bytes of a cache (256 MiB: 16 files).
const LEAST_BYTES: u64 = 256 << 20;
/// Fewest bytes of a file (16 MiB) and most files (128). All files are open.
const FILES: (u64, u64) = (16 << 20, 128);
/// Percent of a volume's free bytes that the cache takes unless told otherwise (20). Spill files take the other 80.
const SHARE_PERCENT: u64 = 20;
/// The folder's prefix. The rest of its name is the size of its files.
const FOLDER: &str = "blocks-of-";

/// A cache of blocks in a folder that no other process uses.
#[derive(Debug)]
pub struct BlockCache {
    blocks: HybridCache<String, Bytes>,
    identity: u64,
    /// Whether the disk has failed.
    is_broken: AtomicBool,
    _lock: File,
}

impl BlockCache {
    /// Opens the cache in `folder`, which is made if it is not there. It takes `limit` bytes, or 20 % of the space that
    /// is free. Its files are read and written by the threads of the current runtime.
    ///
    /// # Errors
    ///
    /// A sentence if the folder cannot be written, another process uses it, or `limit` does not fit.
    pub async fn open(folder: &Path, limit: Option<u64>) -> std::result::Result<Self, String> {
        let problem = |problem: String| format!("the cache directory {} cannot be used: {problem}", folder.display());
        let failed = |error: std::io::Error| problem(error.to_string());
        fs::create_dir_all(folder).map_err(failed)?;
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join("lock"))
            .map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                problem("another executor uses it; give each executor a directory of its own".to_owned())
            }
            TryLockError::Error(error) => failed(error),
        })?;
        let identity = identity(&mut lock).map_err(failed)?;
        let volume = rustix::fs::statvfs(folder).map_err(|error| failed(error.into()))?;
        let free = volume.f_bavail.saturating_mul(volume.f_frsize).saturating_add(taken(folder));
        let limit = limit.unwrap_or(free / 100 * SHARE_PERCENT);
        if limit > free {
            return Err(problem(format!(
                "it has {} MiB free, not {}; give a smaller --cache-limit",
                free >> 20,
                limit >> 20
            )));
        }
        if limit < LEAST_BYTES {
            return Err(problem(format!(
                "a cache of {} MiB is too small; give at least {} with --cache-limit",
                limit >> 20,
                LEAST_BYTES >> 20
            )));
        }
        let blocks = open(folder, limit).await.map_err(|error| problem(error.to_string()))?;
        Ok(Self { blocks, identity, is_broken: AtomicBool::new(false), _lock: lock })
    }

    /// A number that identifies the cache, also after a restart.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The bytes `range` of the file that `file` identifies. What is missing is read by `read`, in whole blocks.
    pub(crate) async fn get<F: Future<Output = Result<Bytes>>>(
        &self,
        file: &str,
        range: Range<u64>,
        usage: &Usage,
        read: impl Fn(Range<u64>) -> F,
    ) -> Result<Bytes> {
        let numbers = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        let key = |number: u64| format!("{file} {number}");
        let mut blocks = join_all(numbers.clone().map(|number| self.find(key(number)))).await;
        usage.add_cached(blocks.iter().flatten().map(Bytes::len).sum());

        let first = numbers.start;
        let missing = try_join_all(runs(&blocks).into_iter().map(|run| {
            let bytes = (first + run.start as u64) * BLOCK_BYTES..(first + run.end as u64) * BLOCK_BYTES;
            let read = read(bytes);
            async move { Ok::<_, object_store::Error>((run, read.await?)) }
        }));
        for (run, bytes) in missing.await? {
            for (place, index) in run.enumerate() {
                let start = bytes.len().min(place * BLOCK_BYTES as usize);
                let block = bytes.slice(start..bytes.len().min(start + BLOCK_BYTES as usize));
                self.keep(key(first + index as u64), &block);
                blocks[index] = Some(block);
            }
        }
        let start = (range.start - first * BLOCK_BYTES) as usize;
        let blocks: Vec<Bytes> = blocks.into_iter().flatten().collect();
        let whole = match &blocks[..] {
            [block] => block.clone(),
            _ => blocks
                .iter()
                .fold(BytesMut::with_capacity(blocks.len() * BLOCK_BYTES as usize), |mut whole, block| {
                    whole.extend_from_slice(block);
                    whole
                })
                .freeze(),
        };
        let end = whole.len().min(start + (range.end - range.start) as usize);
        Ok(whole.slice(start.min(end)..end))
    }

    async fn find(&self, key: String) -> Option<Bytes> {
        if self.is_broken.load(Ordering::Relaxed) {
            return None;
        }
        match self.blocks.get(&key).await {
            Ok(found) => found.map(|entry| entry.value().clone()),
            Err(error) => {
                if !self.is_broken.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the cache directory cannot be read; the cache is off until the next start");
                }
                None
            }
        }
    }

    fn keep(&self, key: String, block: &Bytes) {
        if !self.is_broken.load(Ordering::Relaxed) {
            // The block is a part of a larger answer, which would stay in memory.
            self.blocks.insert(key, Bytes::copy_from_slice(block));
        }
    }
}

/// The number in the file `lock`, which gets one at random if it has none.
fn identity(lock: &mut File) -> std::io::Result<u64> {
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    if let Ok(identity) = u64::from_str_radix(text.trim(), 16) {
        return Ok(identity);
    }
    let identity = RandomState::new().build_hasher().finish();
    lock.rewind()?;
    lock.set_len(0)?;
    write!(lock, "{identity:016x}")?;
    Ok(identity)
}

/// The cache in files below `folder`.
async fn open(folder: &Path, limit: u64) -> foyer::Result<HybridCache<String, Bytes>> {
    let file_bytes = FILES.0.max((limit / FILES.1).next_multiple_of(1 << 20));
    // Files of another size have other blocks.
    let own = format!("{FOLDER}{file_bytes}");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(FOLDER) && name != own) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let device = FsDeviceBuilder::new(folder.join(own)).with_capacity(limit as usize).build()?;
    HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(MEMORY_BYTES)
        .with_weighter(|key: &String, block: &Bytes| key.len() + block.len())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(BlockEngineConfig::new(device).with_block_size(file_bytes as usize))
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
}

/// Bytes on the disk of files that a cache in `folder` has already.
fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// The runs of missing blocks.
fn runs(blocks: &[Option<Bytes>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    for missing in (0..blocks.len()).filter(|index| blocks[*index].is_none()) {
        match runs.last_mut() {
            Some(run) if run.end == missing => run.end += 1,
            _ => runs.push(missing..missing + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;

    use super::*;

    /// The bytes of `range` of a file of `size` bytes, which may be asked for beyond its end.
    fn part(size: u64, range: Range<u64>) -> Bytes {
        (range.start..range.end.min(size)).map(|place| (place % 251) as u8).collect()
    }

    #[tokio::test]
    async fn only_missing_blocks_are_read_and_blocks_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let usage = Usage::new(&ExecutionPlanMetricsSet::new());
        let size = 5 * BLOCK_BYTES + 1000;
        let asked = Mutex::new(vec![]);
        let read = |range: Range<u64>| {
            asked.lock().expect("no panic").push(range.start / BLOCK_BYTES..range.end / BLOCK_BYTES);
            std::future::ready(Ok(part(size, range)))
        };
        let taken = || std::mem::take(&mut *asked.lock().expect("no panic"));

        let cache = BlockCache::open(folder.path(), Some(LEAST_BYTES)).await.expect("it can be written");
        let other = BlockCache::open(folder.path(), None).await.expect_err("it is in use");
        assert!(other.contains("another executor uses it"), "{other}");
        for range in [BLOCK_BYTES + 5..2 * BLOCK_BYTES + 7, 10..size - 3, size - 900..size] {
            let bytes = cache.get("a tag", range.clone(), &usage, read).await.expect("it is read");
            assert_eq!(bytes, part(size, range));
        }
        assert_eq!(taken(), [1..3, 0..1, 3..6]);
        let replaced = cache.get("a new-tag", 0..10, &usage, read).await.expect("it is read");
        assert_eq!(replaced, part(size, 0..10));
        assert_eq!(taken().len(), 1);

        let identity = cache.identity();
        cache.blocks.close().await.expect("it is written");
        drop(cache);
        let cache = BlockCache::open(folder.path(), Some(LEAST_BYTES)).await.expect("it can be written");
        assert_eq!(cache.identity(), identity);
        let bytes = cache.get("a tag", 10..size, &usage, read).await.expect("it is read");
        assert_eq!(bytes, part(size, 10..size));
        assert_eq!(taken(), []);
    }

    #[tokio::test]
    async fn folders_that_cannot_be_used_are_refused_in_a_sentence() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let refused = |limit| BlockCache::open(folder.path(), limit);
        let error = refused(Some(1 << 60)).await.expect_err("it does not fit");
        assert!(error.contains("give a smaller --cache-limit"), "{error}");
        let error = refused(Some(1000)).await.expect_err("it is too small");
        assert!(error.contains("give at least 256 with --cache-limit"), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let error = BlockCache::open(&file, None).await.expect_err("it is no folder");
        assert!(error.contains("cannot be used"), "{error}");
    }
}
