//! The server's tables and views: definitions in the store, providers opened from them when first used.
//!
//! A definition is the statement that made it, so what survives a restart is what a user wrote. Files may disappear
//! while a definition stays: then using it is an error that names the file, and dropping it works.

mod analyzed;
mod distinct;
mod files;
mod formats;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::Store;

pub(crate) use analyzed::{AnalyzedTable, TableStatistics};
pub(crate) use files::{
    check_files, check_presence, is_file_path, listing_table, open_files, open_parquet_directory, unreadable,
};
pub(crate) use formats::file_formats;
pub(crate) use schema::{CATALOG, SCHEMA, catalog_list};

/// How a table came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Definition {
    /// `CREATE EXTERNAL TABLE`, as written.
    External { sql: String },
    /// `CREATE VIEW`, as written.
    View { sql: String },
    /// `CREATE TABLE`: Parquet files in a directory of the server's own.
    Table { directory: String },
}

impl Definition {
    /// What the thing is called in messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::External { .. } | Self::Table { .. } => "table",
            Self::View { .. } => "view",
        }
    }
}

struct Entry {
    definition: Definition,
    /// Kept once opened; views are opened anew for each statement, since what they read may change.
    provider: Option<Arc<dyn TableProvider>>,
}

/// All tables and views of the server.
pub(crate) struct Catalog {
    store: Arc<dyn Store>,
    tables_directory: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    version: AtomicU64,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("names", &self.names()).finish()
    }
}

