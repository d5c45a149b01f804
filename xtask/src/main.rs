//! `cargo xtask`: the project's own commands.
//!
//! ```text
//! ci ──> fmt, tidy, clippy, test, image (where containers can run)
//! test ──> rust ─> simulation ─> answers (a sample of `correctness`) ─> python (real processes, clients and stores)
//! correctness ──> every suite under every setting against plain DataFusion and DuckDB
//! image ──> the container image and a cluster of containers
//! tidy ──> sources, circles, core, manifests, documents
//! ```
//!
//! The crate only uses the standard library, so it builds in seconds. All steps of a command run even if one fails, so
//! one run shows all errors.

mod correctness;
mod image;
mod installed;
mod python;
mod servers;
mod steps;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use steps::Steps;

const HELP: &str = "\
Hwacha's own commands.

Usage: cargo xtask <COMMAND>

Commands:
  test [PART]...  Run every test: the parts are `rust`, `sim`, `answers` and `python`; all of them
                  by default
  ci              Check format, tidiness and lints, then run every test, and `image` where containers can run
  correctness [OPTION]...
                  Judge the answers of TPC-H, TPC-DS, ClickBench and h2o queries on clusters of several sizes, with each
                  technique turned off; `cargo xtask correctness --help` lists the options
  image [--binary FILE]
                  Build the container image from a built binary, run TPC-H on a cluster of containers, kill one and
                  stop another; needs root and podman, which it installs with apt-get
  tidy            Check what the compiler does not: sizes, dependency arrows, documents, habits
  help            Print this text

Environment:
  HWACHA_SIM_SEEDS  How many seeds the simulation runs in `test` (default 10000)
  HWACHA_IMAGE_BASE     The image that `image` builds on (default: the one in docker/Dockerfile, or a Debian that
                        debootstrap makes if that one cannot be pulled)
  HWACHA_DEBIAN_MIRROR  The mirror for debootstrap (default: its own)
  PYTHON            The Python that makes the virtual environment of the client tests (default python3)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        ["tidy"] => tidy::run(&root()),
        ["test", parts @ ..] => test::run(&root(), parts),
        ["correctness", arguments @ ..] => {
            test::build_folder().and_then(|build| correctness::run(&root(), &build, arguments))
        }
        ["image", arguments @ ..] => test::build_folder().and_then(|build| image::run(&root(), &build, arguments)),
        ["ci"] => ci(&root()),
        other => Err(format!("unknown command `{}`; `cargo xtask help` lists them", other.join(" "))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// The repository's root: the parent of this crate's folder.
fn root() -> PathBuf {
    let crate_folder =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    crate_folder.parent().map_or_else(|| crate_folder.clone(), Path::to_path_buf)
}

/// Runs the fast checks first, then all tests with `cargo xtask test`, the command that README describes. The last step
/// uses the binary that the tests have built.
fn ci(root: &Path) -> Result<bool, String> {
    let mut steps = Steps::default();
    steps.run("fmt", || steps::succeeds(cargo(root).args(["fmt", "--all", "--", "--check"])));
    steps.run("tidy", || tidy::run(root));
    steps.run("clippy", || {
        let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        steps::succeeds(cargo(root).args(lints))
    });
    steps.run("test", || steps::succeeds(cargo(root).args(["xtask", "test"])));
    steps.run("image", || image::run_if_possible(root, &test::build_folder()?));
    Ok(steps.report("ci"))
}

/// The cargo that started this command, in the repository's root.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}
