//! The spill directory of one executor process, and the removal of directories that dead processes left beside it.
//!
//! A process locks a file in its directory for as long as it lives. So if the lock is free, the process is dead.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Percent of a volume's free bytes that spill files may take (80). The rest is for other users of the volume.
const SHARE_PERCENT: u64 = 80;
const PREFIX: &str = "hwacha-executor-";
const LOCK: &str = "lock";
const UNNAMED_LOCK: &str = "lock-of-starting-executor";

/// A directory that is removed when dropped.
#[derive(Debug)]
pub(crate) struct SpillDir {
    path: PathBuf,
    _lock: File,
}

impl SpillDir {
    /// Removes the directories of dead processes below `parent`, and creates a directory for this process there.
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Self, Error> {
        let failed = |source| Error::SpillDir { path: parent.to_owned(), source };
        fs::create_dir_all(parent).map_err(failed)?;
        remove_dead(parent).map_err(failed)?;
        let path = parent.join(format!("{PREFIX}{name}"));
        fs::create_dir(&path).map_err(failed)?;
        // The file is locked before it is renamed to `lock`. Other executors ignore a directory without a file of
        // that name.
        let unnamed = path.join(UNNAMED_LOCK);
        let lock = File::create(&unnamed).map_err(failed)?;
        lock.lock().map_err(failed)?;
        fs::rename(&unnamed, path.join(LOCK)).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The limit of an executor whose settings have none: 80 % of the free bytes of the volume.
    pub(crate) fn default_limit_bytes(&self) -> Result<u64, Error> {
        let volume = rustix::fs::statvfs(&self.path);
        let volume = volume.map_err(|error| Error::SpillDir { path: self.path.clone(), source: error.into() })?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize) / 100 * SHARE_PERCENT)
    }
}

impl Drop for SpillDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the spill directory could not be removed");
        }
    }
}

fn remove_dead(parent: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // The lock is held during removal, so only one of several executors that start at once removes the directory.
        if is_ours && let Some(_lock) = lock_of_dead(&entry.path()) {
            tracing::info!(path = %entry.path().display(), "removing the spill files of a dead executor");
            match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// The lock of a directory whose process is dead. A directory without a lock file is being made or removed: `None`.
fn lock_of_dead(directory: &Path) -> Option<File> {
    let lock = File::open(directory.join(LOCK)).ok()?;
    lock.try_lock().ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_are_removed() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let dead = parent.path().join("hwacha-executor-dead");
        fs::create_dir(&dead).expect("a directory");
        fs::write(dead.join(LOCK), "").expect("a file");
        fs::write(dead.join("spill"), "rows").expect("a file");
        let foreign = parent.path().join("something-else");
        fs::create_dir(&foreign).expect("a directory");

        let first = SpillDir::create(parent.path(), "first").expect("a spill directory");
        let second = SpillDir::create(parent.path(), "second").expect("a spill directory");
        assert!(!dead.exists());
        assert!(foreign.exists());
        assert!(first.path().exists() && second.path().exists());

        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn executors_that_start_at_once_leave_each_other_alone() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        for round in 0..20 {
            for dead in 0..5 {
                let dead = parent.path().join(format!("hwacha-executor-dead-{round}-{dead}"));
                fs::create_dir(&dead).expect("a directory");
                fs::write(dead.join(LOCK), "").expect("a file");
            }
            let create =
                |name: usize| SpillDir::create(parent.path(), &format!("{round}-{name}")).expect("a directory");
            let made: Vec<SpillDir> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..8).map(|name| scope.spawn(move || create(name))).collect();
                starts.into_iter().map(|start| start.join().expect("no panic")).collect()
            });
            assert!(made.iter().all(|dir| dir.path().join(LOCK).exists()));
            assert_eq!(fs::read_dir(parent.path()).expect("the directory").count(), made.len(), "the dead are removed");
        }
    }
}
