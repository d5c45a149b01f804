//! Checks Hwacha's answers against those of plain DataFusion and DuckDB. Every query of every suite runs on clusters of
//! several sizes with several settings. With `--sample`, only a random sample of these runs is made.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use hwacha_model::ByteSize;
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::suite::Suite;

use crate::Result;
use crate::cluster::{Cluster, Shape};
use crate::duckdb::Duckdb;
use crate::judge::{Judge, Judges};
use crate::suites::SuiteName;

const AMPLE: ByteSize = ByteSize(4 << 30);
const SCARCE: ByteSize = ByteSize(512 << 20);
const SHAPES: [Shape; 6] = [
    Shape { executors: 1, cores: 2, memory: AMPLE },
    Shape { executors: 2, cores: 1, memory: AMPLE },
    Shape { executors: 4, cores: 1, memory: AMPLE },
    Shape { executors: 1, cores: 2, memory: SCARCE },
    Shape { executors: 2, cores: 2, memory: SCARCE },
    Shape { executors: 4, cores: 1, memory: SCARCE },
];
/// Settings with which small data uses the techniques for large data: queries run on all executors, equal subplans run
/// once, fewer stages shrink, tasks share heavy join partitions and sorts, and rows are aggregated before joins.
const SPREAD: [&str; 7] = [
    "SET hwacha.optimizer.single_task_bytes = 0",
    "SET hwacha.optimizer.shared_subplan_bytes = 0",
    "SET hwacha.optimizer.adaptive_task_bytes = 65536",
    "SET hwacha.optimizer.split_partition_bytes = 65536",
    "SET hwacha.optimizer.range_bytes = 65536",
    "SET hwacha.optimizer.eager_aggregate_rows = 0",
    "SET datafusion.optimizer.repartition_file_min_size = 1",
];

/// The runs that are judged.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub(crate) struct CorrectnessArgs {
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["tpch", "tpcds", "clickbench", "h2o"])]
    suites: Vec<SuiteName>,
    /// Directory with one subdirectory for the tables of each suite. Missing tables are generated.
    #[arg(long, default_value = "data/correctness", value_name = "DIRECTORY")]
    data: PathBuf,
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Number of runs of each suite. Without it, all run. The runs and the cluster that they use are chosen at random,
    /// by the seed.
    #[arg(long)]
    sample: Option<usize>,
    /// Seed of the sample. The same seed takes the same sample. Without it: the number of days since 1970.
    #[arg(long)]
    seed: Option<u64>,
    /// Python that runs DuckDB as the second judge. It needs the packages of tests/python/requirements.txt. Without it,
    /// only plain DataFusion judges.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

/// Generates missing data, runs all suites and prints the counts. Fails if an answer differs or a query fails.
pub(crate) async fn run(args: CorrectnessArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(today);
    let mut tally = Tally::default();
    for (index, &name) in args.suites.iter().enumerate() {
        let lot = fastrand::Rng::with_seed(seed.wrapping_add(index as u64));
        run_suite(&args, name, lot, &mut tally).await?;
    }
    println!("seed {seed}");
    println!("{tally}");
    match tally.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} answers are wrong").into()),
    }
}

/// The counts of all runs and judged queries.
#[derive(Debug, Default)]
struct Tally {
    /// Runs whose answer is right.
    passed: usize,
    /// Runs with a wrong answer or with an error.
    failed: usize,
    /// Queries that DuckDB judged in addition to plain DataFusion.
    judged_by_duckdb: usize,
    /// Queries that DuckDB judged with a changed text.
    reworded: usize,
    /// Queries that only plain DataFusion judged.
    left_to_plain: usize,
}

impl Tally {
    /// Adds the queries of a suite that were judged.
    fn add_judges(&mut self, judges: &Judges, ran: usize) {
        let Some(duckdb) = judges.duckdb() else {
            self.left_to_plain += ran;
            return;
        };
        let counts = duckdb.counts();
        self.judged_by_duckdb += counts.judged.len();
        self.reworded += counts.reworded.len();
        self.left_to_plain += counts.left_out.len();
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, judged_by_duckdb, reworded, left_to_plain } = self;
        write!(f, "{passed} passed, {failed} failed; DuckDB judged {judged_by_duckdb} queries")?;
        write!(f, " ({reworded} in other words), plain DataFusion alone {left_to_plain}")
    }
}

