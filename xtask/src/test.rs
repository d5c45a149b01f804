//! `cargo xtask test`: every test of the project.
//!
//! The output of the test runners is shown unchanged. Everything is built in the dev profile, so dependencies are
//! compiled only once. The binaries are built with the whole workspace selected. Another selection could need other
//! features of DataFusion, and would compile it again.

use std::path::{Path, PathBuf};

use crate::steps::{self, Steps};
use crate::{cargo, correctness, python, servers};

const PARTS: [&str; 4] = ["rust", "sim", "answers", "python"];

/// Runs the named parts, or all of them; true when every test passed.
pub(crate) fn run(root: &Path, parts: &[&str]) -> Result<bool, String> {
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        return Err(format!("unknown part `{unknown}`; the parts are {}", PARTS.join(", ")));
    }
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let build = build_folder()?;
    let mut steps = Steps::default();
    if wanted("python") || wanted("answers") {
        // This step and the next are first because they take seconds: what is missing fails before a long build.
        steps.run("venv", || python::prepare(root, &build).map(|()| true));
    }
    if wanted("python") {
        steps.run("servers", || servers::prepare(root, &build).map(|()| true));
    }
    if wanted("rust") {
        steps.run("rust", || steps::succeeds(cargo(root).args(["test", "--workspace"])));
    }
    if wanted("sim") {
        steps.run("sim", || simulate(root));
    }
    if wanted("python") || wanted("answers") {
        steps.run("binaries", || steps::succeeds(cargo(root).args(["build", "--workspace", "--bins"])));
    }
    if wanted("answers") {
        steps.run("answers", || correctness::sample(root, &build));
    }
    if wanted("python") {
        steps.run("python", || python::test(root, &build));
    }
    Ok(steps.report("test"))
}

fn simulate(root: &Path) -> Result<bool, String> {
    let seeds = std::env::var("HWACHA_SIM_SEEDS").unwrap_or_else(|_| "10000".into());
    steps::succeeds(cargo(root).args(["run", "--package", "hwacha-sim", "--", "--seeds", &seeds]))
}

/// The folder of this binary: `target/debug`, or another one if a flag, a variable or a file selects it.
pub(crate) fn build_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program does not know its own path: {error}"))?;
    own.parent().map(Path::to_path_buf).ok_or_else(|| format!("{} has no parent folder", own.display()))
}
