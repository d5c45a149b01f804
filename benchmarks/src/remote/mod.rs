//! Measures queries over files in a store with the latency of a network ([`crate::slow_store`]): Hwacha without and with its cache,
//! plain DataFusion with the same object_store, and DuckDB with httpfs. Hwacha over the same files on the local disk
//! shows what the store costs.
//!
//! All engines run during the whole measurement, and each query runs on all of them in turn. The first round is cold:
//! no engine has read the files before.

mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use clap::Args;
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::suite::Suite;
use serde::Serialize;
use tokio::process::Command;

use self::report::{Report, Standing};
use crate::Result;
use crate::cluster::{Cluster, ClusterArgs, Remote};
use crate::judge::Judge;
use crate::parties::Process;
use crate::slow_store::{Asked, in_bucket};

const DRIVER: &str = include_str!("../../peers/python.py");

/// The workload, and the network.
#[derive(Args, Clone, Debug)]
pub(crate) struct RemoteArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Milliseconds before the first byte of each answer of the store.
    #[arg(long, default_value_t = 30)]
    first_byte: u64,
    /// Megabytes per second of each answer of the store.
    #[arg(long, default_value_t = 80)]
    speed: u64,
    /// Python with the packages of `tests/python/requirements.txt`, for DuckDB. Without it, DuckDB is left out.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

/// The engines. Each reads a bucket of its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EngineName {
    Hwacha,
    HwachaCache,
    HwachaLocal,
    Datafusion,
    Duckdb,
}

impl EngineName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hwacha => "hwacha",
            Self::HwachaCache => "hwacha-cache",
            Self::HwachaLocal => "hwacha-local",
            Self::Datafusion => "datafusion",
            Self::Duckdb => "duckdb",
        }
    }
}

enum Engine {
    Cluster(Box<Cluster>),
    Driver(Box<Process>),
}

/// Runs the queries on all engines and prints the report. Fails if a query of Hwacha fails or gives other rows than plain
/// DataFusion on the local disk.
pub(crate) async fn run(args: RemoteArgs) -> Result<()> {
    let suite = args.cluster.workload.suite()?;
    let mut judge = Judge::prepared(&suite, Likeness::OtherEngine).await?;
    let scratch = tempfile::tempdir()?;
    let data = args.cluster.workload.data()?.display().to_string();
    let mut store =
        Process::start(&["store", &data, &args.first_byte.to_string(), &(args.speed * 1_000_000).to_string()]).await?;
    let endpoint = format!("http://{}", store.address);
    let mut contest = vec![];
    for name in [
        EngineName::Hwacha,
        EngineName::HwachaCache,
        EngineName::HwachaLocal,
        EngineName::Datafusion,
        EngineName::Duckdb,
    ] {
        if name == EngineName::Duckdb && args.python.is_none() {
            continue;
        }
        let folder = scratch.path().join(name.name());
        std::fs::create_dir(&folder)?;
        let engine = start(name, &args, &suite, &endpoint, &folder).await;
        contest.push((engine.map_err(|error| format!("{}: {error}", name.name()))?, Standing::new(name), folder));
    }
    for round in 0..args.cluster.workload.rounds {
        for (number, sql) in &suite.queries {
            for (engine, standing, folder) in &mut contest {
                let before = asked(&mut store, standing.engine).await?;
                let answer = query(engine, *number, sql, folder).await;
                let asked = asked(&mut store, standing.engine).await?.since(before);
                let answer = match answer {
                    Ok((seconds, rows)) => match judge.wrong(*number, &rows).await? {
                        None => Ok(seconds),
                        Some(difference) => Err(format!("wrong: {difference}")),
                    },
                    Err(error) => Err(format!("failed: {error}")),
                };
                eprintln!("round {} q{number}: {} {answer:?} {asked:?}", round + 1, standing.engine.name());
                standing.add(*number, answer, asked);
            }
        }
    }
    let report = Report::new(contest.into_iter().map(|(_, standing, _)| standing).collect());
    let title = format!("{}: seconds from a store with {} ms", args.cluster.workload.title(), args.first_byte);
    args.cluster.workload.output.give(&report, &title)?;
    match report.wrong() {
        0 => Ok(()),
        wrong => Err(format!("{wrong} of Hwacha's queries failed or gave wrong answers").into()),
    }
}

async fn start(name: EngineName, args: &RemoteArgs, suite: &Suite, endpoint: &str, folder: &Path) -> Result<Engine> {
    let remote = in_bucket(suite, name.name());
    let shape = args.cluster.shape();
    let bucket = name.name().to_owned();
    let store = Remote { endpoint: endpoint.to_owned(), bucket, has_cache: name == EngineName::HwachaCache };
    Ok(match name {
        EngineName::HwachaLocal => Engine::Cluster(Box::new(Cluster::start(shape, suite, folder).await?)),
        EngineName::Hwacha | EngineName::HwachaCache => {
            Engine::Cluster(Box::new(Cluster::start_remote(shape, &remote, folder, Some(&store)).await?))
        }
        EngineName::Datafusion => {
            let data = args.cluster.workload.data()?.display().to_string();
            let cores = (args.cluster.cores * args.cluster.executors).to_string();
            let arguments = [
                "plain",
                &args.cluster.workload.suite.name(),
                &data,
                &cores,
                "--endpoint",
                endpoint,
                "--bucket",
                name.name(),
            ];
            Engine::Driver(Box::new(Process::start(&arguments).await?))
        }
        EngineName::Duckdb => {
            let python = args.python.as_ref().ok_or("there is no Python")?;
            let (script, job) = (folder.join("python.py"), folder.join("job.json"));
            std::fs::write(&script, DRIVER)?;
            std::fs::write(&job, serde_json::to_string(&Job::new(args, &remote, endpoint))?)?;
            let mut command = Command::new(python);
            command.arg(script).arg("duckdb").arg(job).current_dir(folder);
            Engine::Driver(Box::new(Process::spawn(command, "duckdb").await?))
        }
    })
}

async fn query(engine: &mut Engine, number: usize, sql: &str, folder: &Path) -> Result<(f64, Vec<RecordBatch>)> {
    match engine {
        Engine::Cluster(cluster) => cluster.query(sql).await.map(|answer| (answer.seconds, answer.rows)),
        Engine::Driver(driver) => driver.query(number, folder).await,
    }
}

async fn asked(store: &mut Process, name: EngineName) -> Result<Asked> {
    let all: BTreeMap<String, Asked> = serde_json::from_str(&store.ask("asked").await?)?;
    Ok(all.get(name.name()).copied().unwrap_or_default())
}

/// The input of the Python driver, as JSON.
#[derive(Debug, Serialize)]
struct Job<'a> {
    tables: BTreeMap<&'a str, String>,
    queries: &'a BTreeMap<usize, String>,
    executors: usize,
    cores: usize,
    memory_bytes: u64,
    /// The host and port of the store.
    store: &'a str,
}

impl<'a> Job<'a> {
    fn new(args: &RemoteArgs, suite: &'a Suite, endpoint: &'a str) -> Self {
        Self {
            tables: suite.tables.iter().map(|(table, path)| (&table[..], path.display().to_string())).collect(),
            queries: &suite.queries,
            executors: args.cluster.executors,
            cores: args.cluster.cores,
            memory_bytes: args.cluster.workload.memory_limit.0,
            store: endpoint.trim_start_matches("http://"),
        }
    }
}
