//! The server's tables and views. Their definitions are in the store. A provider is opened when it is first used.
//!
//! The definition of a view or an external table is the text of its statement, printed after parsing and rewriting.
//! Files may disappear while a definition stays. Then a query fails with an error that names the location, and DROP
//! still works.

mod constraints;
mod directory;
mod distinct;
mod external;
mod files;
mod formats;
mod hive;
mod schema;
mod table;
mod table_types;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::TableProvider;
use hwacha_storage::TableStore;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::Store;

pub(crate) use external::open_external;
pub(crate) use files::{
    check_files, check_presence, is_file_path, listing_table, open_files, open_parquet_directory, table_types,
    unreadable,
};
pub(crate) use formats::file_formats;
pub(crate) use schema::{CATALOG, SCHEMA, catalog_list};
pub(crate) use table::{CatalogTable, TableStatistics};

pub(crate) use self::directory::TableDirectory;

/// How a table or view was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Definition {
    /// `CREATE EXTERNAL TABLE`, printed from the parsed statement, and the name of the store that its options describe.
    External {
        sql: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store: Option<String>,
    },
    /// `CREATE VIEW`, printed from the parsed statement.
    View { sql: String },
    /// `CREATE TABLE`: Parquet files in a directory of the server's own.
    Table { directory: String },
    /// A record that cannot be read. Its name stays taken until a user drops or replaces the table.
    #[serde(skip)]
    Damaged { reason: String },
}

impl Definition {
    /// The noun for the definition in messages: "table" or "view".
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::External { .. } | Self::Table { .. } | Self::Damaged { .. } => "table",
            Self::View { .. } => "view",
        }
    }

    /// The name of the store that the options of a table describe.
    fn store(&self) -> Option<&str> {
        match self {
            Self::External { store, .. } => store.as_deref(),
            Self::View { .. } | Self::Table { .. } | Self::Damaged { .. } => None,
        }
    }
}

/// What to do when a name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfTaken {
    /// Fail.
    Refuse,
    /// Do nothing. The existing definition stays.
    Keep,
    Replace,
}

impl IfTaken {
    pub(crate) fn of(replace: bool, if_not_exists: bool) -> Self {
        match (replace, if_not_exists) {
            (true, _) => Self::Replace,
            (false, true) => Self::Keep,
            (false, false) => Self::Refuse,
        }
    }

    /// Whether a new definition may take a name. `taken` is the existing definition. Fails for `Refuse`.
    pub(crate) fn allows(self, name: &str, taken: &Definition) -> Result<bool, Error> {
        match self {
            Self::Replace => Ok(true),
            Self::Keep => Ok(false),
            Self::Refuse => Err(Error::invalid(format!(
                "{} \"{name}\" already exists; drop it first, or say CREATE OR REPLACE",
                taken.noun()
            ))),
        }
    }
}

/// Maximum bytes of the name of a table or view (128: about twice the 63 bytes of PostgreSQL).
const MAX_NAME_BYTES: usize = 128;

struct Entry {
    definition: Definition,
    /// The directory of a table that `CREATE TABLE` wrote.
    directory: Option<Arc<TableDirectory>>,
    /// The provider, once it was opened. Views are opened for each statement, since the tables that they read may
    /// change.
    provider: Option<Arc<dyn TableProvider>>,
}

impl Entry {
    /// Marks the directory as no longer owned, since no definition names it any more.
    fn give_up(self) {
        if let Some(directory) = &self.directory {
            directory.set_owned(false);
        }
    }
}

fn changed(name: &str) -> Error {
    Error::invalid(format!("\"{name}\" was changed by somebody else at the same time; try again"))
}

/// All tables and views of the server.
pub(crate) struct Catalog {
    store: Arc<dyn Store>,
    tables_directory: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    version: AtomicU64,
    /// Names of stores whose tables were dropped or replaced.
    forgotten_stores: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("names", &self.names()).finish()
    }
}

