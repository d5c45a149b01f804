//! Compares Hwacha with its peers: the same queries over the same files, with the same number of cores, in one run. All
//! engines also have the same memory limit, except plain DataFusion, datafusion-distributed and Sail, which have none.
//!
//! All engines run during the whole comparison. Each query runs on all of them in turn, round by round, so a busy
//! machine slows all alike. The medians of the rounds are compared. Peers are installed with cargo and pip into a
//! directory of their own, and Hwacha does not depend on them.

mod engine;
mod install;
mod standing;

use std::path::{Path, PathBuf};

use clap::Args;
use hwacha_workloads::answers::Likeness;

use self::engine::{Engine, EngineName};
use self::standing::{Report, Standing};
use crate::Result;
use crate::cluster::ClusterArgs;
use crate::judge::Judge;
use crate::memory::MemoryWatch;

/// The engines to compare, and the workload.
#[derive(Args, Clone, Debug)]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Engines to compare. All of them hold memory at the same time.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["hwacha", "datafusion", "ballista", "datafusion-distributed", "duckdb"]
    )]
    engines: Vec<EngineName>,
    /// Directory in which peers are installed.
    #[arg(long, default_value = "data/peers", value_name = "DIRECTORY")]
    peers: PathBuf,
}

/// Installs and starts the engines, runs the queries and prints the report. Failures of peers are only reported.
/// Failures of Hwacha make the run fail.
pub(crate) async fn run(args: PeersArgs) -> Result<()> {
    let suite = args.cluster.workload.suite()?;
    let peers = std::path::absolute(&args.peers)?;
    for engine in &args.engines {
        engine.install(&peers)?;
    }
    let mut judge = Judge::prepared(&suite, Likeness::OtherEngine).await?;
    let scratch = tempfile::tempdir()?;
    let (mut contest, mut memory) = (vec![], vec![]);
    for engine in &args.engines {
        eprintln!("starting {engine}");
        let folder = scratch.path().join(engine.to_string());
        std::fs::create_dir(&folder)?;
        let started = Engine::start(*engine, &args.cluster, &suite, &peers, &folder).await;
        let started = started.map_err(|error| format!("{engine}: {error}"))?;
        memory.push(MemoryWatch::start(started.processes()?)?);
        contest.push((started, Standing::new(*engine), folder));
    }
    for round in 0..args.cluster.workload.rounds {
        for (number, sql) in &suite.queries {
            for (engine, standing, folder) in &mut contest {
                let answer = engine.query(*number, sql, folder).await;
                standing.add(*number, judged(&mut judge, *number, answer).await?);
                eprintln!("round {} q{number}: {} {}", round + 1, standing.engine, standing.last(*number));
            }
        }
    }
    for ((_, standing, _), memory) in contest.iter_mut().zip(&memory) {
        standing.peak_bytes = memory.peak_bytes();
    }
    let report = Report::new(contest.into_iter().map(|(_, standing, _)| standing).collect());
    let title = format!("{}: seconds for the queries that all answered", args.cluster.workload.title());
    args.cluster.workload.output.give(&report, &title)?;
    match report.wrong(EngineName::Hwacha) {
        0 => Ok(()),
        wrong => Err(format!("{wrong} of Hwacha's queries failed or gave wrong answers").into()),
    }
}

/// The run time of a query in seconds, or its error, or the difference of its answer.
async fn judged(
    judge: &mut Judge,
    number: usize,
    answer: Result<engine::Answer>,
) -> Result<std::result::Result<f64, String>> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(format!("failed: {error}"))),
    };
    Ok(match judge.wrong(number, &answer.rows).await? {
        None => Ok(answer.seconds),
        Some(difference) => Err(format!("wrong: {difference}")),
    })
}

/// A path as text for a command.
fn text(path: &Path) -> String {
    path.display().to_string()
}
