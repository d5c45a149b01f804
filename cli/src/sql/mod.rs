//! `hwacha sql`: statements from the command line, a file, standard input or a prompt, against a cluster.

mod commands;
mod editor;
mod format;
mod progress;
mod shell;
mod statements;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hwacha_client::Connection;
use hwacha_local::{LocalCluster, LocalConfig};
use hwacha_model::ByteSize;

use crate::error::CliError;
use crate::settings;
use format::Format;
use shell::Shell;

/// The arguments of `hwacha sql`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SqlArgs {
    /// URL of a scheduler, such as grpc://127.0.0.1:50050. Without it, a cluster runs in this process.
    #[arg(long, env = "HWACHA_URL", value_name = "URL")]
    url: Option<String>,
    /// Runs these statements and ends. May be given several times.
    #[arg(short = 'c', long, value_name = "SQL")]
    command: Vec<String>,
    /// Runs the statements of a file and ends.
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// Format of the printed rows.
    #[arg(long, env = "HWACHA_FORMAT", default_value = "table", value_name = "FORMAT")]
    format: Format,
    /// Prints how long each statement took.
    #[arg(long)]
    timing: bool,
    /// Prints rows only.
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Number of compute threads of the cluster in this process. Without it: the number of the machine's cores.
    #[arg(long, env = "HWACHA_CORES", value_name = "NUMBER")]
    cores: Option<usize>,
    /// Memory limit of the cluster in this process, such as 2GiB. Without it: 60 % of the machine's memory.
    #[arg(long, env = "HWACHA_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<ByteSize>,
    /// Directory for tables and views of the cluster in this process. Without it, they are dropped at the end.
    #[arg(long, env = "HWACHA_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// TOML file with settings. Its keys are the names of these flags. Flags and environment variables override it.
    #[arg(long, env = "HWACHA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the statements of the flags `-c` or `-f`, or of standard input. Opens the prompt if both flags are missing and
/// standard input is a terminal.
pub(crate) async fn run(args: SqlArgs) -> Result<ExitCode, CliError> {
    let cluster = match &args.url {
        Some(_) => None,
        None => Some(LocalCluster::start(local_config(&args)?).await?),
    };
    let url = cluster.as_ref().map(LocalCluster::url).or(args.url.clone()).expect("one of them is there");
    let connection = Connection::connect(&url).await?;
    let interactive = args.command.is_empty() && args.file.is_none() && std::io::stdin().is_terminal();
    let mut shell = Shell::new(connection, args.format, args.timing, args.quiet || !interactive);
    let code = if interactive { shell.prompt().await? } else { batch(&args, &mut shell).await? };
    if let Some(cluster) = cluster {
        cluster.shutdown().await;
    }
    Ok(code)
}

/// Runs statements without a prompt and stops at the first one that fails.
async fn batch(args: &SqlArgs, shell: &mut Shell) -> Result<ExitCode, CliError> {
    if !args.command.is_empty() {
        for command in &args.command {
            if !shell.run_text(command, None).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let done = match &args.file {
        Some(path) => shell.run_text(&read_file(path)?, Some(path)).await?,
        None => {
            let mut text = String::new();
            let stdin = Path::new("standard input");
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| CliError::ReadFile { path: stdin.to_owned(), source })?;
            shell.run_text(&text, Some(stdin)).await?
        }
    };
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_file(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })
}

fn local_config(args: &SqlArgs) -> Result<LocalConfig, CliError> {
    let defaults = LocalConfig::default();
    Ok(LocalConfig {
        cores: args.cores.unwrap_or(defaults.cores).max(1),
        memory_limit_bytes: args.memory_limit.map(|limit| limit.0 as usize),
        data_dir: args.data_dir.clone(),
        storage: settings::storage(args.config.as_deref())?,
        ..defaults
    })
}
