//! Measures the cost of a row in joins, groups and repartitioning, in nanoseconds of one core. The weights of the
//! planner's cost model (`plan/src/tuning.rs`) come from these results.
//!
//! Plain DataFusion runs pairs of queries on one thread. The queries of a pair differ in one step. The cost of this
//! step is the difference of their times, divided by the number of rows (or bytes) in which they differ. Example: one
//! join finds a match for each of 4 million rows, and another join finds no match. The difference of their times is
//! the cost of 4 million output rows. The queries run in turn for several rounds. The shortest time of each query
//! counts, because other work on the machine only makes times longer.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use clap::Args;
use datafusion::datasource::MemTable;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, col, lit};
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use hwacha_operators::runtime_filter::{FilterTap, Filters, KeyCollector, apply};
use serde::Serialize;

use crate::Result;
use crate::output::{Bar, Measurement, OutputArgs};

const BATCH_ROWS: usize = 8192;
/// Row count of the large table `m`.
const MANY: i64 = 4_000_000;
/// Names and row counts of the build sides. They fit into the CPU's caches entirely, partly, or not at all.
const BUILD_SIDES: [(&str, i64); 4] =
    [("10 thousand", 10_000), ("100 thousand", 100_000), ("1 million", 1_000_000), ("4 million", MANY)];
/// The build side whose keys a run-time filter has (1 million rows).
const TESTED_SIDE: usize = 2;
/// Bytes per row of the eight columns of 64-bit integers.
const WIDE_BYTES: f64 = 64.0;

/// The number of measurements.
#[derive(Args, Clone, Debug)]
pub(crate) struct CostsArgs {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// A measured cost.
#[derive(Debug, Serialize)]
struct Cost {
    what: String,
    nanoseconds: f64,
}

#[derive(Debug, Serialize)]
struct Table {
    costs: Vec<Cost>,
}

/// Measures all costs and prints the table.
pub(crate) fn run(args: &CostsArgs) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &CostsArgs) -> Result<()> {
    let session = session()?;
    let queries = queries();
    let mut seconds: BTreeMap<&String, f64> = BTreeMap::new();
    for round in 0..args.rounds {
        for (name, work) in &queries {
            let plan = plan(&session, work).await?;
            let started = Instant::now();
            drain(&plan, &session).await?;
            let best = seconds.entry(name).or_insert(f64::MAX);
            *best = best.min(started.elapsed().as_secs_f64());
        }
        eprintln!("round {}", round + 1);
    }
    let costs = figures().into_iter().map(|figure| Cost {
        nanoseconds: (seconds[&figure.more] - seconds[&figure.less]) * 1e9 / figure.per,
        what: figure.what,
    });
    args.output.give(&Table { costs: costs.collect() }, "nanoseconds of one core")
}

/// The work to measure: a query, and what happens to its rows.
enum Work {
    Query(String),
    /// The rows are repartitioned by the hash of `k`.
    Repartition(String),
    /// A run-time filter tests `absent` in each row by the keys of [`TESTED_SIDE`]. Few rows pass.
    Test(String),
}

/// A cost to compute: the time of the query `more`, minus the time of the query `less`, divided by `per`.
struct Figure {
    what: String,
    more: String,
    less: String,
    per: f64,
}

fn queries() -> Vec<(String, Work)> {
    let query = |name: &str, sql: &str| (name.to_owned(), Work::Query(sql.to_owned()));
    let repartition = |name: &str, sql: &str| (name.to_owned(), Work::Repartition(sql.to_owned()));
    let mut queries = vec![
        query(
            "match wide",
            "select m.k, m.c1, m.c2, m.c3, m.c4, m.c5, m.c6, m.c7, m.c8 from t0 b join m on m.m0 = b.k",
        ),
        query("nothing", "select k from one"),
        query("scan", "select k from m"),
        query("scan absent", "select absent from m"),
        ("test".to_owned(), Work::Test("select absent from m".to_owned())),
        query("group few", "select m0 from m group by m0"),
        query("group two", "select m0, c1 from m group by m0, c1"),
        query("group many", "select k from m group by k"),
        query("group few text", "select t from m group by t"),
        query("group many text", "select u from m group by u"),
        repartition("route", "select k from m"),
        repartition("route wide", "select k, c1, c2, c3, c4, c5, c6, c7, c8 from m"),
        repartition("route text", "select k, t from m"),
        repartition("route long text", "select k, u from m"),
    ];
    for (side, (name, _)) in BUILD_SIDES.iter().enumerate() {
        queries.extend([
            query(&format!("probe {name}"), &format!("select m.k from t{side} b join m on m.absent = b.k")),
            query(&format!("build {name}"), &format!("select b.k from t{side} b join one on one.absent = b.k")),
            query(&format!("match {name}"), &format!("select m.k from t{side} b join m on m.m{side} = b.k")),
        ]);
    }
    queries
}

