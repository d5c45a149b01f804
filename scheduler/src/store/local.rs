//! The store of one machine: one file per record. A new version of a record is written to a second file, synced and
//! renamed. The directory is synced after that, and after a removal.
//!
//! One process at a time uses the directory: it is locked for as long as the store lives.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Store;
use crate::error::Error;

/// Bytes of an escaped name up to which all letters of other scripts are escaped (240: file systems allow 255).
const MAX_ESCAPED: usize = 240;
const LOCK: &str = "lock";

/// Records as files below one directory.
#[derive(Debug)]
pub(crate) struct LocalStore {
    root: PathBuf,
    writing: Mutex<()>,
    _lock: File,
}

impl LocalStore {
    /// Opens the store below `root`, which is created if it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Store { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        // Opened for appending, so another program's file of this name keeps its content.
        let lock = File::options().create(true).append(true).open(root.join(LOCK)).map_err(failed)?;
        lock.try_lock().map_err(|_| {
            failed(std::io::Error::other(
                "another scheduler uses this data directory; give this one its own with --data-dir",
            ))
        })?;
        Ok(Self { root: root.to_owned(), writing: Mutex::new(()), _lock: lock })
    }

    /// The file of a key. Slashes in a key separate directories. File names contain letters, digits, `_` and `-`; other
    /// bytes are written as `%` and two hexadecimal digits: `a.b` becomes `a%2eb`.
    fn path(&self, key: &str) -> PathBuf {
        key.split('/').fold(self.root.clone(), |path, part| path.join(escape(part)))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(directory)?;
        let staged = path.with_extension("new");
        // Some records have secrets.
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        File::open(directory)?.sync_all()
    }
}

impl Store for LocalStore {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Store { path, source }),
        }
    }

    fn compare_and_set(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read(key)?.as_deref() != expected {
            return Ok(false);
        }
        let path = self.path(key);
        let written = match new {
            Some(bytes) => self.write(&path, bytes),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed.and_then(|()| File::open(path.parent().unwrap_or(&self.root))?.sync_all()),
            },
        };
        written.map(|()| true).map_err(|source| Error::Store { path, source })
    }

    fn place(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let directory = self.path(prefix);
        let failed = |source| Error::Store { path: directory.clone(), source };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            Err(source) => return Err(failed(source)),
        };
        let mut keys = vec![];
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if let Some(part) = name.to_str().filter(|name| !name.ends_with(".new")).and_then(unescape) {
                keys.push(format!("{prefix}/{part}"));
            }
        }
        keys.sort();
        Ok(keys)
    }
}

fn escape(part: &str) -> String {
    let escaped = escaped(part, |_| false);
    // Letters of other scripts take three times their bytes, so a long name keeps them.
    if escaped.len() > MAX_ESCAPED { self::escaped(part, |letter| !letter.is_ascii()) } else { escaped }
}

/// Escapes all but ASCII letters, digits, `_`, `-` and the characters that `keeps` names.
fn escaped(part: &str, keeps: impl Fn(char) -> bool) -> String {
    let mut name = String::new();
    for letter in part.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => name.push(letter),
            _ if keeps(letter) => name.push(letter),
            _ => letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| name.push_str(&format!("%{byte:02x}"))),
        }
    }
    name
}

fn unescape(name: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_are_compared() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = LocalStore::open(root.path()).expect("a store");
        assert!(store.compare_and_set("catalog/a.b/c", None, Some(b"1")).expect("a write"));
        assert!(!store.compare_and_set("catalog/a.b/c", None, Some(b"2")).expect("a comparison"));
        assert!(store.compare_and_set("catalog/été", None, Some(b"3")).expect("a write"));
        let long = format!("catalog/{}.", "가".repeat(42));
        assert!(store.compare_and_set(&long, None, Some(b"4")).expect("a write"));
        drop(store);

        let store = LocalStore::open(root.path()).expect("the store again");
        assert_eq!(store.list("catalog/a.b").expect("keys"), ["catalog/a.b/c"]);
        assert_eq!(store.read("catalog/été").expect("a record").as_deref(), Some(&b"3"[..]));
        assert_eq!(store.read(&long).expect("a record").as_deref(), Some(&b"4"[..]));
        assert!(store.list("catalog").expect("keys").contains(&long));
        assert!(store.compare_and_set("catalog/été", Some(b"3"), None).expect("a removal"));
        assert_eq!(store.read("catalog/été").expect("no record"), None);
    }

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let _first = LocalStore::open(root.path()).expect("a store");
        let error = LocalStore::open(root.path()).expect_err("it is locked");
        assert!(error.to_string().contains("another scheduler"), "{error}");
    }
}
