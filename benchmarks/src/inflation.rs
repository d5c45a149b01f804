//! Measures how much more CPU time the same work takes on more executors. This is the price of scaling out, measured on
//! one machine.
//!
//! Each query runs on one, two, four and eight executors with one core each. The CPU time of all processes counts, not
//! the elapsed time. The clusters run one after the other, so they never hold memory at the same time. The cluster
//! sizes take turns in each round, because other work on the machine makes CPU time longer, too. Executors share the
//! cores of this machine, unlike executors on several machines. `slices` makes this effect small.

use std::collections::BTreeMap;
use std::fmt;

use hwacha_workloads::suite::Suite;
use serde::Serialize;

use crate::Result;
use crate::cluster::{Cluster, Shape, WorkloadArgs};
use crate::output::{Bar, Measurement};
use crate::parties::Process;
use crate::report::median;

const EXECUTORS: [usize; 4] = [1, 2, 4, 8];

/// Generates missing data, runs all rounds and prints the table.
pub(crate) async fn run(args: WorkloadArgs) -> Result<()> {
    let suite = args.suite()?;
    let mut lines: BTreeMap<usize, [Rounds; EXECUTORS.len()]> = BTreeMap::new();
    for round in 1..=args.rounds {
        for (index, executors) in EXECUTORS.into_iter().enumerate() {
            for (query, taken) in measure(&args, &suite, executors).await? {
                lines.entry(query).or_default()[index].push(taken);
            }
            eprintln!("round {round}, {executors} executors");
        }
    }
    let lines: Vec<_> = lines
        .into_iter()
        .map(|(query, taken)| Line { query, taken: taken.iter().map(Taken::median).collect() })
        .collect();
    let title = format!("{}: seconds that all cores compute", args.title());
    args.output.give(&Table { lines }, &title)
}

/// Measures each query on a cluster of `executors` executors.
async fn measure(args: &WorkloadArgs, suite: &Suite, executors: usize) -> Result<BTreeMap<usize, Taken>> {
    let scratch = tempfile::tempdir()?;
    let cluster =
        Cluster::start(Shape { executors, cores: 1, memory: args.memory_limit }, suite, scratch.path()).await?;
    cluster.set(&args.set).await?;
    let mut taken = BTreeMap::new();
    // The first two passes fill the caches and the memory of the processes. Only the last pass counts.
    for _ in 0..3 {
        for (number, sql) in &suite.queries {
            let before = cpu_seconds(&cluster)?;
            let progress = cluster.query(sql).await?.progress;
            let measured = Taken {
                core_seconds: cpu_seconds(&cluster)? - before,
                exchanged_bytes: progress.exchange_bytes,
                busiest_share: progress.busiest_nanos as f64 / (progress.compute_nanos.max(1)) as f64,
            };
            taken.insert(*number, measured);
        }
    }
    Ok(taken)
}

/// The CPU time of all processes of the cluster so far.
fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
    let executors = cluster.executors.iter().map(Process::cpu_seconds).sum::<Result<f64>>()?;
    Ok(executors + cluster.scheduler.cpu_seconds()?)
}

/// One query on one cluster.
#[derive(Clone, Copy, Debug, Serialize)]
struct Taken {
    core_seconds: f64,
    exchanged_bytes: u64,
    /// Compute time of the busiest task of each stage, divided by the compute time of all tasks.
    busiest_share: f64,
}

/// One query on clusters of one size, one entry for each round.
type Rounds = Vec<Taken>;

impl Taken {
    fn median(rounds: &Rounds) -> Self {
        let of = |each: fn(&Taken) -> f64| median(&rounds.iter().map(each).collect::<Vec<_>>());
        Self {
            core_seconds: of(|taken| taken.core_seconds),
            exchanged_bytes: of(|taken| taken.exchanged_bytes as f64) as u64,
            busiest_share: of(|taken| taken.busiest_share),
        }
    }
}

/// One query, by the number of executors.
#[derive(Debug, Serialize)]
struct Line {
    query: usize,
    taken: Vec<Taken>,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// All queries together, by the number of executors.
    fn total(&self) -> Vec<Taken> {
        let total = |each: fn(&Taken) -> f64| -> Vec<f64> {
            (0..EXECUTORS.len()).map(|index| self.lines.iter().map(|line| each(&line.taken[index])).sum()).collect()
        };
        let (seconds, bytes) = (total(|taken| taken.core_seconds), total(|taken| taken.exchanged_bytes as f64));
        // The share over the whole suite weights each query by its CPU time.
        let busiest = total(|taken| taken.busiest_share * taken.core_seconds);
        let all = (0..EXECUTORS.len()).map(|index| Taken {
            core_seconds: seconds[index],
            exchanged_bytes: bytes[index] as u64,
            busiest_share: busiest[index] / seconds[index],
        });
        all.collect()
    }
}

impl Measurement for Table {
    fn bars(&self) -> Vec<Bar> {
        let total = self.total();
        let bar = |(executors, taken): (usize, &Taken)| {
            let value = taken.core_seconds;
            let text = format!("{value:.1} s ({:.2})", value / total[0].core_seconds);
            let name = if executors == 1 { "1 executor".to_owned() } else { format!("{executors} executors") };
            Bar { name, value, text, is_hwacha: true }
        };
        EXECUTORS.into_iter().zip(&total).map(bar).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executors: Vec<_> = EXECUTORS.iter().map(|executors| format!("{executors:>8} ex.")).collect();
        write!(f, "query {}   relative to one      MiB exchanged          busiest tasks' share", executors.join(""))?;
        let lines = self.lines.iter().map(|line| (format!("q{}", line.query), line.taken.clone()));
        for (name, taken) in lines.chain([("total".to_owned(), self.total())]) {
            write!(f, "\n{}", row(&name, &taken))?;
        }
        Ok(())
    }
}

fn row(name: &str, taken: &[Taken]) -> String {
    let (one, more) = taken.split_first().expect("one executor is measured first");
    let seconds: String = taken.iter().map(|taken| format!("{:>10.2} s", taken.core_seconds)).collect();
    let relative: String = more.iter().map(|taken| format!("{:>6.2}", taken.core_seconds / one.core_seconds)).collect();
    let bytes: String = more.iter().map(|taken| format!("{:>7}", taken.exchanged_bytes >> 20)).collect();
    let busiest: String = more.iter().map(|taken| format!("{:>6.2}", taken.busiest_share)).collect();
    format!("{name:<5}{seconds}  {relative}  {bytes}  {busiest}")
}
