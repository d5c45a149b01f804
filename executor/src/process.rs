//! One executor process: starts its parts in order and stops them in order.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionContext;
use hwacha_execution::counted_memory::tell_process;
use hwacha_execution::session::session_config;
use hwacha_model::ExecutorId;
use hwacha_operators::functions::bounded::bounded_functions;
use hwacha_proto::health::{LIVE, READY};
use hwacha_storage::{Allowed, Stores};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::allocator::GivingBack;
use crate::checked_spills::CheckedSpills;
use crate::config::ExecutorConfig;
use crate::control::{Control, Identity, Link};
use crate::error::Error;
use crate::exchange::{Budget, ExchangeServer, ExchangeStore, Peers};
use crate::machine_memory::MIN_MEMORY_LIMIT_BYTES;
use crate::memory::{Gauge, MeasuredPool, count_what_is_spawned};
use crate::reports::Reports;
use crate::spill_dir::SpillDir;
use crate::task::TaskEnvironment;
use crate::tasks::Tasks;

/// Number of operators that an out-of-memory error names (3): those with the most memory.
const TOP_CONSUMERS: usize = 3;
/// Bytes of Parquet footers that stay in memory (256 MiB, but at most an eighth of the memory limit).
const METADATA_CACHE_BYTES: usize = 256 << 20;
/// Stack bytes of a CPU thread (32 MiB: physical expressions are evaluated recursively, as deep as the statement
/// limit allows).
const CPU_STACK_BYTES: usize = 32 << 20;
/// Interval between two checks of the memory that is held (10 ms: one core fills some 10 MiB in this time).
const MEMORY_WATCH: Duration = Duration::from_millis(10);
/// How long other queries are spared while a stopped query frees its memory (5 s).
const MEMORY_RELIEF: Duration = Duration::from_secs(5);

/// Held while a query is stopped and its memory is freed: only one executor of the process stops a query at a time.
static RELIEF: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// How long the name of the scheduler may take to be resolved (5 s).
const NAME_LOOKUP: Duration = Duration::from_secs(5);
/// How long a shutdown waits until the scheduler has acknowledged the last reports (2 s).
const LAST_REPORTS: Duration = Duration::from_secs(2);

/// A running executor. Dropping it stops all its tasks at once.
pub struct Executor {
    address: SocketAddr,
    tasks: Arc<Tasks>,
    reports: Arc<Reports>,
    link: watch::Receiver<Link>,
    drain: watch::Sender<bool>,
    drain_timeout: Duration,
    /// The parts that run until an error stops them: memory watch, server and control connection.
    background: JoinSet<Error>,
    // Dropped last: the parts above may still use them.
    _cpu: CpuRuntime,
    _spill_dir: Arc<SpillDir>,
}

