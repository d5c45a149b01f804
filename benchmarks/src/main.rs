//! `hwacha-benchmarks`: Hwacha against plain DataFusion on the same cores, memory allocator and files, in one run.
//!
//! Where the two are compared, every party is a process of this same binary, so that memory is measured per process and
//! code is compiled alike. Each query runs on both in turn, several rounds, so that a busy machine troubles both alike;
//! medians are compared. Peers are other processes, one by one; the smallest things are measured within one.

mod ablate;
mod cluster;
mod compare;
mod correctness;
mod costs;
mod duckdb;
mod exchange;
mod fleet;
mod inflation;
mod judge;
mod latency;
mod memory;
mod output;
mod parties;
mod peers;
mod plain_flight;
mod report;
mod slices;
mod suites;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hwacha_executor::CountingAllocator;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: CountingAllocator<MiMalloc> = CountingAllocator(MiMalloc);

/// What can go wrong here ends the run, so it is only ever shown.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
#[command(version, about = "Measures Hwacha against plain DataFusion.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A suite on Hwacha and on plain DataFusion.
    #[command(visible_alias = "tpch")]
    Compare(cluster::ClusterArgs),
    /// A suite on Hwacha and its peers, which are installed first.
    Peers(peers::PeersArgs),
    /// A suite with each of Hwacha's techniques turned off in turn.
    Ablate(cluster::ClusterArgs),
    /// How much more is computed when a suite is spread over more executors.
    Inflation(cluster::WorkloadArgs),
    /// How long small queries take, against plain DataFusion.
    Latency(latency::LatencyArgs),
    /// How fast the exchange between executors is, against plain Arrow Flight and copying memory.
    Exchange(exchange::ExchangeArgs),
    /// What a row costs in joins, groups and repartitioning: the weights of the cost model.
    Costs(costs::CostsArgs),
    /// What the scheduler's decisions cost on up to 1,000 executors, by simulation.
    Fleet(fleet::FleetArgs),
    /// All suites under all settings on clusters of several sizes, judged by plain DataFusion and DuckDB.
    Correctness(correctness::CorrectnessArgs),
    #[command(flatten)]
    Party(parties::Party),
}

fn main() -> ExitCode {
    hwacha_executor::keep_freed_memory();
    let command = Arguments::parse().command;
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    let done = match command {
        Command::Compare(args) => block_on(compare::run(args)),
        Command::Peers(args) => block_on(peers::run(args)),
        Command::Ablate(args) => block_on(ablate::run(args)),
        Command::Inflation(args) => {
            slices::lengthen();
            block_on(inflation::run(args))
        }
        Command::Latency(args) => block_on(latency::run(args)),
        Command::Exchange(args) => block_on(exchange::run(args)),
        Command::Costs(args) => costs::run(&args),
        Command::Fleet(args) => fleet::run(&args),
        Command::Correctness(args) => block_on(correctness::run(args)),
        Command::Party(party) => parties::run(party),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(run: impl Future<Output = Result<()>>) -> Result<()> {
    parties::runtime(2)?.block_on(run)
}
