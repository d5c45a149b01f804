//! Measures the time of small queries on a warm connection, and the difference to plain DataFusion.

use std::fmt;
use std::time::Instant;

use clap::Args;
use datafusion::common::runtime::SpawnedTask;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_model::ByteSize;
use hwacha_workloads::tpch;
use serde::Serialize;

use crate::Result;
use crate::cluster::{Cluster, Shape};
use crate::output::{Bar, Measurement, OutputArgs};
use crate::suites::SuiteName;

const WARM_UP: usize = 20;
/// Rows of the table that the query of three stages reads.
const SPREAD_ROWS: u64 = 10_000;

/// The number of measurements.
#[derive(Args, Clone, Debug)]
pub(crate) struct LatencyArgs {
    #[arg(long, default_value_t = 500)]
    times: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// A query, its expected number of stages, and the settings that are set before it.
struct Case {
    name: &'static str,
    sql: &'static str,
    stages: u64,
    settings: &'static [&'static str],
}

const CASES: [Case; 3] = [
    Case { name: "SELECT 1", sql: "SELECT 1", stages: 1, settings: &[] },
    Case {
        name: "aggregate of 25 rows",
        sql: "SELECT n_regionkey, count(*), max(n_name) FROM nation GROUP BY n_regionkey",
        stages: 1,
        settings: &[],
    },
    Case {
        name: "three stages",
        sql: "SELECT s_nationkey, count(*) AS n, sum(s_acctbal) FROM supplier GROUP BY s_nationkey ORDER BY n, s_nationkey",
        stages: 3,
        settings: &[
            "SET hwacha.optimizer.single_task_bytes = 0",
            "SET datafusion.optimizer.repartition_file_min_size = 1",
        ],
    },
];

#[derive(Debug, Serialize)]
struct Line {
    query: &'static str,
    plain: Percentiles,
    hwacha: Percentiles,
    added: Percentiles,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Table {
    lines: Vec<Line>,
}

/// Generates the data, starts the cluster, runs each query on both sides in turn and prints the table.
pub(crate) async fn run(args: LatencyArgs) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    let scale = SPREAD_ROWS as f64 / tpch::rows("supplier", 1.0) as f64;
    SuiteName::Tpch.generate(&data, scale)?;
    let suite = SuiteName::Tpch.load(&data)?;
    let plain = SessionContext::new();
    for (table, path) in &suite.tables {
        plain.register_parquet(table, path.display().to_string(), ParquetReadOptions::default()).await?;
    }
    let shape = Shape { executors: 2, cores: 1, memory: ByteSize(1 << 30) };
    let cluster = Cluster::start(shape, &suite, scratch.path()).await?;
    let mut lines = vec![];
    for case in CASES {
        cluster.set(&case.settings.iter().map(|&setting| setting.to_owned()).collect::<Vec<_>>()).await?;
        lines.push(measure(&case, &plain, &cluster, args.times).await?);
    }
    args.output.give(&Table { lines }, "small queries on a warm connection: milliseconds, p50")
}

impl Measurement for Table {
    fn bars(&self) -> Vec<Bar> {
        let bar = |line: &Line, party: &str, percentiles: Percentiles, is_hwacha| {
            let (value, name) = (percentiles.p50_ms, format!("{}: {party}", line.query));
            Bar { name, value, text: format!("{value:.2} (p99 {:.2})", percentiles.p99_ms), is_hwacha }
        };
        let both = |line| [bar(line, "plain DataFusion", line.plain, false), bar(line, "Hwacha", line.hwacha, true)];
        self.lines.iter().flat_map(both).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<22} {:>12} {:>9} {:>12} {:>9} {:>12} {:>9}",
            "ms", "plain p50", "p99", "Hwacha p50", "p99", "added p50", "p99"
        )?;
        for Line { query, plain, hwacha, added } in &self.lines {
            write!(f, "\n{query:<22}")?;
            for Percentiles { p50_ms, p99_ms } in [plain, hwacha, added] {
                write!(f, " {p50_ms:>12.2} {p99_ms:>9.2}")?;
            }
        }
        Ok(())
    }
}

async fn measure(case: &Case, plain: &SessionContext, cluster: &Cluster, times: usize) -> Result<Line> {
    let stages = cluster.query(case.sql).await?.progress.stages;
    if stages != case.stages {
        return Err(format!("{} has {stages} stages", case.name).into());
    }
    let (mut plain_ms, mut hwacha_ms) = (vec![], vec![]);
    for time in 0..WARM_UP + times {
        let started = Instant::now();
        let (context, sql) = (plain.clone(), case.sql);
        // The query runs on a worker thread, as in a server.
        let expected = SpawnedTask::spawn(async move { context.sql(sql).await?.collect().await }).await??;
        let between = Instant::now();
        let answer = cluster.rows(case.sql).await?;
        let hwacha = between.elapsed();
        if let Some(difference) = hwacha_workloads::answers::difference(&expected, &answer)? {
            return Err(format!("{}: {difference}", case.name).into());
        }
        if time >= WARM_UP {
            plain_ms.push((between - started).as_secs_f64() * 1e3);
            hwacha_ms.push(hwacha.as_secs_f64() * 1e3);
        }
    }
    let (plain, hwacha) = (percentiles(plain_ms), percentiles(hwacha_ms));
    let added = Percentiles { p50_ms: hwacha.p50_ms - plain.p50_ms, p99_ms: hwacha.p99_ms - plain.p99_ms };
    Ok(Line { query: case.name, plain, hwacha, added })
}

fn percentiles(mut values: Vec<f64>) -> Percentiles {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    Percentiles { p50_ms: at(0.5), p99_ms: at(0.99) }
}
