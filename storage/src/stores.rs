//! The stores of a process, by the scheme and authority of a URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use hwacha_model::{Failure, FailureKind};
use object_store::ObjectStore;
use tokio::runtime::Handle;
use url::Url;

use crate::allowed::{Allowed, AllowedStore};
use crate::cache::BlockCache;
use crate::config::StorageConfig;
use crate::local_files::LocalFiles;
use crate::location::{Location, Scheme};
use crate::remote::{Bucket, Connector, RemoteStore};
use crate::table_store::{TableStore, fixed_part};

/// Maximum buckets and hosts whose stores are kept (1,000). At this number all are dropped and made again.
const MAX_STORES: usize = 1000;

/// Makes and keeps the stores of a process.
#[derive(Debug)]
pub struct Stores {
    /// The sections of this process.
    own: StorageConfig,
    /// These sections, and those that the scheduler has sent.
    config: Mutex<StorageConfig>,
    connector: Connector,
    local: Arc<dyn ObjectStore>,
    remote: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    allowed: Arc<Allowed>,
    cache: Option<Arc<BlockCache>>,
    /// Stores that tables describe in their options, by their names.
    tables: Mutex<HashMap<String, TableStore>>,
}

impl Stores {
    /// The stores that `config` describes. Their connections run on `io`. Only `allowed` locations are read.
    pub fn new(config: StorageConfig, allowed: Allowed, io: Handle) -> Self {
        let allowed = Arc::new(allowed);
        let local = guarded(Arc::new(LocalFiles::default()), Scheme::File, "", &allowed);
        let (own, config) = (config.clone(), Mutex::new(config));
        Self {
            own,
            config,
            connector: Connector::new(io),
            local,
            remote: Mutex::default(),
            allowed,
            cache: None,
            tables: Mutex::default(),
        }
    }

    /// The same stores, which keep what scans read of remote files in `cache`.
    pub fn with_cache(self, cache: Option<Arc<BlockCache>>) -> Self {
        Self { cache, ..self }
    }

    /// Takes the sections that the scheduler has sent ([`StorageConfig::to_wire`]) in place of those that it sent before.
    /// Sections of this process stay.
    ///
    /// # Errors
    ///
    /// A sentence if a section cannot be read. Then nothing changes.
    pub fn receive(&self, sent: &[(String, String)]) -> std::result::Result<(), String> {
        let config = self.own.with_wire(sent)?;
        let mut remote = self.lock();
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        remote.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the files that `place` names may not be read: a local path or a URL, which may have a pattern.
    ///
    /// # Errors
    ///
    /// A failure that names the allowed locations.
    pub fn check(&self, place: &str) -> std::result::Result<(), Failure> {
        let refused = |problem| Failure::new(FailureKind::UserError, problem);
        self.allowed.check(&Location::of_place(fixed_part(place)).map_err(refused)?)
    }

    /// Adds or replaces the store of a table.
    pub fn add_table(&self, name: &str, table: TableStore) {
        let known = self.tables().insert(name.to_owned(), table.clone());
        if known.is_some_and(|known| known != table) {
            self.forget_stores_of(name);
        }
    }

    /// Takes the stores of tables that the scheduler has sent with a query. It sends them with each query of the tables, so
    /// at [`MAX_STORES`] all others are dropped.
    pub fn receive_tables(&self, sent: Vec<(String, TableStore)>) {
        let mut tables = self.tables();
        if tables.len() + sent.len() > MAX_STORES {
            tables.retain(|known, _| sent.iter().any(|(name, _)| name == known));
        }
        drop(tables);
        sent.into_iter().for_each(|(name, table)| self.add_table(&name, table));
    }

    /// Forgets the store of a table. Queries that read the table go on.
    pub fn remove_table(&self, name: &str) {
        self.tables().remove(name);
        self.forget_stores_of(name);
    }

    /// The store of a table.
    pub fn table(&self, name: &str) -> Option<TableStore> {
        self.tables().get(name).cloned()
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<String, TableStore>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_stores_of(&self, table: &str) {
        self.lock().retain(|key, _| !key.contains(&format!("://{table}@")));
    }

    fn remote(&self, location: Location, url: &Url) -> std::result::Result<Arc<dyn ObjectStore>, String> {
        let key = url[..url::Position::BeforePath].to_owned();
        let mut remote = self.lock();
        if let Some(store) = remote.get(&key) {
            return Ok(Arc::clone(store));
        }
        if remote.len() >= MAX_STORES {
            remote.clear();
        }
        let Location { scheme, table, authority, .. } = location;
        let sections = match &table {
            Some(table) => {
                let store = self.tables().get(table).map(|store| store.sections(scheme, &authority));
                let absent = || format!("the options of the table in {}://{authority} are not there", url.scheme());
                store.ok_or_else(absent)?
            }
            None => self.config.lock().unwrap_or_else(PoisonError::into_inner).of(scheme, &authority),
        };
        let bucket = Bucket {
            scheme,
            url: format!("{}://{authority}", url.scheme()),
            authority: authority.clone(),
            is_of_table: table.is_some(),
        };
        let store = Arc::new(RemoteStore::new(bucket, sections, self.connector.clone(), self.cache.clone()));
        let store = guarded(store, scheme, &authority, &self.allowed);
        remote.insert(key, Arc::clone(&store));
        Ok(store)
    }
}

impl ObjectStoreRegistry for Stores {
    /// Replaces the store of a bucket or host.
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        let key = url[..url::Position::BeforePath].to_owned();
        self.lock().insert(key, store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let refused = |problem| DataFusionError::External(Box::new(Failure::new(FailureKind::UserError, problem)));
        match Location::of(url).map_err(refused)? {
            Location { scheme: Scheme::File, .. } => Ok(Arc::clone(&self.local)),
            location => self.remote(location, url).map_err(refused),
        }
    }
}

/// `store`, of which only `allowed` locations are read.
fn guarded(
    store: Arc<dyn ObjectStore>,
    scheme: Scheme,
    authority: &str,
    allowed: &Arc<Allowed>,
) -> Arc<dyn ObjectStore> {
    match **allowed {
        Allowed::Everything => store,
        Allowed::Only(_) => {
            let allowed = Arc::clone(allowed);
            Arc::new(AllowedStore { inner: store, allowed, scheme, authority: authority.to_owned() })
        }
    }
}