impl Executor {
    /// Starts an executor: spill directory, memory, threads, port, then the connection to the scheduler. Returns once
    /// it listens; [`Executor::registered`] waits for the scheduler.
    pub async fn start(config: ExecutorConfig) -> Result<Self, Error> {
        if config.memory_limit_bytes < MIN_MEMORY_LIMIT_BYTES {
            return Err(Error::MemoryLimit { limit_bytes: config.memory_limit_bytes });
        }
        count_what_is_spawned();
        let (executor, gauge) = (ExecutorId(random()), Gauge::new(config.memory_limit_bytes));
        let parent = config.spill_dir.clone().unwrap_or_else(|| std::env::temp_dir().join("hwacha-spill"));
        let spill_dir = Arc::new(SpillDir::create(&parent, &format!("{:016x}", executor.0))?);
        let disk = disk(&config, &spill_dir)?;
        let stores = Stores::new(config.storage.clone(), Allowed::Everything, Handle::current());
        let stores = Arc::new(stores.with_cache(config.cache.clone()));
        let runtime = runtime_env(&config, &disk, &gauge, &stores)?;
        let cpu = CpuRuntime::start(config.cores)?;

        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|source| Error::Listen { address: config.listen, source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;

        let budget = Budget::new(Arc::clone(&runtime.memory_pool), disk, config.memory_limit_bytes);
        let store = ExchangeStore::new(executor, budget.measured(Arc::clone(&gauge)));
        let reports = Arc::new(Reports::default());
        let decoding = SessionContext::new_with_config_rt(session_config(), Arc::clone(&runtime));
        for function in bounded_functions(decoding.state().scalar_functions().values()) {
            decoding.register_udf(ScalarUDF::clone(&function));
        }
        let decoding = decoding.task_ctx();
        let peers = Arc::new(Peers::new(reachable(address).to_string(), Handle::current()));
        let environment = TaskEnvironment { decoding, runtime, peers, cpu: cpu.handle() };
        let tasks = Tasks::new(environment, Arc::clone(&store), Arc::clone(&reports));

        let (link_sender, link) = watch::channel(Link::default());
        let (drain, drain_receiver) = watch::channel(false);
        let drain_timeout = config.drain_timeout;
        let readiness = Readiness { link: link.clone(), drain: drain_receiver.clone() };
        let control = Control {
            identity: Identity {
                executor,
                address: match &config.advertise {
                    Some(advertise) => advertise.clone(),
                    None => announced(address, &config.scheduler).await.to_string(),
                },
                config,
            },
            tasks: Arc::clone(&tasks),
            reports: Arc::clone(&reports),
            link: link_sender,
            drain: drain_receiver,
            stores,
        };
        let mut background = JoinSet::new();
        background.spawn(watch_memory(gauge, Arc::clone(&tasks)));
        background.spawn(serve(listener, address, store, readiness));
        background.spawn(control.run());
        Ok(Self { address, tasks, reports, link, drain, drain_timeout, background, _cpu: cpu, _spill_dir: spill_dir })
    }

    /// The address at which outputs are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the scheduler has accepted this executor.
    pub async fn registered(&self) {
        self.registration().await;
    }

    /// As [`Executor::registered`], without borrowing the executor.
    pub fn registration(&self) -> impl Future<Output = ()> + use<> {
        let mut link = self.link.clone();
        async move {
            if link.wait_for(|link| link.attached).await.is_err() {
                // The control connection has ended for good; `stopped` returns its error.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when a part of the executor has failed, with its error.
    pub async fn stopped(&mut self) -> Error {
        match self.background.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(_)) | None => Error::Threads(std::io::Error::other("a part of the executor panicked")),
        }
    }

    /// Takes no new tasks, waits up to the drain timeout for running ones and for queries that need their outputs, sends
    /// the last reports, and stops.
    pub async fn shutdown(self) {
        self.drain.send_replace(true);
        let finished = tokio::time::timeout(self.drain_timeout, self.tasks.idle()).await;
        if finished.is_err() {
            tracing::warn!("tasks still run or outputs are still needed after the drain timeout; stopping");
        }
        let reported = async {
            while self.link.borrow().attached && !self.reports.attempts().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_REPORTS, reported).await;
    }
}

/// The address at which this process reaches its own port: the loopback address if the port listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The address that others are told. If the port listens on all addresses, it is the one by which this machine reaches
/// the scheduler.
async fn announced(listen: SocketAddr, scheduler: &str) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    let towards_scheduler = async {
        let endpoint = Endpoint::from_shared(scheduler.to_owned()).ok()?;
        let (host, port) = (endpoint.uri().host()?, endpoint.uri().port_u16().unwrap_or(80));
        let any: IpAddr = if listen.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await.ok()?;
        // Connecting a UDP socket sends nothing. It only chooses the address.
        socket.connect((host.trim_matches(['[', ']']), port)).await.ok()?;
        Some(SocketAddr::new(socket.local_addr().ok()?.ip(), listen.port()))
    };
    let found = tokio::time::timeout(NAME_LOOKUP, towards_scheduler).await.ok().flatten();
    found.unwrap_or_else(|| {
        tracing::warn!(%listen, "the address that others reach cannot be found; give it with --advertise HOST:PORT");
        listen
    })
}

/// The disk manager. Outputs use it directly, operators through [`CheckedSpills`]; both share one quota.
fn disk(config: &ExecutorConfig, spill_dir: &SpillDir) -> Result<Arc<DiskManager>, Error> {
    let limit_bytes = match config.spill_limit_bytes {
        Some(limit_bytes) => limit_bytes,
        None => spill_dir.default_limit_bytes()?,
    };
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill_dir.path().to_owned()]))
        .with_max_temp_directory_size(limit_bytes);
    Ok(Arc::new(disk.build()?))
}