impl Catalog {
    /// Reads all definitions, and removes directories that an unfinished `CREATE TABLE` left. A damaged record makes
    /// only its own table unusable.
    pub(crate) fn open(store: Arc<dyn Store>, tables_directory: &Path) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for key in store.list("catalog")? {
            let definition = match store.read(&key) {
                Ok(None) => continue,
                Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| {
                    format!(
                        "its record {} is damaged ({error}); remove it from the catalog with DROP TABLE",
                        store.place(&key)
                    )
                }),
                Err(error) => Err(format!(
                    "its record could not be read when the scheduler started: {error}; fix the cause, then restart the \
                     scheduler"
                )),
            };
            let definition = definition.unwrap_or_else(|reason| {
                tracing::error!(table = name_of(&key), reason, "a table cannot be used; the others are served");
                Definition::Damaged { reason }
            });
            let directory = match &definition {
                Definition::Table { directory } => {
                    Some(Arc::new(TableDirectory::of_table(tables_directory.join(directory))))
                }
                Definition::External { .. } | Definition::View { .. } | Definition::Damaged { .. } => None,
            };
            entries.insert(name_of(&key), Entry { definition, directory, provider: None });
        }
        let failed = |source| Error::Store { path: tables_directory.to_owned(), source };
        std::fs::create_dir_all(tables_directory).map_err(failed)?;
        let owns = |entry: &Entry, name: &str| matches!(&entry.definition, Definition::Table { directory } if directory == name);
        match entries.values().any(|entry| matches!(entry.definition, Definition::Damaged { .. })) {
            // A damaged record does not name its table's directory, so no directory is removed.
            true => tracing::warn!("directories that no table names are kept, since records of tables are damaged"),
            false => directory::remove_orphans(tables_directory, |name| entries.values().any(|it| owns(it, name)))
                .map_err(failed)?,
        }
        let catalog = Self {
            store,
            tables_directory: tables_directory.to_owned(),
            entries: Mutex::new(entries),
            version: AtomicU64::new(0),
            forgotten_stores: Mutex::default(),
        };
        catalog.remove_unused_stores()?;
        Ok(catalog)
    }

    /// Removes the records of stores that an unfinished statement left.
    fn remove_unused_stores(&self) -> Result<(), Error> {
        let entries = self.lock();
        let used: Vec<String> = entries.values().filter_map(|entry| entry.definition.store()).map(store_key).collect();
        // A damaged record does not name its store.
        let has_damaged = entries.values().any(|entry| matches!(entry.definition, Definition::Damaged { .. }));
        drop(entries);
        for key in self.store.list("stores")?.into_iter().filter(|key| !has_damaged && !used.contains(key)) {
            let old = self.store.read(&key)?;
            self.store.compare_and_set(&key, old.as_deref(), None)?;
        }
        Ok(())
    }

    /// The stores that tables describe in their options, by their names. A store that cannot be read makes only its own
    /// table unusable.
    pub(crate) fn table_stores(&self) -> Vec<(String, TableStore)> {
        let tables: Vec<(String, String)> = {
            let entries = self.lock();
            let store = |(table, entry): (&String, &Entry)| Some((table.clone(), entry.definition.store()?.to_owned()));
            entries.iter().filter_map(store).collect()
        };
        let read = |name: &str| {
            let bytes = self.store.read(&store_key(name)).map_err(|error| error.to_string())?;
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            TableStore::of_text(&text.ok_or("it is not there")?)
        };
        let usable = |(table, name): (String, String)| match read(&name) {
            Ok(store) => Some((name, store)),
            Err(problem) => {
                tracing::error!(table, problem, "the options of a table cannot be read; drop it and create it again");
                None
            }
        };
        tables.into_iter().filter_map(usable).collect()
    }

    /// The names of stores whose tables were dropped or replaced since the last call.
    pub(crate) fn take_forgotten_stores(&self) -> Vec<String> {
        std::mem::take(&mut *self.forgotten_stores.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes the record of the store that a removed definition names.
    fn forget_store(&self, removed: &Definition) {
        let Some(name) = removed.store() else { return };
        let key = store_key(name);
        let gone = self.store.read(&key).and_then(|old| self.store.compare_and_set(&key, old.as_deref(), None));
        if let Err(error) = gone {
            // The next start removes it.
            tracing::warn!(%error, "the options of a dropped table could not be removed");
        }
        self.forgotten_stores.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    /// The version of the catalog. It grows with each change of a definition or of statistics.
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

    /// Keeps an opened provider until its definition or its statistics change.
    pub(crate) fn keep(&self, name: &str, definition: &Definition, provider: &Arc<dyn TableProvider>) {
        if let Some(entry) = self.lock().get_mut(name).filter(|entry| entry.definition == *definition) {
            entry.provider = Some(Arc::clone(provider));
        }
    }

    /// Adds a definition if its name is free or `if_taken` replaces the old one. Returns whether it was added.
    pub(crate) fn put(&self, name: &str, definition: Definition, if_taken: IfTaken) -> Result<bool, Error> {
        self.insert(name, Entry { definition, directory: None, provider: None }, if_taken)
    }

    /// Adds an external table. `store` is the store that its options describe: a name that is not taken, and a text.
    pub(crate) fn put_external(
        &self,
        name: &str,
        sql: &str,
        store: Option<(&str, String)>,
        if_taken: IfTaken,
    ) -> Result<bool, Error> {
        if let Some((store, text)) = &store {
            self.store.compare_and_set(&store_key(store), None, Some(text.as_bytes()))?;
        }
        let store = store.map(|(store, _)| store.to_owned());
        let definition = Definition::External { sql: sql.to_owned(), store };
        let added = self.put(name, definition.clone(), if_taken);
        // A write that failed may have stored the definition. The next start removes the store if it has not.
        if matches!(added, Ok(false)) {
            self.forget_store(&definition);
        }
        added
    }

    /// Makes a directory for the files of a table. Dropping it deletes the directory unless `put_table` has added the
    /// table.
    pub(crate) fn create_directory(&self) -> Result<Arc<TableDirectory>, Error> {
        let path = self.tables_directory.join(uuid::Uuid::new_v4().to_string());
        let created = TableDirectory::create(path.clone());
        created.map(Arc::new).map_err(|source| Error::Store { path, source })
    }

    /// Adds a table whose files are complete, if its name is free or `if_taken` replaces the old one. Returns whether
    /// it was added.
    pub(crate) fn put_table(
        &self,
        name: &str,
        directory: &Arc<TableDirectory>,
        if_taken: IfTaken,
    ) -> Result<bool, Error> {
        let folder = directory.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (definition, directory) = (Definition::Table { directory: folder }, Some(Arc::clone(directory)));
        self.insert(name, Entry { definition, directory, provider: None }, if_taken)
    }

    /// The only place where a name gets a definition. The existing definition is checked under the same lock.
    fn insert(&self, name: &str, entry: Entry, if_taken: IfTaken) -> Result<bool, Error> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let bytes = name.len();
            return Err(Error::invalid(format!(
                "the name of the table or view has {bytes} bytes; use a name of 1 to {MAX_NAME_BYTES} bytes"
            )));
        }
        let mut entries = self.lock();
        if let Some(taken) = entries.get(name)
            && !if_taken.allows(name, &taken.definition)?
        {
            return Ok(false);
        }
        let key = key_of(name);
        let old = self.store.read(&key)?;
        let bytes =
            serde_json::to_vec(&entry.definition).map_err(|source| Error::Record { key: key.clone(), source })?;
        // Statistics are removed first: nothing may fail between storing the record and adding the entry.
        self.forget_statistics(name)?;
        // The directory is marked as owned before the record is stored. A write that fails in its last sync may have
        // stored the record, and then the files must stay.
        if let Some(directory) = &entry.directory {
            directory.set_owned(true);
        }
        if !self.store.compare_and_set(&key, old.as_deref(), Some(&bytes))? {
            entry.give_up();
            return Err(changed(name));
        }
        let replaced = entries.insert(name.to_owned(), entry);
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(entries);
        replaced.iter().for_each(|replaced| self.forget_store(&replaced.definition));
        replaced.into_iter().for_each(Entry::give_up);
        Ok(true)
    }

    /// Removes the definition of a name if it is still `definition`. Files that the server wrote are deleted when no
    /// plan reads them any more.
    pub(crate) fn remove(&self, name: &str, definition: &Definition) -> Result<(), Error> {
        let mut entries = self.lock();
        if entries.get(name).is_none_or(|entry| entry.definition != *definition) {
            return Err(changed(name));
        }
        let key = key_of(name);
        let old = self.store.read(&key)?;
        self.forget_statistics(name)?;
        if !self.store.compare_and_set(&key, old.as_deref(), None)? {
            return Err(changed(name));
        }
        let removed = entries.remove(name);
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(entries);
        removed.iter().for_each(|removed| self.forget_store(&removed.definition));
        removed.into_iter().for_each(Entry::give_up);
        Ok(())
    }

    /// The directory of a table that `CREATE TABLE` wrote.
    pub(crate) fn table_path(&self, directory: &str) -> PathBuf {
        self.tables_directory.join(directory)
    }

    /// The definition of a name, and the directory if `CREATE TABLE` wrote the table. The files stay while the caller
    /// holds the directory.
    pub(crate) fn find(&self, name: &str) -> Option<(Definition, Option<Arc<TableDirectory>>)> {
        self.lock().get(name).map(|entry| (entry.definition.clone(), entry.directory.clone()))
    }

    /// The counts that ANALYZE TABLE stored for a table.
    pub(crate) fn statistics(&self, name: &str) -> Result<Option<TableStatistics>, Error> {
        let key = statistics_key(name);
        let Some(bytes) = self.store.read(&key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Record { key, source })
    }

    /// Stores the counts of ANALYZE TABLE until the definition of the table changes. `analyzed` is the definition that
    /// was counted.
    pub(crate) fn put_statistics(
        &self,
        name: &str,
        analyzed: &Definition,
        statistics: TableStatistics,
    ) -> Result<(), Error> {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(name).filter(|entry| entry.definition == *analyzed) else {
            return Err(Error::not_found(format!("table \"{name}\" was dropped or replaced while it was analyzed")));
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a name's record.
fn key_of(name: &str) -> String {
    format!("catalog/{}", in_key(name))
}

fn store_key(name: &str) -> String {
    format!("stores/{name}")
}

fn statistics_key(name: &str) -> String {
    format!("statistics/{}", in_key(name))
}

/// Escapes slashes in a name, since keys are paths: `a/b` becomes `a%2fb`.
fn in_key(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

fn name_of(key: &str) -> String {
    key.trim_start_matches("catalog/").replace("%2f", "/").replace("%25", "%")
}

/// The name with the smallest edit distance to `wanted`, ignoring case. The distance must be at most a third of the
/// bytes of `wanted`, rounded up.
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

    fn open(root: &Path) -> Catalog {
        let store = Arc::new(LocalStore::open(&root.join("state")).expect("a store"));
        Catalog::open(store, &root.join("tables")).expect("a catalog")
    }

    #[test]
    fn definitions_survive_and_orphans_do_not() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let view = Definition::View { sql: "CREATE VIEW v AS SELECT 1".into() };
        let catalog = open(root.path());
        assert!(catalog.put("Odd name/é", view.clone(), IfTaken::Refuse).expect("a write"));
        let table = catalog.create_directory().expect("a directory");
        assert!(catalog.put_table("t", &table, IfTaken::Refuse).expect("a write"));
        let (kept, orphan) = (table.path().to_owned(), catalog.create_directory().expect("a directory"));
        let left = orphan.path().to_owned();
        // An owned directory is not deleted when it is dropped. This is the state after a crash.
        orphan.set_owned(true);
        drop((table, orphan, catalog));

        let catalog = open(root.path());
        assert_eq!(catalog.definition("Odd name/é"), Some(view));
        assert!(kept.exists() && !left.exists());
        let (definition, reader) = catalog.find("t").expect("it is there");
        catalog.remove("t", &definition).expect("a removal");
        assert!(kept.exists(), "somebody reads it");
        drop(reader.expect("it has a directory"));
        assert!(!kept.exists());
        assert_eq!(catalog.names(), ["Odd name/é"]);
    }

    #[test]
    fn of_two_that_take_a_name_at_once_one_gets_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let catalog = open(root.path());
        let [first, second] = [0; 2].map(|_| catalog.create_directory().expect("a directory"));
        let files = [first.path().to_owned(), second.path().to_owned()];
        assert!(catalog.put_table("t", &first, IfTaken::Refuse).expect("it is free"));
        let error = catalog.put_table("t", &second, IfTaken::Refuse).expect_err("it is taken").to_string();
        assert!(error.contains("already exists"), "{error}");
        assert!(!catalog.put_table("t", &second, IfTaken::Keep).expect("nothing happens"));
        drop((first, second));
        assert!(files[0].exists() && !files[1].exists());
    }

    #[test]
    fn a_damaged_record_harms_no_other_table() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let view = Definition::View { sql: "CREATE VIEW v AS SELECT 1".into() };
        let catalog = open(root.path());
        assert!(catalog.put("good", view.clone(), IfTaken::Refuse).expect("a write"));
        assert!(catalog.put("bad", view.clone(), IfTaken::Refuse).expect("a write"));
        drop(catalog);
        std::fs::write(root.path().join("state/catalog/bad"), "{").expect("a write");
        let files = root.path().join("tables/of-bad");
        drop(TableDirectory::create(files.clone()).map(|directory| directory.set_owned(true)));

        let catalog = open(root.path());
        assert_eq!(catalog.definition("good"), Some(view));
        let Some(damaged @ Definition::Damaged { .. }) = catalog.definition("bad") else { panic!("it is damaged") };
        assert!(matches!(&damaged, Definition::Damaged { reason } if reason.contains("state/catalog/bad")));
        assert!(files.exists(), "nothing tells whether they are of the damaged table");
        catalog.remove("bad", &damaged).expect("it can be dropped");
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("line_item", ["lineitem", "orders"]), Some("lineitem"));
        assert_eq!(nearest("LINEITEM", ["lineitem"]), Some("lineitem"));
        assert_eq!(nearest("xyz", ["lineitem", "orders"]), None);
    }
}
