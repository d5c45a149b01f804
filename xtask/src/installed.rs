//! Folders of installed software that are made once and kept, and programs that are installed if they are missing.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::steps;

/// Runs `install` with an empty `folder`, unless the folder was installed from the same pins.
///
/// A stamp file holds the pins of the installed software. It is written last, so an interrupted set-up is repeated.
pub(crate) fn once(folder: &Path, pins: &Path, install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let problem = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(pins).map_err(|error| problem(pins, error))?;
    let stamp = folder.join("pins.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|error| problem(folder, error))?;
    }
    std::fs::create_dir_all(folder).map_err(|error| problem(folder, error))?;
    install()?;
    std::fs::write(&stamp, text).map_err(|error| problem(&stamp, error))
}

/// Checks that `program` runs with `arguments` and succeeds. If it does not, its Debian `packages` are installed with
/// apt-get when this process is root.
///
/// # Errors
///
/// A sentence if the program is not there then. It says that `wanted` is needed.
pub(crate) fn need(
    program: impl AsRef<OsStr>,
    arguments: &[&str],
    wanted: &str,
    packages: &[&str],
) -> Result<(), String> {
    let program = program.as_ref();
    let fits = || steps::output(Command::new(program).args(arguments)).is_ok();
    if fits() {
        return Ok(());
    }
    let as_root = steps::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if as_root && steps::output(Command::new("apt-get").arg("--version")).is_ok() {
        println!("installing {}", packages.join(", "));
        steps::must_succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
        steps::must_succeed(Command::new("apt-get").args(["install", "--quiet", "--yes"]).args(packages))?;
    }
    if fits() { Ok(()) } else { Err(format!("{program:?} is not {wanted}; install it")) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn software_is_installed_again_only_after_a_failure_or_for_other_pins() {
        let folder = std::env::temp_dir().join(format!("hwacha-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (pins, software) = (folder.join("pins"), folder.join("software"));
        let installs = Cell::new(0);
        let install = |pinned: &str, outcome: Result<(), String>| {
            std::fs::write(&pins, pinned).expect("pins");
            once(&software, &pins, || {
                assert!(std::fs::read_dir(&software).expect("a folder").next().is_none(), "it is empty");
                std::fs::write(software.join("part"), pinned).expect("a file");
                installs.set(installs.get() + 1);
                outcome
            })
        };
        assert_eq!(install("1", Err("no network".to_owned())), Err("no network".to_owned()));
        for (pinned, total) in [("1", 2), ("1", 2), ("2", 3), ("2", 3)] {
            assert_eq!(install(pinned, Ok(())), Ok(()));
            assert_eq!(installs.get(), total);
        }
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
