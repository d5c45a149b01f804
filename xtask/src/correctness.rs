//! `cargo xtask correctness`: compares the answers of all suites with plain DataFusion and DuckDB. `cargo xtask test`
//! runs a small sample, another one each day.
//!
//! DuckDB and the queries of TPC-DS come from Python packages in the virtual environment of the client tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{self, Steps};
use crate::{cargo, python};

const EXPORT: &str = "workloads/queries/tpcds/export.py";
/// Number of runs of each suite in a sample.
const SAMPLE: &str = "25";
/// Scale of the tables for a sample.
const SAMPLE_SCALE: &str = "0.02";

/// Runs all suites with a release build. `arguments` are passed to `hwacha-benchmarks correctness`.
pub(crate) fn run(root: &Path, build: &Path, arguments: &[&str]) -> Result<bool, String> {
    let data = data_folder(root, arguments);
    let mut steps = Steps::default();
    steps.run("venv", || python::prepare(root, build).map(|()| true));
    steps.run("build", || {
        steps::succeeds(cargo(root).args(["build", "--release", "--workspace", "--bin", "hwacha-benchmarks"]))
    });
    steps.run("answers", || judge(root, build, &release(build), &data, arguments));
    Ok(steps.report("correctness"))
}

/// Runs a sample with the binary in the build folder.
pub(crate) fn sample(root: &Path, build: &Path) -> Result<bool, String> {
    let data = build.join(format!("correctness-{SAMPLE_SCALE}"));
    judge(root, build, build, &data, &["--sample", SAMPLE, "--scale", SAMPLE_SCALE])
}

/// The data folder that the arguments name with `--data`, or the default folder.
fn data_folder(root: &Path, arguments: &[&str]) -> PathBuf {
    let apart = arguments.windows(2).find(|pair| pair[0] == "--data").map(|pair| pair[1]);
    let joined = || arguments.iter().find_map(|argument| argument.strip_prefix("--data="));
    root.join(apart.or_else(joined).unwrap_or("data/correctness"))
}

fn release(build: &Path) -> PathBuf {
    build.with_file_name("release")
}

fn judge(root: &Path, build: &Path, binaries: &Path, data: &Path, arguments: &[&str]) -> Result<bool, String> {
    let python = python::interpreter(build);
    steps::must_succeed(Command::new(&python).arg(root.join(EXPORT)).arg(data.join("tpcds")))?;
    let mut command = Command::new(binaries.join("hwacha-benchmarks"));
    command.current_dir(root).args(["correctness", "--data"]).arg(data).arg("--python").arg(python);
    steps::succeeds(command.args(arguments))
}
