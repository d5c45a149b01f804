//! Installs the peers once, with cargo and pip, into a directory of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::text;
use crate::Result;

const MANIFEST: &str = include_str!("../../peers/Cargo.toml.in");
const REQUIREMENTS: &str = include_str!("../../peers/requirements.txt");
const PYTHON_DRIVER: &str = include_str!("../../peers/python.py");
const SOURCES: [(&str, &str); 3] = [
    ("driver.rs", include_str!("../../peers/driver.rs")),
    ("ballista.rs", include_str!("../../peers/ballista.rs")),
    ("distributed.rs", include_str!("../../peers/distributed.rs")),
];

/// Installs the engines that are Rust libraries, and their drivers. All are in one package, so they use the same
/// version of DataFusion and compile it once.
pub(super) fn rust(peers: &Path) -> Result<()> {
    let folder = peers.join("drivers");
    std::fs::create_dir_all(&folder)?;
    let mut changed = !peers.join("bin/peer-distributed").is_file();
    for (name, source) in SOURCES.into_iter().chain([("Cargo.toml", MANIFEST)]) {
        changed |= update(&folder.join(name), source)?;
    }
    if changed {
        run(cargo(peers).args(["install", "--force", "--root"]).arg(peers).arg("--path").arg(folder))?;
    }
    Ok(())
}

/// Installs the engines with a Python interface and their driver.
pub(super) fn python(peers: &Path) -> Result<()> {
    std::fs::create_dir_all(peers)?;
    update(&peers.join("python.py"), PYTHON_DRIVER)?;
    let pins = peers.join("requirements.txt");
    if interpreter(peers).is_file() && std::fs::read_to_string(&pins).is_ok_and(|kept| kept == REQUIREMENTS) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(peers.join("venv")))?;
    let wanted = peers.join("wanted.txt");
    std::fs::write(&wanted, REQUIREMENTS)?;
    run(Command::new(interpreter(peers)).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted))?;
    Ok(std::fs::rename(wanted, pins)?)
}

pub(super) fn interpreter(peers: &Path) -> PathBuf {
    peers.join("venv/bin/python")
}

fn cargo(peers: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("CARGO_TARGET_DIR", peers.join("target"));
    command
}

/// Writes a file. Returns whether its content has changed.
fn update(path: &Path, content: &str) -> Result<bool> {
    let changed = std::fs::read_to_string(path).map_or(true, |kept| kept != content);
    if changed {
        std::fs::write(path, content)?;
    }
    Ok(changed)
}

fn run(command: &mut Command) -> Result<()> {
    eprintln!("{} {}", text(Path::new(command.get_program())), shown(command));
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{:?} failed: {status}", command.get_program()).into()) }
}

fn shown(command: &Command) -> String {
    command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