fn figures() -> Vec<Figure> {
    let many = MANY as f64;
    let figure = |what: &str, more: &str, less: &str, per: f64| Figure {
        what: what.to_owned(),
        more: more.to_owned(),
        less: less.to_owned(),
        per,
    };
    let mut figures = vec![
        figure("a row finds its partition and moves there", "route", "scan", many),
        figure("a byte more of such a row", "route wide", "route", many * WIDE_BYTES),
        figure("a text more of such a row (10 to 20 bytes, 10 thousand)", "route text", "route", many),
        figure("a text more of such a row (50 bytes, 4 million)", "route long text", "route", many),
        figure("a row is tested by a run-time filter of 1 million keys", "test", "scan absent", many),
        figure("a row is given out of a join", "match 10 thousand", "probe 10 thousand", many),
        figure("a byte more of such a row", "match wide", "match 10 thousand", many * WIDE_BYTES),
        figure("a row finds its group among 10 thousand", "group few", "scan", many),
        figure("a row finds its group among 4 million", "group many", "scan", many),
        figure("a second key", "group two", "group few", many),
        figure("a text for the key (10 thousand groups)", "group few text", "group few", many),
        figure("a text for the key (4 million groups)", "group many text", "group many", many),
    ];
    for (name, rows) in BUILD_SIDES {
        let (build, probe, found) = (format!("build {name}"), format!("probe {name}"), format!("match {name}"));
        figures.push(figure(&format!("a row of a build side of {name} rows"), &build, "nothing", rows as f64));
        // The other two queries build the same hash table, so the time of the build query is subtracted.
        figures.push(figure(&format!("a row finds no match among {name} rows"), &probe, &build, many));
        figures.push(figure(
            &format!("a row finds its match among {name} rows, and is given out"),
            &found,
            &build,
            many,
        ));
    }
    figures
}

fn session() -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        // Without join reordering, the first table of a join is the build side. Without dynamic filters, no scan
        // skips rows that are to be measured.
        .set_bool("datafusion.optimizer.join_reordering", false)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let session = SessionContext::new_with_config(config);
    let sides = BUILD_SIDES.iter().enumerate().map(|(side, (_, rows))| (format!("t{side}"), *rows));
    for (name, rows) in sides.chain([("m".to_owned(), MANY), ("one".to_owned(), 1)]) {
        let batches = batches(rows)?;
        session.register_table(name, Arc::new(MemTable::try_new(batches[0].schema(), vec![batches])?))?;
    }
    Ok(session)
}

/// The first `rows` rows of one endless table. Every table of this benchmark is a prefix of it.
fn batches(rows: i64) -> Result<Vec<RecordBatch>> {
    let starts = (0..rows).step_by(BATCH_ROWS);
    starts.map(|first| batch(first..rows.min(first + BATCH_ROWS as i64))).collect()
}

