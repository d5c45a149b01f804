//! The directories of tables that `CREATE TABLE` wrote.
//!
//! Each directory has a marker file, so the server never deletes a directory of another program. The files are
//! deleted when the table is no longer defined and the last plan that reads them has been dropped.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

/// The marker file of the server's own directories. Listings of tables skip it.
const MARK: &str = "_hwacha_table";

/// One table's directory. Dropping the last reference deletes the directory, unless a table in the catalog owns it.
#[derive(Debug)]
pub(crate) struct TableDirectory {
    path: PathBuf,
    is_owned: AtomicBool,
}

impl TableDirectory {
    /// Makes a new directory, which no table owns yet.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&path)?;
        std::fs::File::create_new(path.join(MARK))?.sync_all()?;
        Ok(Self { path, is_owned: AtomicBool::new(false) })
    }

    /// The directory of a table that is in the catalog.
    pub(super) fn of_table(path: PathBuf) -> Self {
        Self { path, is_owned: AtomicBool::new(true) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets whether a table in the catalog owns the directory.
    pub(super) fn set_owned(&self, is_owned: bool) {
        self.is_owned.store(is_owned, Ordering::Release);
    }
}

impl Drop for TableDirectory {
    fn drop(&mut self) {
        if self.is_owned.load(Ordering::Acquire) {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // Deleting many files takes a while, and the last plan may be dropped on the event loop.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(&path))),
            Err(_) => remove(&path),
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "the files of a dropped table could not be removed");
    }
}

/// Deletes directories that have the marker file but no table. An unfinished `CREATE TABLE` leaves such a directory.
pub(super) fn remove_orphans(tables: &Path, is_owned: impl Fn(&str) -> bool) -> io::Result<()> {
    for found in std::fs::read_dir(tables)? {
        let found = found?;
        let name = found.file_name();
        if name.to_str().is_some_and(&is_owned) || !found.path().join(MARK).is_file() {
            continue;
        }
        tracing::info!(path = %found.path().display(), "removing what an unfinished CREATE TABLE left");
        std::fs::remove_dir_all(found.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_with_the_mark_are_removed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let foreign = root.path().join("foreign");
        std::fs::create_dir(&foreign).expect("a directory");
        std::fs::write(foreign.join("data.csv"), "1").expect("a file");
        std::fs::write(root.path().join("stray"), "1").expect("a file");
        for name in ["owned", "orphan"] {
            let directory = TableDirectory::create(root.path().join(name)).expect("a directory");
            directory.set_owned(true);
        }
        remove_orphans(root.path(), |name| name == "owned").expect("they can be listed");
        let mut left: Vec<_> = std::fs::read_dir(root.path()).expect("it is there").flatten().collect();
        left.sort_by_key(|entry| entry.file_name());
        let left: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["foreign", "owned", "stray"]);
        assert!(foreign.join("data.csv").exists());
    }

    #[test]
    fn files_stay_until_the_last_reader_is_gone() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("t");
        let table = std::sync::Arc::new(TableDirectory::create(path.clone()).expect("a directory"));
        table.set_owned(true);
        let reader = std::sync::Arc::clone(&table);
        table.set_owned(false);
        drop(table);
        assert!(path.exists());
        drop(reader);
        assert!(!path.exists());
    }
}
