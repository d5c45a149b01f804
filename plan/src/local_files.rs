//! Local files, told apart by their entity tags, and read into memory that belongs to the thread that asks for it.
//!
//! DataFusion's caches know a file again by its path, size and time, and so do the plans that it encodes. A file can take
//! another's place and have its size and time: archives and copies keep times. So each file's tag, which has its inode, is
//! part of its time here, and with it reaches all caches of footers and statistics, the executors' too.
//!
//! A file is read on one of many threads that may wait for a disk. Were buffers made there, each of those threads would keep
//! some of the memory that others have freed, and a buffer that the file fills need not be cleared before.

use std::fmt::{Display, Formatter};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The store of `file://`.
#[derive(Debug, Default)]
pub struct LocalFiles(LocalFileSystem);

impl LocalFiles {
    /// Has all local files read this way.
    pub fn register(runtime: &RuntimeEnv) {
        runtime.register_object_store(ObjectStoreUrl::local_filesystem().as_ref(), Arc::new(Self::default()));
    }
}

impl Display for LocalFiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for LocalFiles {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let path = self.0.path_to_filesystem(location)?;
        let buffers: Option<Vec<_>> = ranges.iter().map(|range| Some((range.clone(), room(range)?))).collect();
        if let Some(buffers) = buffers
            && let Ok(Ok(read)) = tokio::task::spawn_blocking(move || read(&path, buffers)).await
        {
            return Ok(read);
        }
        // What is wrong is told by the store itself.
        self.0.get_ranges(location, ranges).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.0.get_opts(location, options).await?;
        Ok(GetResult { meta: tagged(found.meta), ..found })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix).map_ok(tagged).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset).map_ok(tagged).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.0.list_with_delimiter(prefix).await?;
        Ok(ListResult { objects: listed.objects.into_iter().map(tagged).collect(), ..listed })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

/// A file whose time tells its tag: it is later by less than a second, according to the tag.
fn tagged(mut file: ObjectMeta) -> ObjectMeta {
    if let Some(tag) = &file.e_tag {
        let mut hasher = DefaultHasher::new();
        tag.hash(&mut hasher);
        file.last_modified += Duration::from_nanos(hasher.finish() % NANOS_PER_SECOND);
    }
    file
}

/// A buffer for a part of a file; `None` where there is no room for so much, or it ends before it starts.
fn room(range: &Range<u64>) -> Option<Vec<u8>> {
    let mut buffer = vec![];
    buffer.try_reserve_exact(range.end.checked_sub(range.start)? as usize).ok()?;
    Some(buffer)
}

/// Fills buffers, each with a part of the file.
fn read(path: &path::Path, buffers: Vec<(Range<u64>, Vec<u8>)>) -> io::Result<Vec<Bytes>> {
    let mut file = File::open(path)?;
    let filled = buffers.into_iter().map(|(range, mut buffer)| {
        let bytes = range.end - range.start;
        file.seek(SeekFrom::Start(range.start))?;
        match Read::by_ref(&mut file).take(bytes).read_to_end(&mut buffer)? as u64 == bytes {
            true => Ok(Bytes::from(buffer)),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    });
    filled.collect()
}
