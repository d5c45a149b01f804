//! Runs a suite on Hwacha and on plain DataFusion, query by query, round by round.

use std::path::Path;

use hwacha_workloads::answers::Likeness;
use hwacha_workloads::suite::Suite;

use crate::Result;
use crate::cluster::{Answered, Cluster, ClusterArgs};
use crate::judge::Judge;
use crate::memory::MemoryWatch;
use crate::parties::Process;
use crate::report::{Cpu, Measured, PeakMemory, Report};

/// Generates missing data, starts both sides, runs the queries and prints the report. Fails if an answer differs or a
/// query fails.
pub(crate) async fn run(args: ClusterArgs) -> Result<()> {
    let suite = args.workload.suite()?;
    let mut judge = Judge::prepared(&suite, Likeness::SameEngine).await?;
    let scratch = tempfile::tempdir()?;
    let mut parties = Parties::start(&args, &suite, scratch.path()).await?;
    let mut measured: Vec<_> = suite.queries.keys().copied().map(Measured::new).collect();
    for round in 0..args.workload.rounds {
        for query in &mut measured {
            parties.measure(query, &suite.queries[&query.number], &mut judge, scratch.path()).await?;
            eprintln!("round {} q{}: {}", round + 1, query.number, query.last());
        }
    }
    let report = Report::new(measured, parties.peaks());
    let title = format!("{}: seconds for all queries", args.workload.title());
    args.workload.output.give(&report, &title)?;
    match report.wrong() {
        0 => Ok(()),
        wrong => Err(format!("{wrong} queries failed or gave other rows than plain DataFusion").into()),
    }
}

/// Plain DataFusion and Hwacha.
struct Parties {
    plain: Process,
    plain_memory: MemoryWatch,
    cluster: Cluster,
    memory: MemoryWatch,
}

impl Parties {
    async fn start(args: &ClusterArgs, suite: &Suite, scratch: &Path) -> Result<Self> {
        let data = args.workload.data()?.display().to_string();
        let cores = (args.cores * args.executors).to_string();
        let plain = Process::start(&["plain", &args.workload.suite.name(), &data, &cores]).await?;
        let cluster = Cluster::start(args.shape(), suite, scratch).await?;
        cluster.set(&args.workload.set).await?;
        let (plain_memory, memory) =
            (MemoryWatch::start(vec![plain.id()?])?, MemoryWatch::start(cluster.processes()?)?);
        Ok(Self { plain, plain_memory, cluster, memory })
    }

    /// Runs the query once on each side.
    async fn measure(&mut self, query: &mut Measured, sql: &str, judge: &mut Judge, scratch: &Path) -> Result<()> {
        let before = self.cpu()?;
        let (plain, _) = self.plain.query(query.number, scratch).await?;
        query.plain_seconds.push(plain);
        match self.cluster.query(sql).await {
            Ok(Answered { seconds, rows, progress }) => {
                query.hwacha_seconds.push(seconds);
                query.exchanged_bytes = progress.exchange_bytes;
                query.spilled_bytes = progress.spilled_bytes;
                query.failure = query.failure.take().or(judge.wrong(query.number, &rows).await?);
            }
            Err(error) => query.failure = Some(error.to_string()),
        }
        query.cpu = self.cpu()?.since(before);
        Ok(())
    }

    fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu {
            plain_seconds: self.plain.cpu_seconds()?,
            scheduler_seconds: self.cluster.scheduler.cpu_seconds()?,
            executor_seconds: self.cluster.executors.iter().map(Process::cpu_seconds).sum::<Result<_>>()?,
        })
    }

    fn peaks(&self) -> PeakMemory {
        PeakMemory { plain_bytes: self.plain_memory.peak_bytes(), hwacha_bytes: self.memory.peak_bytes() }
    }
}
