//! The `hwacha` binary: the shell, the processes of a cluster, and a demonstration. One file per command.

mod demo;
mod error;
mod executor;
mod health;
mod logs;
mod scheduler;
mod settings;
mod signals;
mod sql;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use hwacha_executor::{CountingAllocator, tell_process};

use crate::error::CliError;

#[global_allocator]
static ALLOCATOR: CountingAllocator<mimalloc::MiMalloc> = CountingAllocator(mimalloc::MiMalloc);

/// The name of this build: its version and a hash of its sources. `build.rs` computes it.
const BUILD: &str = env!("HWACHA_BUILD");

/// Bytes of stack of each thread (16 MiB, tokio's default is 2 MiB). Polling a deep plan recurses through its
/// operators.
const STACK_BYTES: usize = 16 << 20;

/// Hwacha: a distributed SQL query engine.
#[derive(Parser)]
#[command(name = "hwacha", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs SQL from a shell, a statement or a file, on a cluster in this process or on a running one.
    Sql(sql::SqlArgs),
    /// Runs a scheduler: clients and executors connect to it.
    Scheduler(scheduler::SchedulerArgs),
    /// Runs an executor: it runs tasks for a scheduler.
    Executor(executor::ExecutorArgs),
    /// Generates TPC-H data, starts a cluster of processes, runs the 22 queries and checks every answer.
    Demo(demo::DemoArgs),
    /// Asks a scheduler or an executor whether it takes work. Probes of containers use it.
    Health(health::HealthArgs),
    /// Prints the version.
    Version,
}

fn main() -> ExitCode {
    hwacha_executor::keep_freed_memory();
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, CliError> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let mut command = Cli::command();
    let matches = settings::with_file(&mut command, arguments)?;
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .on_thread_stop(tell_process)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let code = runtime.block_on(async {
        match cli.command {
            Command::Sql(args) => sql::run(args).await,
            Command::Scheduler(args) => scheduler::run(args).await,
            Command::Executor(args) => executor::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Health(args) => health::run(args).await,
            Command::Version => {
                println!("hwacha {}", env!("CARGO_PKG_VERSION"));
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    runtime.shutdown_background();
    code
}