impl Catalog {
    /// Reads all definitions. Directories that no definition names are what an unfinished `CREATE TABLE` left.
    pub(crate) fn open(store: Arc<dyn Store>, tables_directory: &Path) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for key in store.list("catalog")? {
            let Some(bytes) = store.read(&key)? else { continue };
            let definition =
                serde_json::from_slice(&bytes).map_err(|source| Error::Record { key: key.clone(), source })?;
            let name = name_of(&key);
            entries.insert(name, Entry { definition, provider: None });
        }
        let tables_directory = tables_directory.to_owned();
        let catalog = Self { store, tables_directory, entries: Mutex::new(entries), version: AtomicU64::new(0) };
        catalog.remove_orphans()?;
        Ok(catalog)
    }

    fn remove_orphans(&self) -> Result<(), Error> {
        let failed = |source| Error::Store { path: self.tables_directory.clone(), source };
        std::fs::create_dir_all(&self.tables_directory).map_err(failed)?;
        let entries = self.lock();
        let named: Vec<_> = entries
            .values()
            .filter_map(|entry| match &entry.definition {
                Definition::Table { directory } => Some(directory.clone()),
                Definition::External { .. } | Definition::View { .. } => None,
            })
            .collect();
        for found in std::fs::read_dir(&self.tables_directory).map_err(failed)? {
            let found = found.map_err(failed)?;
            if !named.iter().any(|name| found.file_name() == name.as_str()) {
                std::fs::remove_dir_all(found.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Differs after every change of a definition.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(crate) fn definition(&self, name: &str) -> Option<Definition> {
        self.lock().get(name).map(|entry| entry.definition.clone())
    }

    pub(crate) fn provider(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.lock().get(name)?.provider.clone()
    }

    /// Keeps an opened provider for as long as its definition stands.
    pub(crate) fn keep(&self, name: &str, definition: &Definition, provider: &Arc<dyn TableProvider>) {
        if let Some(entry) = self.lock().get_mut(name).filter(|entry| entry.definition == *definition) {
            entry.provider = Some(Arc::clone(provider));
        }
    }

    /// Adds a definition, or replaces the one of that name. What was replaced is given back.
    pub(crate) fn put(&self, name: &str, definition: Definition) -> Result<Option<Definition>, Error> {
        let mut entries = self.lock();
        let key = key_of(name);
        let old = self.store.read(&key)?;
        let bytes = serde_json::to_vec(&definition).map_err(|source| Error::Record { key: key.clone(), source })?;
        // First, since a definition that is stored must be in `entries` too.
        self.forget_statistics(name)?;
        if !self.store.compare_and_set(&key, old.as_deref(), Some(&bytes))? {
            return Err(Error::invalid(format!("\"{name}\" was changed by somebody else at the same time; try again")));
        }
        let replaced = entries.insert(name.to_owned(), Entry { definition, provider: None });
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(replaced.map(|entry| entry.definition))
    }

    /// Removes a definition. What was removed is given back.
    pub(crate) fn remove(&self, name: &str) -> Result<Option<Definition>, Error> {
        let mut entries = self.lock();
        let key = key_of(name);
        let old = self.store.read(&key)?;
        self.forget_statistics(name)?;
        self.store.compare_and_set(&key, old.as_deref(), None)?;
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(entries.remove(name).map(|entry| entry.definition))
    }

    /// What ANALYZE TABLE found out about a table.
    pub(crate) fn statistics(&self, name: &str) -> Result<Option<TableStatistics>, Error> {
        let key = statistics_key(name);
        let Some(bytes) = self.store.read(&key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Record { key, source })
    }

    /// Keeps what was found out about a table, for as long as its definition stands.
    pub(crate) fn put_statistics(&self, name: &str, statistics: TableStatistics) -> Result<(), Error> {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(name) else {
            return Err(Error::not_found(format!("table \"{name}\" was dropped while it was analyzed")));
        };
        let key = statistics_key(name);
        let bytes = serde_json::to_vec(&statistics).map_err(|source| Error::Record { key: key.clone(), source })?;
        let old = self.store.read(&key)?;
        self.store.compare_and_set(&key, old.as_deref(), Some(&bytes))?;
        entry.provider = None;
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn forget_statistics(&self, name: &str) -> Result<(), Error> {
        let key = statistics_key(name);
        let old = self.store.read(&key)?;
        self.store.compare_and_set(&key, old.as_deref(), None)?;
        Ok(())
    }

    /// The directory of a table made by `CREATE TABLE`.
    pub(crate) fn table_directory(&self, directory: &str) -> PathBuf {
        self.tables_directory.join(directory)
    }

    /// Removes the files of a table that is no longer defined.
    pub(crate) fn remove_files(&self, definition: &Definition) {
        if let Definition::Table { directory } = definition {
            let path = self.table_directory(directory);
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "the files of a dropped table could not be removed");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a name's record.
fn key_of(name: &str) -> String {
    format!("catalog/{}", in_key(name))
}

fn statistics_key(name: &str) -> String {
    format!("statistics/{}", in_key(name))
}

/// Keys are paths, so slashes within a name are written otherwise.
fn in_key(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

fn name_of(key: &str) -> String {
    key.trim_start_matches("catalog/").replace("%2f", "/").replace("%25", "%")
}

/// The name that is nearest to `wanted`, if one is near enough to have been meant.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    names
        .into_iter()
        .map(|name| (datafusion::common::utils::datafusion_strsim::levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= wanted.len().div_ceil(3).max(1))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalStore;

    #[test]
    fn definitions_survive_and_orphans_do_not() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let tables = root.path().join("tables");
        let open = || {
            let store = Arc::new(LocalStore::open(&root.path().join("state")).expect("a store"));
            Catalog::open(store, &tables).expect("a catalog")
        };
        let view = Definition::View { sql: "CREATE VIEW v AS SELECT 1".into() };
        let catalog = open();
        catalog.put("Odd name/é", view.clone()).expect("a write");
        catalog.put("t", Definition::Table { directory: "t-1".into() }).expect("a write");
        std::fs::create_dir_all(tables.join("t-1")).expect("a directory");
        std::fs::create_dir_all(tables.join("t-2")).expect("a directory");
        drop(catalog);

        let catalog = open();
        assert_eq!(catalog.definition("Odd name/é"), Some(view));
        assert!(tables.join("t-1").exists() && !tables.join("t-2").exists());
        let removed = catalog.remove("t").expect("a removal").expect("it was there");
        catalog.remove_files(&removed);
        assert!(!tables.join("t-1").exists());
        assert_eq!(catalog.names(), ["Odd name/é"]);
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("line_item", ["lineitem", "orders"]), Some("lineitem"));
        assert_eq!(nearest("LINEITEM", ["lineitem"]), Some("lineitem"));
        assert_eq!(nearest("xyz", ["lineitem", "orders"]), None);
    }
}
