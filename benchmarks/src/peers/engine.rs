//! The engines: starts each with the given cores and memory, and sends queries to it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use clap::ValueEnum;
use hwacha_workloads::suite::Suite;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{install, text};
use crate::Result;
use crate::cluster::{Answered, Cluster, ClusterArgs};
use crate::parties::Process;

/// Time within which a server must listen on its port; otherwise the run fails.
const START: Duration = Duration::from_secs(60);
/// Time limit of a query on any engine; a slower query counts as failed.
const QUERY: Duration = Duration::from_secs(600);

/// The engines that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EngineName {
    Hwacha,
    /// In one process, with as many threads as the executors of other engines have cores together.
    Datafusion,
    Ballista,
    DatafusionDistributed,
    /// On workers within one process.
    Sail,
    /// `local-cluster`, or `local` if there is one executor.
    Spark,
    /// In one process, like plain DataFusion.
    Duckdb,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no engine is hidden").get_name())
    }
}

impl EngineName {
    /// Installs the engine if it is not installed yet.
    pub(super) fn install(self, peers: &Path) -> Result<()> {
        match self {
            Self::Hwacha | Self::Datafusion => Ok(()),
            Self::Ballista | Self::DatafusionDistributed => install::rust(peers),
            Self::Sail | Self::Spark | Self::Duckdb => install::python(peers),
        }
    }
}

/// The rows of a query, and the time until all of them arrived.
pub(super) struct Answer {
    pub seconds: f64,
    pub rows: Vec<RecordBatch>,
}

pub(super) enum Engine {
    Hwacha(Box<Cluster>),
    /// The driver that sends queries to an engine, and the engine's server processes, if it has any.
    Other {
        driver: Box<Process>,
        servers: Vec<Child>,
    },
}

impl Engine {
    /// Starts an engine. Its files are in `folder`.
    pub(super) async fn start(
        name: EngineName,
        args: &ClusterArgs,
        suite: &Suite,
        peers: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let mut job = Job::new(args, suite);
        let mut servers = vec![];
        let command = match name {
            EngineName::Hwacha => {
                let cluster = Cluster::start(args.shape(), suite, folder).await?;
                cluster.set(&args.workload.set).await?;
                return Ok(Self::Hwacha(Box::new(cluster)));
            }
            EngineName::Datafusion => {
                let data = text(&args.workload.data()?);
                let cores = (args.cores * args.executors).to_string();
                let driver = Process::start(&["plain", &args.workload.suite.name(), &data, &cores]).await?;
                return Ok(Self::Other { driver: Box::new(driver), servers });
            }
            EngineName::Ballista => {
                servers = ballista(args, peers, folder, &mut job).await?;
                Command::new(peers.join("bin/peer-ballista"))
            }
            EngineName::DatafusionDistributed => {
                servers = distributed(args, peers, &mut job).await?;
                Command::new(peers.join("bin/peer-distributed"))
            }
            EngineName::Sail | EngineName::Spark | EngineName::Duckdb => {
                let mut command = Command::new(install::interpreter(peers));
                command.arg(peers.join("python.py")).arg(name.to_string());
                command
            }
        };
        let driver = Self::drive(command, name, &job, folder).await?;
        Ok(Self::Other { driver: Box::new(driver), servers })
    }

    async fn drive(mut command: Command, name: EngineName, job: &Job, folder: &Path) -> Result<Process> {
        let path = folder.join("job.json");
        std::fs::write(&path, serde_json::to_string(job)?)?;
        command.arg(path).current_dir(folder).stderr(log(folder, "driver")?);
        Process::spawn(command, &name.to_string()).await
    }

