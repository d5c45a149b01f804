//! Measures the gain of each technique: runs a suite with all techniques on, with each one off, and with all off. Some
//! techniques need others: `split_partitions` needs `adaptive`, and `shared_scans` needs `shared_subplans`.
//!
//! A query runs with every setting before the next query starts. So if the machine is busy for some seconds, the query
//! is slower with every setting, and the ratios stay right. With each setting the query runs twice, and the second run
//! is measured. With every setting, the answer must equal that of plain DataFusion.

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use hwacha_workloads::answers::Likeness;
use serde::Serialize;

use crate::Result;
use crate::cluster::{Answered, Cluster, ClusterArgs};
use crate::judge::Judge;
use crate::output::{Bar, Measurement};
use crate::report::median;

const NONE_OFF: &str = "all on";
const ALL_OFF: &str = "all off";
/// Techniques with a size limit, and the settings that turn them off when they are 0. The line [`ALL_OFF`] does not
/// turn them off.
const SIZES: [(&str, &[&str]); 2] = [
    ("small queries on one executor", &["hwacha.optimizer.single_task_bytes"]),
    ("broadcasts", &["hwacha.optimizer.broadcast_bytes", "hwacha.optimizer.broadcast_rows"]),
];

/// Generates missing data, starts the cluster, runs the queries and prints the table. Fails if an answer is wrong.
pub(crate) async fn run(args: AblateArgs) -> Result<()> {
    let AblateArgs { cluster: args, only } = args;
    let suite = args.workload.suite()?;
    let mut judge = Judge::prepared(&suite, Likeness::SameEngine).await?;
    let scratch = tempfile::tempdir()?;
    let cluster = Cluster::start(args.shape(), &suite, scratch.path()).await?;
    cluster.set(&args.workload.set).await?;
    let mut settings = settings(&cluster, &only).await?;
    let mut wrong = 0;
    for round in 0..args.workload.rounds {
        for (number, sql) in &suite.queries {
            wrong += measure(&cluster, &mut judge, *number, sql, &mut settings).await?;
            eprintln!("round {} q{number}", round + 1);
        }
    }
    let table = Table::new(settings);
    let title = format!("{}: how many times all queries take with a technique off", args.workload.title());
    args.workload.output.give(&table, &title)?;
    match wrong {
        0 => Ok(()),
        wrong => Err(format!("{wrong} answers were not plain DataFusion's").into()),
    }
}

/// The cluster, and the techniques that are turned off.
#[derive(Args, Clone, Debug)]
pub(crate) struct AblateArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Turns only these techniques off, such as hwacha.optimizer.replan. Without it: each in turn, and all together.
    #[arg(long, value_name = "SETTING", value_delimiter = ',')]
    only: Vec<String>,
}

