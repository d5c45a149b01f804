//! TPC-H on both, query by query, round by round.

use std::path::PathBuf;
use std::time::Instant;

use arrow::array::RecordBatch;
use clap::Args;
use hwacha_client::{Connection, Progress};
use hwacha_model::ByteSize;
use hwacha_workloads::answers::difference;
use hwacha_workloads::tpch;

use crate::Result;
use crate::parties::Process;
use crate::report::{Measured, PeakMemory, Report};

/// What `tpch` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct TpchArgs {
    /// Directory of the tables' Parquet files; those that are missing are generated.
    #[arg(long, default_value = "data/tpch-10", value_name = "DIRECTORY")]
    data: PathBuf,
    /// The scale factor of what is generated.
    #[arg(long, default_value_t = 10.0)]
    scale: f64,
    #[arg(long, default_value_t = 2)]
    executors: usize,
    /// Cores of each executor. Plain DataFusion has as many as all executors together.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Memory of each executor, such as 1GiB. Plain DataFusion, whose answers must be there, has no limit.
    #[arg(long, default_value = "6GiB", value_name = "SIZE")]
    memory_limit: ByteSize,
    /// How often each query runs on each party.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these queries, such as `1,6,18`.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
    /// Statements such as `SET hwacha.exchange.pipelined = false` that come first on Hwacha's side.
    #[arg(long)]
    set: Vec<String>,
    /// Prints JSON in place of a table.
    #[arg(long)]
    json: bool,
}

/// Generates, starts, runs, prints. Fails if an answer differs or a query fails.
pub(crate) async fn run(args: TpchArgs) -> Result<()> {
    let numbers = if args.queries.is_empty() { (1..=tpch::QUERIES.len()).collect() } else { args.queries.clone() };
    if let Some(wrong) = numbers.iter().find(|number| !(1..=tpch::QUERIES.len()).contains(number)) {
        return Err(format!("there is no TPC-H query {wrong}").into());
    }
    tpch::generate(&args.data, args.scale, |_| {})?;
    let scratch = tempfile::tempdir()?;
    let mut parties = Parties::start(&args, scratch.path()).await?;
    let mut measured: Vec<_> = numbers.iter().map(|number| Measured::new(*number)).collect();
    for round in 0..args.rounds {
        for query in &mut measured {
            parties.measure(query, scratch.path()).await?;
            eprintln!("round {} q{}: {}", round + 1, query.number, query.last());
        }
    }
    let report = Report::new(measured, parties.peaks()?);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => println!("{report}"),
    }
    match report.wrong() {
        0 => Ok(()),
        wrong => Err(format!("{wrong} queries failed or gave other rows than plain DataFusion").into()),
    }
}

/// All processes, and the connection to Hwacha's.
struct Parties {
    plain: Process,
    scheduler: Process,
    executors: Vec<Process>,
    connection: Connection,
}

impl Parties {
    async fn start(args: &TpchArgs, scratch: &std::path::Path) -> Result<Self> {
        let data = std::path::absolute(&args.data)?;
        let path = |name: &str| scratch.join(name).display().to_string();
        let plain = [data.display().to_string(), (args.cores * args.executors).to_string()];
        let plain = Process::start(&["plain", &plain[0], &plain[1]]).await?;
        let scheduler = Process::start(&["scheduler", &path("scheduler")]).await?;
        let url = format!("http://{}", scheduler.address);
        let (cores, memory) = (args.cores.to_string(), args.memory_limit.0.to_string());
        let mut executors = vec![];
        for _ in 0..args.executors {
            executors.push(Process::start(&["executor", &url, &path("spill"), &cores, &memory]).await?);
        }
        let connection = Connection::connect(&format!("grpc://{}", scheduler.address)).await?;
        for table in tpch::TABLES {
            connection.query(&tpch::create_table(&data, table)).await?.collect().await?;
        }
        for statement in &args.set {
            connection.query(statement).await?.collect().await?;
        }
        Ok(Self { plain, scheduler, executors, connection })
    }

    /// Runs the query once on each side.
    async fn measure(&mut self, query: &mut Measured, scratch: &std::path::Path) -> Result<()> {
        let (plain, expected) = self.plain.query(query.number, scratch).await?;
        query.plain_seconds.push(plain);
        let started = Instant::now();
        match self.on_hwacha(query.number).await {
            Ok((rows, progress)) => {
                query.hwacha_seconds.push(started.elapsed().as_secs_f64());
                query.exchanged_bytes = progress.exchange_bytes;
                query.spilled_bytes = progress.spilled_bytes;
                query.failure = query.failure.take().or(difference(&expected, &rows)?);
            }
            Err(error) => query.failure = Some(error.to_string()),
        }
        Ok(())
    }

    async fn on_hwacha(&self, number: usize) -> Result<(Vec<RecordBatch>, Progress)> {
        let query = self.connection.query(tpch::QUERIES[number - 1]).await?;
        let id = query.id().map(str::to_owned).ok_or("the query has no number")?;
        let rows = query.collect().await?;
        Ok((rows, self.connection.progress(&id).await?))
    }

    fn peaks(&self) -> Result<PeakMemory> {
        Ok(PeakMemory {
            plain_bytes: self.plain.peak_bytes()?,
            scheduler_bytes: self.scheduler.peak_bytes()?,
            executor_bytes: self.executors.iter().map(Process::peak_bytes).collect::<Result<_>>()?,
        })
    }
}