/// Rows with these columns:
/// - `k`: unique keys, unsorted.
/// - `absent`: keys in the same range, without a match in any table.
/// - `m0` to `m3`: keys that each match one row of the build side with this number, in another order than its rows.
/// - `t`: texts with 10 thousand distinct values. `u`: distinct texts of 50 bytes.
/// - `c1` to `c8`: numbers.
fn batch(rows: Range<i64>) -> Result<RecordBatch> {
    // Multiplication by an odd factor permutes the numbers below a power of two, so the keys are unique.
    let key = |row: i64| (row * 2_654_435_761) & ((1 << 40) - 1);
    // The prime has no factor in common with the row counts, so this permutes the rows of a build side.
    let elsewhere = |row: i64, build_rows: i64| key(row * 1_299_709 % build_rows);
    let numbers = |of: &dyn Fn(i64) -> i64| Arc::new(Int64Array::from_iter_values(rows.clone().map(of))) as ArrayRef;
    let few = |row| elsewhere(row, BUILD_SIDES[0].1);
    let texts = StringViewArray::from_iter_values(rows.clone().map(|row| format!("number {}", few(row))));
    let long =
        StringViewArray::from_iter_values(rows.clone().map(|row| format!("a text of 50 bytes, {:>30}", key(row))));
    let mut columns = vec![
        ("k".to_owned(), numbers(&key)),
        ("absent".to_owned(), numbers(&|row| key(MANY + row))),
        ("t".to_owned(), Arc::new(texts) as ArrayRef),
        ("u".to_owned(), Arc::new(long) as ArrayRef),
    ];
    let sides = BUILD_SIDES.iter().enumerate();
    columns.extend(sides.map(|(side, (_, rows))| (format!("m{side}"), numbers(&|row| elsewhere(row, *rows)))));
    columns.extend((1..=8).map(|column| (format!("c{column}"), numbers(&|row| row % BUILD_SIDES[0].1))));
    Ok(RecordBatch::try_from_iter(columns)?)
}

async fn plan(session: &SessionContext, work: &Work) -> Result<Arc<dyn ExecutionPlan>> {
    let (Work::Query(sql) | Work::Repartition(sql) | Work::Test(sql)) = work;
    let plan = session.sql(sql).await?.create_physical_plan().await?;
    Ok(match work {
        Work::Query(_) => plan,
        Work::Repartition(_) => {
            let key = col("k", &plan.schema())?;
            Arc::new(RepartitionExec::try_new(plan, Partitioning::Hash(vec![key], 4))?)
        }
        Work::Test(_) => tested(plan)?,
    })
}

/// `plan`, with a run-time filter that tests the column `absent`.
fn tested(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let test = Arc::new(DynamicFilterPhysicalExpr::new(vec![col("absent", &plan.schema())?], lit(true)));
    let id = test.expression_id().expect("dynamic filters have ids");
    let keys = vec![Arc::new(Column::new("k", 0)) as _];
    let expected_keys = BUILD_SIDES[TESTED_SIDE].1 as u64;
    let collector = KeyCollector::new(FilterTap { id, keys, expected_keys, ranges: vec![None], nulls_match: false });
    for batch in batches(BUILD_SIDES[TESTED_SIDE].1)? {
        collector.collect(&batch)?;
    }
    let filters = Filters::from([(id, Arc::new(collector.filter()))]);
    Ok(apply(Arc::new(FilterExec::try_new(test, plan)?), &filters)?)
}

/// Runs a plan to its end and drops its rows.
async fn drain(plan: &Arc<dyn ExecutionPlan>, session: &SessionContext) -> Result<()> {
    let partitions = 0..plan.output_partitioning().partition_count();
    let streams = partitions.map(|partition| plan.execute(partition, session.task_ctx()));
    let mut streams = futures::stream::select_all(streams.collect::<datafusion::error::Result<Vec<_>>>()?);
    while let Some(batch) = streams.next().await {
        batch?;
    }
    Ok(())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Cost { what, nanoseconds } in &self.costs {
            writeln!(f, "{nanoseconds:>8.2} ns  {what}")?;
        }
        Ok(())
    }
}

impl Measurement for Table {
    fn bars(&self) -> Vec<Bar> {
        let bar = |cost: &Cost| Bar {
            name: cost.what.clone(),
            value: cost.nanoseconds,
            text: format!("{:.1} ns", cost.nanoseconds),
            is_hwacha: false,
        };
        self.costs.iter().map(bar).collect()
    }
}
