//! Reads of a remote file: joined where the store is faster so, and counted.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use hwacha_storage::{Usage, Whole};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, Result, coalesce_ranges};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that the partitions of one scan of one task may have read ahead, together (64 MiB: 8 row groups of 4 MB for
/// each of two partitions).
const AHEAD_BYTES: u64 = 64 << 20;
/// The unit of the budget in bytes (1 KiB), because a permit counts at most 4 billion.
const UNIT: u64 = 1024;

/// What the partitions of one scan of one task share if its files are remote.
#[derive(Clone, Debug)]
pub(super) struct RemoteReads {
    pub usage: Usage,
    /// `None` if nothing is read ahead.
    ahead: Option<Arc<Semaphore>>,
}

impl RemoteReads {
    /// Counts the requests among `metrics`. A scan with a limit (`is_limited`) reads nothing ahead.
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet, is_limited: bool) -> Self {
        let ahead = (!is_limited).then(|| Arc::new(Semaphore::new((AHEAD_BYTES / UNIT) as usize)));
        Self { usage: Usage::new(metrics), ahead }
    }

    /// A part of the budget for `bytes` that are read ahead; `None` if the budget is used up.
    pub(super) fn ahead(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(self.ahead.as_ref()?).try_acquire_many_owned(units).ok()
    }
}

/// The file is shorter than its footer says.
fn short(read: usize, wanted: u64) -> Error {
    let source = format!("the file ends too early: {read} bytes came instead of {wanted}").into();
    Error::Generic { store: "remote", source }
}

/// A remote file.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    pub store: Arc<dyn ObjectStore>,
    pub location: Path,
    pub reads: RemoteReads,
}

impl RemoteFile {
    /// The bytes of `ranges`, in their order. Ranges that are close to each other are read by one request.
    pub(super) async fn get(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let get = async |range: Range<u64>| {
            let length = range.end - range.start;
            let mut options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
            options.extensions.insert(Whole);
            let bytes = self.store.get_opts(&self.location, options).await?.bytes().await?;
            match bytes.len() as u64 == length {
                true => Ok(bytes),
                false => Err(short(bytes.len(), length)),
            }
        };
        coalesce_ranges(ranges, get, self.reads.usage.gap()).await
    }
}
