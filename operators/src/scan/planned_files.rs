//! A query reads files as they were at planning, or fails. Otherwise rows of a replacement would mix with rows
//! of the planned file.
//!
//! Each read of a local file is followed by a look at its size and time. If both are as planned, the bytes came from
//! the planned file. Reads of a remote file name its entity tag, and the store refuses them if the file has another one. A remote
//! file without such a tag is checked like a local one.

use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use futures::stream::BoxStream;
use hwacha_model::{Failure, FailureKind};
use hwacha_storage::Usage;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Nanoseconds by which the times of one file may differ between two hosts (1 s: the hash of the entity tag, which is
/// part of the time, is less than that; see [`PlannedFile::check`]).
const CLOCKS_APART_NANOS: u64 = 1_000_000_000;

/// A file that a plan names.
#[derive(Clone, Debug)]
pub(crate) struct PlannedFile {
    store: Arc<dyn ObjectStore>,
    planned: ObjectMeta,
    is_known: bool,
}

impl PlannedFile {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, planned: ObjectMeta) -> Self {
        Self { store, planned, is_known: false }
    }

    /// Fails if another file has taken its place.
    ///
    /// The entity tag of a file is part of its time (see the crate `hwacha_storage`). Two hosts may give different
    /// tags to one file. So the first check accepts the planned size and a time within one second of the planned
    /// time. Later checks accept only the time that the first check saw.
    pub(super) async fn check(&mut self) -> object_store::Result<()> {
        let now = self.store.head(&self.planned.location).await?;
        let apart = (now.last_modified - self.planned.last_modified).num_nanoseconds().map(i64::unsigned_abs);
        // Each look at a file without a tag and a time gives a new time in the first second of 1970.
        let has_time = self.planned.e_tag.is_some() || self.planned.last_modified.timestamp() != 0;
        let allowed = if self.is_known && has_time { 0 } else { CLOCKS_APART_NANOS };
        if now.size != self.planned.size || apart.is_none_or(|apart| apart > allowed) {
            let file = file_name(&self.store.to_string(), &now.location);
            let problem = format!("the file {file} has changed since the query began; run it again");
            let source = Box::new(Failure::new(FailureKind::UserError, problem));
            return Err(object_store::Error::Precondition { path: now.location.to_string(), source });
        }
        (self.planned, self.is_known) = (now, true);
        Ok(())
    }
}

/// The entity tag with which a request can ask for this very file. A weak tag (`W/"…"`) never matches such a request.
pub(super) fn strong_tag(file: &ObjectMeta) -> Option<&str> {
    file.e_tag.as_deref().filter(|tag| !tag.starts_with("W/"))
}

/// A remote store from which the files of a scan are read only while they have the entity tags that were planned. Its
/// reads are counted.
#[derive(Debug)]
pub(super) struct PlannedStore {
    store: Arc<dyn ObjectStore>,
    tags: HashMap<Path, String>,
    usage: Usage,
}

impl PlannedStore {
    pub(super) fn new(store: Arc<dyn ObjectStore>, files: &[FileGroup], usage: Usage) -> Self {
        let tag = |file: &PartitionedFile| {
            Some((file.object_meta.location.clone(), strong_tag(&file.object_meta)?.to_owned()))
        };
        Self { store, tags: files.iter().flat_map(FileGroup::iter).filter_map(tag).collect(), usage }
    }
}

impl Display for PlannedStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.store, f)
    }
}

#[async_trait]
impl ObjectStore for PlannedStore {
    /// Fails with `Precondition` if another file has taken the place of the planned one.
    async fn get_opts(&self, path: &Path, mut options: GetOptions) -> Result<GetResult> {
        options.if_match = self.tags.get(path).cloned().or(options.if_match);
        options.extensions.insert(self.usage.clone());
        self.store.get_opts(path, options).await
    }

    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// The name of a file for people: a path on this machine, or a URL. `store` is the URL of its store.
pub(super) fn file_name(store: &str, location: &Path) -> String {
    let store = store.strip_prefix("file://").unwrap_or(store);
    format!("{}/{location}", store.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
    use hwacha_storage::{Allowed, StorageConfig, Stores};
    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test]
    async fn a_file_in_anothers_place_is_noticed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("f");
        std::fs::write(&place, "old").expect("a file");
        let stores = Stores::new(StorageConfig::default(), Allowed::Everything, Handle::current());
        let store = stores.get_store(ObjectStoreUrl::local_filesystem().as_ref()).expect("local files have a store");
        let path = Path::from_absolute_path(&place).expect("a path");
        let planned = PlannedFile::new(Arc::clone(&store), store.head(&path).await.expect("it is there"));
        let mut reading = planned.clone();
        reading.check().await.expect("nothing has changed");
        std::fs::write(root.path().join("next"), "new").expect("a file");
        std::fs::rename(root.path().join("next"), &place).expect("it takes its place");
        let error = reading.check().await.expect_err("of the same size and almost the same time").to_string();
        let problem = format!("the file {} has changed since the query began; run it again", place.display());
        assert!(error.contains(&problem), "{error}");
        std::fs::write(&place, "newer").expect("a file");
        planned.clone().check().await.expect_err("of another size");
    }
}
