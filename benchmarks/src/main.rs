//! `hwacha-benchmarks`: Hwacha against plain DataFusion on the same cores, memory allocator and files, in one run.
//!
//! In a comparison with plain DataFusion, every party is a process of this binary. So memory is measured per process,
//! and both sides are compiled in the same way. Each query runs on both sides in turn, for several rounds, so a busy
//! machine slows both alike. The medians of the rounds are compared. Peers are other programs. Single parts, such as
//! the exchange, are measured within this process.

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
mod remote;
mod report;
mod slices;
mod slow_store;
mod suites;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hwacha_executor::CountingAllocator;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: CountingAllocator<MiMalloc> = CountingAllocator(MiMalloc);

/// Every error ends the run and is only printed, so errors need no types.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
#[command(version, about = "Measures Hwacha against plain DataFusion.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a suite on Hwacha and on plain DataFusion.
    #[command(visible_alias = "tpch")]
    Compare(cluster::ClusterArgs),
    /// Runs a suite on Hwacha and its peers. Installs the peers first.
    Peers(peers::PeersArgs),
    /// Runs a suite over files in a store with the latency of a network, on Hwacha, plain DataFusion and DuckDB.
    Remote(remote::RemoteArgs),
    /// Runs a suite with each of Hwacha's techniques turned off in turn.
    Ablate(ablate::AblateArgs),
    /// Measures how much more CPU time a suite takes on more executors.
    Inflation(cluster::WorkloadArgs),
    /// Measures the time of small queries, compared with plain DataFusion.
    Latency(latency::LatencyArgs),
    /// Measures the speed of the exchange between executors, compared with plain Arrow Flight and copying memory.
    Exchange(exchange::ExchangeArgs),
    /// Measures the cost of a row in joins, groups and repartitioning, for the weights of the cost model.
    Costs(costs::CostsArgs),
    /// Measures the time of the scheduler's decisions with up to 1,000 executors, by simulation.
    Fleet(fleet::FleetArgs),
    /// Runs all suites with all settings on clusters of several sizes. Plain DataFusion and DuckDB judge the answers.
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
        Command::Remote(args) => block_on(remote::run(args)),
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
