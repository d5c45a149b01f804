//! `hwacha demo`: a cluster of real processes runs TPC-H, and every answer is checked against plain DataFusion.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use clap::Args;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_client::{Connection, Progress};
use hwacha_workloads::answers::difference;
use hwacha_workloads::tpch;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::error::CliError;
use crate::signals;

/// Time within which a process of the cluster must print its `ready` line; otherwise the demo fails.
const START: Duration = Duration::from_secs(30);

/// The arguments of `hwacha demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// The TPC-H scale factor. Scale 1 is a gigabyte as text, about 300 MB as Parquet.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = scale)]
    scale: f64,
    /// Directory for the generated data. The next run uses it again.
    #[arg(long, default_value = "data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Number of executors. Each has an equal share of the machine's cores.
    #[arg(long, default_value_t = 2, value_name = "NUMBER")]
    executors: usize,
    /// Keeps the cluster running until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if (0.001..=1000.0).contains(&scale) => Ok(scale),
        _ => Err("a scale factor lies between 0.001 and 1000".to_owned()),
    }
}

/// Generates the data, starts the cluster, runs the queries, and prints each answer's check. Fails if any answer
/// differs from plain DataFusion's.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode, CliError> {
    let directory = args.data_dir.join(format!("tpch-{}", args.scale));
    let directory =
        std::path::absolute(&directory).map_err(|source| CliError::WriteFile { path: directory.clone(), source })?;
    generate(&directory, args.scale).await?;
    let cluster = DemoCluster::start(args.executors.max(1), &directory).await?;
    println!("A scheduler and {} executors run at {}.", args.executors.max(1), cluster.url);
    let connection = Connection::connect(&cluster.url).await?;
    let plain = plain_datafusion(&directory).await?;
    for table in tpch::TABLES {
        connection.query(&tpch::create_table(&directory, table)).await?.collect().await?;
    }
    println!(
        "{:>5} {:>8} {:>9} {:>7} {:>6} {:>12}  answer",
        "query", "rows", "seconds", "stages", "tasks", "exchanged"
    );
    let mut wrong = 0;
    for (index, sql) in tpch::QUERIES.iter().enumerate() {
        let ran = run_query(&connection, sql).await?;
        let expected = plain.sql(sql).await.map_err(data)?.collect().await.map_err(data)?;
        let difference = difference(&expected, &ran.rows).map_err(|error| CliError::Data(error.to_string()))?;
        wrong += usize::from(difference.is_some());
        report(index + 1, &ran, difference.as_deref());
    }
    match wrong {
        0 => println!("All 22 answers equal plain DataFusion's."),
        wrong => println!("{wrong} of 22 answers differ from plain DataFusion's."),
    }
    if args.keep {
        println!("The cluster runs until Ctrl-C. Open a shell on it with: hwacha sql --url {}", cluster.url);
        signals::stop().await;
    } else {
        println!("The cluster stops now. Run the demo with --keep to keep it running.");
    }
    cluster.stop().await;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn generate(directory: &Path, scale: f64) -> Result<(), CliError> {
    let total = tpch::TABLES.iter().map(|table| tpch::rows(table, scale)).sum();
    let bar = ProgressBar::new(total);
    let style = "Generating TPC-H {bar:40} {human_pos}/{human_len} rows {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let (directory, progress) = (directory.to_owned(), bar.clone());
    let generated = tokio::task::spawn_blocking(move || tpch::generate(&directory, scale, |rows| progress.inc(rows)));
    let generated = generated.await.map_err(|error| CliError::Data(error.to_string()))?;
    bar.finish_and_clear();
    generated.map_err(|error| CliError::Data(error.to_string()))
}

async fn plain_datafusion(directory: &Path) -> Result<SessionContext, CliError> {
    let context = SessionContext::new();
    for table in tpch::TABLES {
        let path = tpch::path(directory, table).display().to_string();
        context.register_parquet(table, path, ParquetReadOptions::default()).await.map_err(data)?;
    }
    Ok(context)
}

