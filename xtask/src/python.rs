//! The Python client tests: a virtual environment beside the build, pinned packages, pytest.
//!
//! The environment is made once and kept. A stamp file holds the pins of the installed packages. If they differ from
//! the current pins, the environment is made again. The stamp is written last, so an interrupted set-up is also
//! repeated.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps;

const PINS: &str = "tests/python/requirements.txt";
const MINIMUM: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";

/// Makes the virtual environment, or keeps it if it already has the pinned packages.
pub(crate) fn prepare(root: &Path, build: &Path) -> Result<(), String> {
    let pins = std::fs::read_to_string(root.join(PINS)).map_err(|error| format!("{PINS}: {error}"))?;
    let folder = folder(build);
    let stamp = folder.join("pins.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|kept| kept == pins) {
        return Ok(());
    }
    let python = find_python()?;
    steps::must_succeed(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    steps::must_succeed(Command::new(interpreter(build)).args(install).arg(root.join(PINS))).map_err(|error| {
        format!("{error}; the packages of {PINS} come from the network, try again when it is there")
    })?;
    std::fs::write(&stamp, pins).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Runs the tests against the binary in the build folder.
pub(crate) fn test(root: &Path, build: &Path) -> Result<bool, String> {
    let binary = build.join("hwacha");
    if !binary.is_file() {
        return Err(format!("{} is not there: its build failed", binary.display()));
    }
    let pytest = ["-m", "pytest", "-p", "no:cacheprovider", "tests/python"];
    steps::succeeds(
        Command::new(interpreter(build))
            .args(pytest)
            .current_dir(root)
            .env("HWACHA_BIN", binary)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
}

fn folder(build: &Path) -> PathBuf {
    build.join("python-venv")
}

/// The environment's Python.
pub(crate) fn interpreter(build: &Path) -> PathBuf {
    folder(build).join("bin").join("python")
}

/// A Python that can make virtual environments. If there is none, it is installed with apt-get when this process is
/// root.
fn find_python() -> Result<OsString, String> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    if fits(&python) {
        return Ok(python);
    }
    let as_root = steps::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if as_root && steps::output(Command::new("apt-get").arg("--version")).is_ok() {
        println!("installing python3 and python3-venv");
        steps::must_succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
        steps::must_succeed(Command::new("apt-get").args(["install", "--quiet", "--yes", "python3", "python3-venv"]))?;
    }
    if fits(&python) {
        return Ok(python);
    }
    Err(format!("{python:?} is not a Python 3.10 or later with venv; install one, or name one in the variable PYTHON"))
}

fn fits(python: &OsString) -> bool {
    steps::output(Command::new(python).args(["-c", MINIMUM])).is_ok()
}
