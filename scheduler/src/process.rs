//! One scheduler process: starts its parts in order and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::TryStreamExt;
use hwacha_proto::MAX_MESSAGE_BYTES;
use hwacha_proto::control::control_server::ControlServer;
use hwacha_proto::health::{LIVE, READY};
use hwacha_scheduler_core::Config;
use hwacha_storage::{Allowed, Location, Stores};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;

use crate::catalog::Catalog;
use crate::config::SchedulerConfig;
use crate::error::Error;
use crate::event_loop::EventLoop;
use crate::flight_sql::{Clients, Connection, FrontDoor};
use crate::rpc::ControlService;
use crate::session::Sessions;
use crate::store::{LocalStore, Store};

/// The key of the record that counts the starts of schedulers on one data directory.
const EPOCH: &str = "epoch";
/// Maximum number of starts (2^23). The 64-bit number of a query has the start's number above the lowest 40 bits.
const MAX_EPOCH: u64 = 1 << 23;
/// The directory of the tables that `CREATE TABLE` writes, within the data directory.
const TABLES: &str = "tables";
/// Bytes of file footers that are cached (256 MiB).
const METADATA_CACHE_BYTES: usize = 256 << 20;
/// Bytes of file statistics that are cached (64 MiB).
const STATISTICS_CACHE_BYTES: usize = 64 << 20;
/// Bytes of file listings that are cached (64 MiB), if `listing_ttl` is not zero.
const LISTING_CACHE_BYTES: usize = 64 << 20;
/// Maximum bytes of a message from a client (64 MiB: one batch of bound parameters).
const CLIENT_MESSAGE_BYTES: usize = 64 << 20;
/// Interval of HTTP/2 pings to clients and executors, and how long an answer may take (20 s).
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long open connections may take to end after a stop was requested (2 s).
const STOP: Duration = Duration::from_secs(2);

/// A running scheduler. Dropping it stops it at once.
pub struct Scheduler {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    parts: JoinSet<()>,
}

impl Scheduler {
    /// Starts a scheduler: opens the data directory and the catalog, binds the port, then starts the event loop and the
    /// services.
    pub async fn start(config: SchedulerConfig) -> Result<Self, Error> {
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&config.data_dir.join("state"))?);
        let epoch = next_epoch(store.as_ref())?;
        let catalog = Arc::new(Catalog::open(store, &absolute(&config)?.join(TABLES))?);
        let stores = Arc::new(stores(&config)?);
        catalog.table_stores().into_iter().for_each(|(name, store)| stores.add_table(&name, store));
        let sessions = Sessions::new(Arc::clone(&catalog), runtime_env(config.listing_ttl, &stores)?, stores);
        let clients = Arc::new(Clients::new(sessions, config.session_ttl, config.result_ttl));

        let failed = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let (event_loop, handle) = EventLoop::new(epoch, machine_config(&config), config.result_ttl);
        let front_door = FrontDoor::new(handle.clone(), catalog, Arc::clone(&clients));
        let (stop, stopped) = oneshot::channel();
        let mut parts = JoinSet::new();
        parts.spawn(event_loop.run());
        parts.spawn(serve(
            Port { listener, clients },
            front_door,
            ControlService::new(handle, config.build, config.storage),
            stopped,
        ));
        tracing::info!(%address, epoch, "scheduler started");
        Ok(Self { address, stop: Some(stop), parts })
    }

    /// Where clients and executors connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the event loop or the server has ended by itself. Neither can serve clients without the other.
    pub async fn stopped(&mut self) -> Error {
        match self.parts.join_next().await {
            Some(Err(error)) if error.is_panic() => Error::Broken("one of its threads panicked, which is a bug"),
            _ => Error::Broken("it cannot accept connections any longer"),
        }
    }

    /// Stops: takes no new connections, gives open ones 2 s to end, then ends everything.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // The server may have ended by itself.
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(STOP, self.parts.join_next()).await;
        self.parts.shutdown().await;
    }
}

fn absolute(config: &SchedulerConfig) -> Result<std::path::PathBuf, Error> {
    std::path::absolute(&config.data_dir).map_err(|source| Error::Store { path: config.data_dir.clone(), source })
}

/// Stores and returns the epoch of this start. It is higher than all epochs before, and durable before any message
/// carries it. A record without a valid number stops the start: if an epoch came twice, old and new tasks would have
/// the same ids.
fn next_epoch(store: &dyn Store) -> Result<u64, Error> {
    let old = store.read(EPOCH)?;
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let before = match old.as_deref() {
        None => 0,
        Some(bytes) => number(bytes)
            .filter(|number| *number < MAX_EPOCH)
            .ok_or_else(|| Error::Epoch { place: store.place(EPOCH) })?,
    };
    let epoch = before + 1;
    if !store.compare_and_set(EPOCH, old.as_deref(), Some(epoch.to_string().as_bytes()))? {
        return Err(Error::Epoch { place: store.place(EPOCH) });
    }
    Ok(epoch)
}

fn machine_config(config: &SchedulerConfig) -> Config {
    Config {
        max_running: config.max_running,
        max_queued: config.max_queued,
        executor_wait: config.executor_wait,
        lost_after: config.executor_lost_after,
        ..Config::default()
    }
}

/// The stores that tables are read from. The tables of the data directory may always be read.
fn stores(config: &SchedulerConfig) -> Result<Stores, Error> {
    let mut allowed = config.allowed.clone();
    if let Allowed::Only(locations) = &mut allowed {
        locations.push(Location::of_path(&absolute(config)?.join(TABLES)).map_err(Error::invalid)?);
    }
    Ok(Stores::new(config.storage.clone(), allowed, Handle::current()))
}

/// The stores and caches that planning uses. If `listing_ttl` is zero, listings are not cached, and the next query sees
/// added files.
fn runtime_env(listing_ttl: Duration, stores: &Arc<Stores>) -> Result<Arc<RuntimeEnv>, Error> {
    RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::clone(stores) as _)
        .with_metadata_cache_limit(METADATA_CACHE_BYTES)
        .with_file_statistics_cache_limit(STATISTICS_CACHE_BYTES)
        .with_object_list_cache_limit(if listing_ttl.is_zero() { 0 } else { LISTING_CACHE_BYTES })
        .with_object_list_cache_ttl(Some(listing_ttl))
        .build_arc()
        .map_err(Error::from)
}

/// The listener, and the clients, which are told when a connection ends.
struct Port {
    listener: TcpListener,
    clients: Arc<Clients>,
}

async fn serve(port: Port, front_door: FrontDoor, control: ControlService, stop: oneshot::Receiver<()>) {
    let flight = FlightServiceServer::new(front_door).max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let control = ControlServer::new(control)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (reporter, health) = health_reporter();
    for part in [LIVE, READY] {
        reporter.set_service_status(part, ServingStatus::Serving).await;
    }
    let Port { listener, clients } = port;
    let connected = move |stream| Connection::new(stream, Arc::clone(&clients) as _);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).map_ok(connected);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(flight)
        .add_service(control)
        .add_service(health)
        .serve_with_incoming_shutdown(incoming, async move {
            // Dropping the sender stops the server too.
            let _ = stop.await;
            reporter.set_service_status(READY, ServingStatus::NotServing).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the scheduler's port has failed");
    }
}