    pub(super) async fn query(&mut self, number: usize, sql: &str, folder: &Path) -> Result<Answer> {
        let answer = async {
            Ok(match self {
                Self::Hwacha(cluster) => {
                    let Answered { seconds, rows, .. } = cluster.query(sql).await?;
                    Answer { seconds, rows }
                }
                Self::Other { driver, .. } => {
                    let (seconds, rows) = driver.query(number, folder).await?;
                    Answer { seconds, rows }
                }
            })
        };
        match tokio::time::timeout(QUERY, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", QUERY.as_secs()).into()),
        }
    }

    /// The engine's processes. They may start further processes.
    pub(super) fn processes(&self) -> Result<Vec<u32>> {
        match self {
            Self::Hwacha(cluster) => cluster.processes(),
            Self::Other { driver, servers } => Ok(servers.iter().filter_map(Child::id).chain([driver.id()?]).collect()),
        }
    }
}

/// The input of every driver, as JSON.
#[derive(Debug, Serialize)]
struct Job {
    tables: std::collections::BTreeMap<String, String>,
    queries: std::collections::BTreeMap<usize, String>,
    executors: usize,
    cores: usize,
    memory_bytes: u64,
    ports: Vec<u16>,
}

impl Job {
    fn new(args: &ClusterArgs, suite: &Suite) -> Self {
        Self {
            tables: suite.tables.iter().map(|(table, path)| (table.clone(), text(path))).collect(),
            queries: suite.queries.clone(),
            executors: args.executors,
            cores: args.cores,
            memory_bytes: args.workload.memory_limit.0,
            ports: vec![],
        }
    }
}

async fn ballista(args: &ClusterArgs, peers: &Path, folder: &Path, job: &mut Job) -> Result<Vec<Child>> {
    let [scheduler] = free_ports()?;
    let program = peers.join("bin/peer-ballista");
    let mut command = Command::new(&program);
    command.args(["scheduler", "--bind-port", &scheduler.to_string()]);
    command.args(["--bind-host", "127.0.0.1", "--external-host", "127.0.0.1"]);
    let mut servers = vec![server(command, scheduler, folder, "scheduler").await?];
    for number in 0..args.executors {
        let [flight, control, health] = free_ports()?;
        let work = folder.join(format!("work-{number}"));
        std::fs::create_dir(&work)?;
        let mut command = Command::new(&program);
        command.args(["executor", "--scheduler-host", "127.0.0.1", "--scheduler-port", &scheduler.to_string()]);
        command.args(["--bind-host", "127.0.0.1", "--external-host", "127.0.0.1", "--work-dir", &text(&work)]);
        command.args(["--bind-port", &flight.to_string(), "--bind-grpc-port", &control.to_string()]);
        command.args(["--bind-health-port", &health.to_string(), "--vcores", &args.cores.to_string()]);
        command.args(["--memory-pool-size", &args.workload.memory_limit.0.to_string()]);
        servers.push(server(command, flight, folder, &format!("executor-{number}")).await?);
    }
    job.ports = vec![scheduler];
    Ok(servers)
}

async fn distributed(args: &ClusterArgs, peers: &Path, job: &mut Job) -> Result<Vec<Child>> {
    let mut servers = vec![];
    for _ in 0..args.executors {
        let [port] = free_ports()?;
        let mut command = Command::new(peers.join("bin/peer-distributed"));
        command.args(["worker", &port.to_string(), &args.cores.to_string()]);
        servers.push(server(command, port, peers, "worker").await?);
        job.ports.push(port);
    }
    Ok(servers)
}

/// Starts a server and waits until it listens.
async fn server(mut command: Command, port: u16, folder: &Path, name: &str) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(log(folder, name)?).stderr(log(folder, name)?).kill_on_drop(true);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + START;
    while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("{name} ended: {status}").into());
        }
        if Instant::now() > deadline {
            return Err(format!("{name} does not listen").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(child)
}

fn log(folder: &Path, name: &str) -> Result<std::fs::File> {
    Ok(std::fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("{name}.log")))?)
}

/// Ports that no process listens on. They are chosen here because peers cannot choose a free port and report it.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let listeners: Vec<_> =
        (0..COUNT).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
