//! Whether Hwacha's answers are plain DataFusion's: every query of every suite, on clusters of several sizes, under every
//! setting, or a sample of all that.

use std::path::PathBuf;

use clap::Args;
use hwacha_model::ByteSize;
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::suite::Suite;

use crate::Result;
use crate::cluster::{Cluster, Shape};
use crate::judge::Judge;
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
/// However small the data, queries are spread over the executors, what is equal runs once, few stages shrink, and joins
/// share what is heavy and sorts.
const SPREAD: [&str; 7] = [
    "SET hwacha.optimizer.single_task_bytes = 0",
    "SET hwacha.optimizer.shared_subplan_bytes = 0",
    "SET hwacha.optimizer.adaptive_task_bytes = 65536",
    "SET hwacha.optimizer.split_partition_bytes = 65536",
    "SET hwacha.optimizer.range_bytes = 65536",
    "SET hwacha.optimizer.eager_aggregate_rows = 0",
    "SET datafusion.optimizer.repartition_file_min_size = 1",
];

/// What is run.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub(crate) struct CorrectnessArgs {
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["tpch", "tpcds", "clickbench", "h2o"])]
    suites: Vec<SuiteName>,
    /// A directory with one of each suite's name, for its tables. What is missing is generated.
    #[arg(long, default_value = "data/correctness", value_name = "DIRECTORY")]
    data: PathBuf,
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only so many runs of each suite, on one cluster: which ones, the seed says.
    #[arg(long)]
    sample: Option<usize>,
    /// The same seed takes the same sample; by default it is the number of days since 1970.
    #[arg(long)]
    seed: Option<u64>,
}

/// Generates, starts, runs, prints. Fails if an answer differs or a query fails.
pub(crate) async fn run(args: CorrectnessArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(today);
    let (mut passed, mut failed) = (0, 0);
    for (index, &name) in args.suites.iter().enumerate() {
        let data = args.data.join(name.name());
        name.generate(&data, args.scale)?;
        let suite = name.load(&data)?;
        let mut judge = Judge::new(&suite, Likeness::SameEngine).await?;
        let mut lot = fastrand::Rng::with_seed(seed.wrapping_add(index as u64));
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
                match wrong(&cluster, &suite, &mut judge, run).await? {
                    None => passed += 1,
                    Some(reason) => {
                        println!(
                            "{} q{} on {shape:?} with {}: {reason}",
                            name.name(),
                            run.query,
                            run.variant.join("; ")
                        );
                        failed += 1;
                    }
                }
            }
            println!("{} on {shape:?}: {} runs, {failed} failed so far", name.name(), runs.len());
        }
    }
    println!("seed {seed}");
    println!("{passed} passed, {failed} failed");
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} answers are not plain DataFusion's").into()),
    }
}

fn today() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / (24 * 60 * 60))
}

/// Statements that come before a query.
type Variant = Vec<String>;

/// One query under one variant.
#[derive(Clone, Debug)]
struct Run {
    query: usize,
    variant: Variant,
}

/// As it is, in small batches, nothing broadcast, and each technique off; all of them spread. Then what may be one task, what
/// stays one even if it outgrows that, and what always is one.
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

/// Runs a query on the cluster: what is wrong with its answer, if anything.
async fn wrong(cluster: &Cluster, suite: &Suite, judge: &mut Judge, run: &Run) -> Result<Option<String>> {
    match answer(cluster, &suite.queries[&run.query], &run.variant).await? {
        Ok(rows) => judge.wrong(run.query, &rows).await,
        Err(error) => Ok(Some(error)),
    }
}

/// The rows of a query under a variant, or why there are none. The session is as before afterwards.
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