/// Runs one suite on the clusters, one after the other.
async fn run_suite(args: &CorrectnessArgs, name: SuiteName, mut lot: fastrand::Rng, tally: &mut Tally) -> Result<()> {
    let data = args.data.join(name.name());
    name.generate(&data, args.scale)?;
    let suite = name.load(&data)?;
    let mut judges = judges(args, name, &suite).await?;
    let mut ran = BTreeSet::new();
    let shapes = match args.sample {
        Some(_) => vec![SHAPES[lot.usize(..SHAPES.len())]],
        None => SHAPES.to_vec(),
    };
    for shape in shapes {
        let scratch = tempfile::tempdir()?;
        let cluster = Cluster::start(shape, &suite, scratch.path()).await?;
        let mut runs = runs(&suite, &variants(&cluster).await?);
        if let Some(sample) = args.sample {
            lot.shuffle(&mut runs);
            runs.truncate(sample);
        }
        for run in &runs {
            ran.insert(run.query);
            match wrong(&cluster, &suite, &mut judges, run).await? {
                None => tally.passed += 1,
                Some(reason) => {
                    let variant = run.variant.join("; ");
                    println!("{} q{} on {shape:?} with {variant}: {reason}", name.name(), run.query);
                    tally.failed += 1;
                }
            }
        }
        println!("{} on {shape:?}: {} runs, {} failed so far", name.name(), runs.len(), tally.failed);
    }
    tally.add_judges(&judges, ran.len());
    Ok(())
}

async fn judges(args: &CorrectnessArgs, name: SuiteName, suite: &Suite) -> Result<Judges> {
    let plain = Judge::new(suite, Likeness::SameEngine).await?;
    let duckdb = match &args.python {
        Some(python) => Some(Duckdb::start(python, name, suite).await?),
        None => None,
    };
    Ok(Judges::new(plain, duckdb))
}

fn today() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / (24 * 60 * 60))
}

/// The `SET` statements that run before a query.
type Variant = Vec<String>;

/// One query under one variant.
#[derive(Clone, Debug)]
struct Run {
    query: usize,
    variant: Variant,
}

/// The variants. With [`SPREAD`]: default settings, small batches, no broadcasts, each technique off, all techniques
/// off. Without [`SPREAD`], small queries run as one task: default settings, `replan` off (a query that outgrows its
/// one task is not planned again), and `distributed` off (every query runs as one task).
async fn variants(cluster: &Cluster) -> Result<Vec<Variant>> {
    let techniques = cluster.techniques().await?;
    let off = |name: &String| format!("SET {name} = false");
    let mut variants = vec![
        vec![],
        vec!["SET datafusion.execution.batch_size = 100".to_owned()],
        vec![
            "SET hwacha.optimizer.broadcast_rows = 0".to_owned(),
            "SET hwacha.optimizer.broadcast_bytes = 0".to_owned(),
        ],
    ];
    variants.extend(techniques.iter().map(|name| vec![off(name)]));
    variants.push(techniques.iter().map(off).collect());
    variants.iter_mut().for_each(|variant| variant.splice(..0, SPREAD.map(str::to_owned)).for_each(drop));
    variants.push(vec![]);
    for setting in ["replan", "distributed"] {
        variants.push(vec![format!("SET hwacha.optimizer.{setting} = false")]);
    }
    Ok(variants)
}

/// Every query under every variant, variant by variant.
fn runs(suite: &Suite, variants: &[Variant]) -> Vec<Run> {
    let run = |variant: &Variant, query: &usize| Run { query: *query, variant: variant.clone() };
    variants.iter().flat_map(|variant| suite.queries.keys().map(move |query| run(variant, query))).collect()
}

/// Runs a query on the cluster. Returns the difference or the error if the answer is wrong.
async fn wrong(cluster: &Cluster, suite: &Suite, judges: &mut Judges, run: &Run) -> Result<Option<String>> {
    match answer(cluster, &suite.queries[&run.query], &run.variant).await? {
        Ok(rows) => judges.wrong(run.query, &rows).await,
        Err(error) => Ok(Some(error)),
    }
}

/// The rows of a query under a variant, or its error. The settings of the variant are reset afterwards.
async fn answer(
    cluster: &Cluster,
    sql: &str,
    variant: &[String],
) -> Result<std::result::Result<Vec<arrow::array::RecordBatch>, String>> {
    cluster.set(variant).await?;
    let answer = cluster.rows(sql).await.map_err(|error| error.to_string());
    let reset = |statement: &String| {
        let name = statement.split_whitespace().nth(1).expect("a variant is made of SET name = value");
        format!("RESET {name}")
    };
    cluster.set(&variant.iter().map(reset).collect::<Vec<_>>()).await?;
    Ok(answer)
}