/// One memory pool, one spill quota and one set of caches for all tasks.
fn runtime_env(
    config: &ExecutorConfig,
    disk: &Arc<DiskManager>,
    gauge: &Arc<Gauge>,
    stores: &Arc<Stores>,
) -> Result<Arc<RuntimeEnv>, Error> {
    let top = std::num::NonZeroUsize::new(TOP_CONSUMERS).expect("is not zero");
    let granted = FairSpillPool::new(config.memory_limit_bytes);
    let pool = TrackConsumersPool::new(MeasuredPool::new(granted, Arc::clone(gauge)), top);
    let spills = Arc::new(CheckedSpills::new(Arc::clone(disk)));
    let runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::clone(stores) as _)
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_temp_file_factory(spills))
        .with_metadata_cache_limit(METADATA_CACHE_BYTES.min(config.memory_limit_bytes / 8));
    Ok(runtime.build_arc()?)
}

/// Every `MEMORY_WATCH`, stops the largest query if the process holds too much. Returns freed memory to the system
/// while memory is short.
async fn watch_memory(gauge: Arc<Gauge>, tasks: Arc<Tasks>) -> Error {
    let mut giving_back = None;
    loop {
        tokio::time::sleep(MEMORY_WATCH).await;
        match (gauge.is_short(giving_back.is_some()), &giving_back) {
            (true, None) => giving_back = SpawnedTask::spawn_blocking(GivingBack::start).await.ok(),
            (false, Some(_)) => giving_back = None,
            _ => {}
        }
        if gauge.excess().is_none() {
            continue;
        }
        // The executors of a process share its memory: one of them stops one query at a time.
        let _relief = RELIEF.lock().await;
        let Some(held) = gauge.excess() else { continue };
        let Some((stopped, bytes)) = tasks.stop_largest(held, gauge.limit_bytes()) else { continue };
        // No other query is stopped until this one has freed three quarters of its memory, or the excess is gone.
        let freed = async {
            while gauge.excess().is_some() && stopped.bytes() > bytes / 4 {
                tokio::time::sleep(MEMORY_WATCH).await;
            }
        };
        let _ = tokio::time::timeout(MEMORY_RELIEF, freed).await;
    }
}

async fn serve(listener: TcpListener, address: SocketAddr, store: Arc<ExchangeStore>, readiness: Readiness) -> Error {
    let service = ExchangeServer::new(store);
    let (reporter, health) = health_reporter();
    let _telling = SpawnedTask::spawn(readiness.tell(reporter));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder().add_service(service).add_service(health).serve_with_incoming(incoming).await;
    let source = std::io::Error::other(served.err().map_or("the server ended".to_owned(), |error| error.to_string()));
    Error::Listen { address, source }
}

/// Whether the executor takes tasks: it is registered and does not drain.
struct Readiness {
    link: watch::Receiver<Link>,
    drain: watch::Receiver<bool>,
}

impl Readiness {
    /// Passes each change to the health service.
    async fn tell(mut self, reporter: HealthReporter) {
        reporter.set_service_status(LIVE, ServingStatus::Serving).await;
        loop {
            let is_ready = self.link.borrow_and_update().attached && !*self.drain.borrow_and_update();
            let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(READY, status).await;
            let changed = tokio::select! {
                changed = self.link.changed() => changed,
                changed = self.drain.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

/// The threads that operators run on. Its drop does not wait for threads that still compute.
struct CpuRuntime(Option<Runtime>);

impl CpuRuntime {
    fn start(cores: usize) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("cpu")
            .thread_stack_size(CPU_STACK_BYTES)
            .on_thread_stop(tell_process)
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().expect("is there until dropped").handle().clone()
    }
}

impl Drop for CpuRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A random number that no other process is expected to draw. It comes from the seeds of the standard library's maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
