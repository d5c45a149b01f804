//! Local files. Their bytes are read into memory of the calling thread.
//!
//! A file is read on one of many blocking threads. If these threads allocated the buffers, each of them would keep
//! some of the memory that other threads free. So the calling thread allocates the buffers. They are not cleared,
//! because the file fills them.

use std::fmt::{Display, Formatter};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::listing::{tagged, visible, visible_level};

/// The URL of the store.
const URL: &str = "file://";

/// The store of `file://`.
#[derive(Debug, Default)]
pub(crate) struct LocalFiles(LocalFileSystem);

/// The URL of the store.
impl Display for LocalFiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(URL)
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
        // The inner store reads the ranges again and reports the error.
        self.0.get_ranges(location, ranges).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.0.get_opts(location, options).await?;
        Ok(GetResult { meta: tagged(found.meta, URL), ..found })
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
        visible(self.0.list(prefix), prefix, URL)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        visible(self.0.list_with_offset(prefix, offset), prefix, URL)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        Ok(visible_level(self.0.list_with_delimiter(prefix).await?, prefix, URL))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

/// A buffer for a part of a file; `None` if there is not enough memory or the range ends before it starts.
fn room(range: &Range<u64>) -> Option<Vec<u8>> {
    let mut buffer = vec![];
    buffer.try_reserve_exact(range.end.checked_sub(range.start)? as usize).ok()?;
    Some(buffer)
}

/// Fills each buffer with its part of the file.
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

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn listings_leave_out_names_that_are_no_files_of_a_table() {
        let root = tempfile::tempdir().expect("a temporary directory");
        // Hidden names of the listed directory itself, and of those above it, do not matter.
        let table = root.path().join("_t");
        for name in ["a.parquet", "_SUCCESS", ".a.parquet.crc", "_delta_log/0.json", "d/b.parquet", "_y=1/c.parquet"] {
            let file = table.join(name);
            std::fs::create_dir_all(file.parent().expect("it has one")).expect("a directory");
            std::fs::write(file, "x").expect("a file");
        }
        let prefix = Path::from_absolute_path(&table).expect("a path");
        let files = LocalFiles::default();
        let listed: Vec<_> = files.list(Some(&prefix)).try_collect().await.expect("it is listed");
        let name = |path: &Path| path.as_ref().trim_start_matches(prefix.as_ref()).to_owned();
        let mut names: Vec<_> = listed.iter().map(|file| name(&file.location)).collect();
        names.sort();
        assert_eq!(names, ["/_y=1/c.parquet", "/a.parquet", "/d/b.parquet"]);
        let listed = files.list_with_delimiter(Some(&prefix)).await.expect("it is listed");
        let mut folders: Vec<_> = listed.common_prefixes.iter().map(name).collect();
        folders.sort();
        assert_eq!((listed.objects.len(), folders), (1, vec!["/_y=1".to_owned(), "/d".to_owned()]));
        let named = Path::from_iter(prefix.parts().chain(["_SUCCESS".into()]));
        let read = files.get_ranges(&named, std::slice::from_ref(&(0..1))).await.expect("by its name");
        assert_eq!(read, [Bytes::from_static(b"x")]);
    }
}