fn data(error: datafusion::error::DataFusionError) -> CliError {
    CliError::Data(error.to_string())
}

struct Ran {
    rows: Vec<RecordBatch>,
    elapsed: Duration,
    progress: Progress,
}

async fn run_query(connection: &Connection, sql: &str) -> Result<Ran, CliError> {
    let started = Instant::now();
    let query = connection.query(sql).await?;
    let id = query.id().map(str::to_owned);
    let rows = query.collect().await?;
    let elapsed = started.elapsed();
    let progress = match id {
        Some(id) => connection.progress(&id).await?,
        None => Progress::default(),
    };
    Ok(Ran { rows, elapsed, progress })
}

fn report(number: usize, ran: &Ran, difference: Option<&str>) {
    let rows: usize = ran.rows.iter().map(RecordBatch::num_rows).sum();
    println!(
        "{:>5} {rows:>8} {:>9.3} {:>7} {:>6} {:>12}  {}",
        format!("q{number}"),
        ran.elapsed.as_secs_f64(),
        ran.progress.stages,
        ran.progress.tasks,
        HumanBytes(ran.progress.exchange_bytes).to_string(),
        difference.map_or("equal".to_owned(), |difference| format!("DIFFERENT: {difference}")),
    );
}

/// A scheduler and executors as processes of this same binary. Dropping it kills them.
struct DemoCluster {
    url: String,
    executors: Vec<Child>,
    scheduler: Child,
    _directory: tempfile::TempDir,
}

impl DemoCluster {
    async fn start(executors: usize, data: &Path) -> Result<Self, CliError> {
        let directory = tempfile::tempdir().map_err(|error| CliError::Data(error.to_string()))?;
        let data_dir = directory.path().join("scheduler").display().to_string();
        let spill_dir = directory.path().join("spill").display().to_string();
        let data = data.display().to_string();
        let flags = ["scheduler", "--listen", "127.0.0.1:0", "--data-dir", &data_dir, "--allow-location", &data];
        let (scheduler, address) = start(&flags).await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = (cores / executors).max(1).to_string();
        let memory = (hwacha_executor::default_memory_limit_bytes() / executors).to_string();
        let url = format!("http://{address}");
        let mut children = vec![];
        for _ in 0..executors {
            let flags = ["executor", "--scheduler", &url, "--cores", &cores, "--memory-limit", &memory];
            let flags: Vec<_> = flags.into_iter().chain(["--spill-dir", &spill_dir]).collect();
            children.push(start(&flags).await?.0);
        }
        Ok(Self { url: format!("grpc://{address}"), executors: children, scheduler, _directory: directory })
    }

    /// Kills every process. The drop of the temporary directory removes their state and spill files.
    async fn stop(mut self) {
        for mut child in self.executors.drain(..).chain([self.scheduler]) {
            // The process may have ended already, so an error is ignored.
            let _ = child.kill().await;
        }
    }
}

/// Starts a process of this binary and waits for the line `ready ADDRESS` on its standard output.
async fn start(arguments: &[&str]) -> Result<(Child, String), CliError> {
    let failed = |text: String| CliError::Data(format!("hwacha {} did not start: {text}", arguments[0]));
    let binary = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(binary);
    // Variables such as HWACHA_LISTEN are meant for processes that the user starts.
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|variable| variable.starts_with("HWACHA_")) {
            command.env_remove(variable);
        }
    }
    let mut child = command
        .args(arguments)
        .args(["--log-filter", "warn"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let mut lines = BufReader::new(stdout).lines();
    match tokio::time::timeout(START, lines.next_line()).await {
        Ok(Ok(Some(line))) => match line.strip_prefix("ready ") {
            Some(address) => Ok((child, address.to_owned())),
            None => Err(failed(line)),
        },
        Ok(Ok(None)) => Err(failed("it ended".to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("it was not ready within {} s", START.as_secs()))),
    }
}
