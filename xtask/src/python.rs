//! The Python client tests: a virtual environment beside the build, pinned packages, pytest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{installed, steps};

const PINS: &str = "tests/python/requirements.txt";
const MINIMUM: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";

/// Makes the virtual environment, or keeps it if it already has the pinned packages.
pub(crate) fn prepare(root: &Path, build: &Path) -> Result<(), String> {
    let (folder, pins) = (folder(build), root.join(PINS));
    installed::once(&folder, &pins, || {
        let python = find_python()?;
        steps::must_succeed(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        steps::must_succeed(Command::new(interpreter(build)).args(install).arg(&pins)).map_err(|error| {
            format!("{error}; the packages of {PINS} come from the network, try again when it is there")
        })
    })
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

/// A Python that can make virtual environments.
fn find_python() -> Result<OsString, String> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let wanted = "a Python 3.10 or later with venv, which the variable PYTHON may name";
    installed::need(&python, &["-c", MINIMUM], wanted, &["python3", "python3-venv"])?;
    Ok(python)
}