/// One line of the table: the settings that are turned off, and the measurements.
struct Setting {
    name: String,
    /// Names of the settings, and the values that turn them off.
    off: Vec<(String, &'static str)>,
    /// Run times by query, one for each round.
    seconds: BTreeMap<usize, Vec<f64>>,
    exchanged_bytes: BTreeMap<usize, u64>,
}

impl Setting {
    fn new(name: &str, off: impl IntoIterator<Item = String>, value: &'static str) -> Self {
        let off = off.into_iter().map(|setting| (setting, value)).collect();
        Self { name: name.to_owned(), off, seconds: BTreeMap::new(), exchanged_bytes: BTreeMap::new() }
    }
}

/// The lines of the table: all settings, or those of the techniques in `only`.
async fn settings(cluster: &Cluster, only: &[String]) -> Result<Vec<Setting>> {
    let techniques = cluster.techniques().await?;
    if let Some(unknown) = only.iter().find(|name| !techniques.contains(name)) {
        return Err(format!("there is no technique {unknown}; there are {}", techniques.join(", ")).into());
    }
    if !only.is_empty() {
        let each = only.iter().map(|name| Setting::new(name, [name.clone()], "false"));
        return Ok([Setting::new(NONE_OFF, [], "false")].into_iter().chain(each).collect());
    }
    let mut settings = vec![Setting::new(NONE_OFF, [], "false")];
    settings.extend(techniques.iter().map(|name| Setting::new(name, [name.clone()], "false")));
    let sizes = SIZES.iter().map(|(name, sizes)| Setting::new(name, sizes.iter().map(ToString::to_string), "0"));
    settings.extend(sizes);
    settings.push(Setting::new(ALL_OFF, techniques, "false"));
    Ok(settings)
}

/// Runs a query with each of the settings. Returns the number of wrong answers.
async fn measure(
    cluster: &Cluster,
    judge: &mut Judge,
    number: usize,
    sql: &str,
    settings: &mut [Setting],
) -> Result<usize> {
    let mut wrong = 0;
    for setting in settings {
        for (name, value) in &setting.off {
            cluster.rows(&format!("SET {name} = {value}")).await?;
        }
        // The first run is not measured: caches and memory still hold data of another query, and the plan must be made.
        // The second run takes its plan from the cache.
        cluster.query(sql).await?;
        let Answered { seconds, rows, progress } = cluster.query(sql).await?;
        setting.seconds.entry(number).or_default().push(seconds);
        setting.exchanged_bytes.insert(number, progress.exchange_bytes);
        for (name, _) in &setting.off {
            cluster.rows(&format!("RESET {name}")).await?;
        }
        if let Some(difference) = judge.wrong(number, &rows).await? {
            eprintln!("q{number} with {} off: {difference}", setting.name);
            wrong += 1;
        }
    }
    Ok(wrong)
}

#[derive(Serialize)]
struct Line {
    off: String,
    seconds: f64,
    /// The seconds divided by the seconds with all techniques on.
    ratio: f64,
    exchanged_bytes: u64,
    /// The query that gains most from the technique: its number, and its time without the technique divided by its time
    /// with it.
    gains_most: (usize, f64),
    loses_most: (usize, f64),
    /// The ratio of each query.
    ratios: Vec<(usize, f64)>,
}

/// Seconds are sums over the queries. For each query, the median of its rounds counts.
#[derive(Serialize)]
struct Table {
    lines: Vec<Line>,
}

impl Table {
    fn new(settings: Vec<Setting>) -> Self {
        let numbers: Vec<usize> = settings[0].seconds.keys().copied().collect();
        let medians = |setting: &Setting| -> Vec<f64> { setting.seconds.values().map(|it| median(it)).collect() };
        let best = medians(&settings[0]);
        let lines = settings.iter().map(|setting| {
            let seconds = medians(setting);
            let ratio = |index: usize| seconds[index] / best[index];
            let mut order: Vec<usize> = (0..numbers.len()).collect();
            order.sort_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
            let query = |index: usize| (numbers[index], ratio(index));
            Line {
                off: setting.name.clone(),
                seconds: seconds.iter().sum(),
                ratio: seconds.iter().sum::<f64>() / best.iter().sum::<f64>(),
                exchanged_bytes: setting.exchanged_bytes.values().sum(),
                gains_most: query(order[order.len() - 1]),
                loses_most: query(order[0]),
                ratios: (0..numbers.len()).map(query).collect(),
            }
        });
        Self { lines: lines.collect() }
    }
}

impl Measurement for Table {
    fn bars(&self) -> Vec<Bar> {
        let bar = |line: &Line| {
            let (value, is_hwacha) = (line.ratio, line.off == NONE_OFF);
            Bar { name: line.off.clone(), value, text: format!("{value:.2}"), is_hwacha }
        };
        self.lines.iter().map(bar).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let off = "off";
        writeln!(f, "{off:<36} seconds   ratio   exchanged      gains most      loses most")?;
        for line in &self.lines {
            let query = |(number, ratio): (usize, f64)| format!("q{number} {ratio:.2}");
            writeln!(
                f,
                "{:<36} {:>7.2} {:>7.2} {:>7.0} MiB {:>15} {:>15}",
                line.off,
                line.seconds,
                line.ratio,
                line.exchanged_bytes as f64 / f64::from(1 << 20),
                query(line.gains_most),
                query(line.loses_most),
            )?;
        }
        Ok(())
    }
}
