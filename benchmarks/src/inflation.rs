//! How much more is computed when the same work is spread over more executors: what scaling out would cost, told without
//! more machines.
//!
//! Each query runs on one, two, four and eight executors of one core in turn; the processes' computing time is what
//! counts, not the time that passes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Result;
use crate::cluster::{Cluster, ClusterArgs, Shape};
use crate::parties::Process;
use crate::report::median;

const EXECUTORS: [usize; 4] = [1, 2, 4, 8];

/// Generates, starts, runs, prints.
pub(crate) async fn run(args: ClusterArgs) -> Result<()> {
    let suite = args.suite()?;
    let scratch = tempfile::tempdir()?;
    let mut clusters = vec![];
    for executors in EXECUTORS {
        let shape = Shape { executors, cores: 1, ..args.shape() };
        let folder = scratch.path().join(executors.to_string());
        std::fs::create_dir(&folder)?;
        let cluster = Cluster::start(shape, &suite, &folder).await?;
        cluster.set(&args.set).await?;
        clusters.push(cluster);
    }
    let mut taken: BTreeMap<usize, [Taken; EXECUTORS.len()]> = BTreeMap::new();
    // The first round fills caches.
    for round in 0..=args.rounds {
        for (number, sql) in &suite.queries {
            let taken = taken.entry(*number).or_default();
            for (cluster, taken) in clusters.iter().zip(taken) {
                let before = cpu_seconds(cluster)?;
                let (_, progress) = cluster.query(sql).await?;
                if round > 0 {
                    taken.core_seconds.push(cpu_seconds(cluster)? - before);
                    taken.exchanged_bytes = progress.exchange_bytes;
                }
            }
            eprintln!("round {round} q{number}");
        }
    }
    let lines: Vec<_> = taken.into_iter().map(|(query, taken)| Line::new(query, &taken)).collect();
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&lines)?),
        false => print(&lines),
    }
    Ok(())
}

/// One query on one cluster.
#[derive(Default)]
struct Taken {
    core_seconds: Vec<f64>,
    exchanged_bytes: u64,
}

/// Of all processes.
fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
    let executors = cluster.executors.iter().map(Process::cpu_seconds).sum::<Result<f64>>()?;
    Ok(executors + cluster.scheduler.cpu_seconds()?)
}

/// One query, by the number of executors.
#[derive(Debug, Serialize)]
struct Line {
    query: usize,
    core_seconds: [f64; EXECUTORS.len()],
    exchanged_bytes: [u64; EXECUTORS.len()],
}

impl Line {
    fn new(query: usize, taken: &[Taken; EXECUTORS.len()]) -> Self {
        Self {
            query,
            core_seconds: std::array::from_fn(|index| median(&taken[index].core_seconds)),
            exchanged_bytes: std::array::from_fn(|index| taken[index].exchanged_bytes),
        }
    }
}

fn print(lines: &[Line]) {
    let executors: Vec<_> = EXECUTORS.iter().map(|executors| format!("{executors:>8} ex.")).collect();
    println!("query {}   relative to one      MiB exchanged", executors.join(""));
    let total = Line {
        query: 0,
        core_seconds: std::array::from_fn(|index| lines.iter().map(|line| line.core_seconds[index]).sum()),
        exchanged_bytes: std::array::from_fn(|index| lines.iter().map(|line| line.exchanged_bytes[index]).sum()),
    };
    for line in lines.iter().chain([&total]) {
        let name = if line.query == 0 { "total".to_owned() } else { format!("q{}", line.query) };
        let seconds: String = line.core_seconds.iter().map(|seconds| format!("{seconds:>10.2} s")).collect();
        let relative: String =
            line.core_seconds[1..].iter().map(|seconds| format!("{:>6.2}", seconds / line.core_seconds[0])).collect();
        let bytes: String = line.exchanged_bytes[1..].iter().map(|bytes| format!("{:>7}", bytes >> 20)).collect();
        println!("{name:<5}{seconds}  {relative}  {bytes}");
    }
}
