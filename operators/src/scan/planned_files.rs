//! A query reads local files as they were at planning, or fails. Otherwise rows of a replacement would mix with rows
//! of the planned file.
//!
//! Each read is followed by a look at the file's size and time. If both are as planned, the bytes came from the
//! planned file.

use std::sync::Arc;

use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

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
    /// The entity tag of a file is part of its time ([`hwacha_storage::local_files`]). Two hosts may give different
    /// tags to one file. So the first check accepts the planned size and a time within one second of the planned
    /// time. Later checks accept only the time that the first check saw.
    pub(super) async fn check(&mut self) -> object_store::Result<()> {
        let now = self.store.head(&self.planned.location).await?;
        let apart = (now.last_modified - self.planned.last_modified).num_nanoseconds().map(i64::unsigned_abs);
        let allowed = if self.is_known { 0 } else { CLOCKS_APART_NANOS };
        if now.size != self.planned.size || apart.is_none_or(|apart| apart > allowed) {
            let source = "another file has taken its place".into();
            return Err(object_store::Error::Precondition { path: now.location.to_string(), source });
        }
        (self.planned, self.is_known) = (now, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;
    use hwacha_storage::local_files::LocalFiles;

    #[tokio::test]
    async fn a_file_in_anothers_place_is_noticed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("f");
        std::fs::write(&place, "old").expect("a file");
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFiles::default());
        let path = Path::from_absolute_path(&place).expect("a path");
        let planned = PlannedFile::new(Arc::clone(&store), store.head(&path).await.expect("it is there"));
        let mut reading = planned.clone();
        reading.check().await.expect("nothing has changed");
        std::fs::write(root.path().join("next"), "new").expect("a file");
        std::fs::rename(root.path().join("next"), &place).expect("it takes its place");
        let error = reading.check().await.expect_err("of the same size and almost the same time").to_string();
        assert!(error.contains("another file"), "{error}");
        std::fs::write(&place, "newer").expect("a file");
        planned.clone().check().await.expect_err("of another size");
    }
}
