//! `cargo xtask image`: builds the image from a built binary and runs a cluster of containers.
//!
//! ```text
//! engine (podman) ──> base (pulled, or made by debootstrap) ──> image ──> cluster ──> answers ──> faults
//! ```
//!
//! `cargo xtask ci` leaves this check out if the machine has no podman and cannot install or use it.

mod answers;
mod base;
mod build;
mod cluster;
mod faults;
mod podman;

use std::path::{Path, PathBuf};

use crate::steps::Steps;
use cluster::Cluster;
use podman::Podman;

/// Runs the check. `arguments` may name another binary than the one in the build folder.
pub(crate) fn run(root: &Path, build: &Path, arguments: &[&str]) -> Result<bool, String> {
    let binary = match arguments {
        [] => build.join("hwacha"),
        ["--binary", file] => PathBuf::from(file),
        other => return Err(format!("unknown argument `{}`; the only one is `--binary FILE`", other.join(" "))),
    };
    check(root, build, &binary, &prepare(root, build)?)
}

/// Runs the check in `cargo xtask ci`. Passes with one line if containers cannot run on this machine.
pub(crate) fn run_if_possible(root: &Path, build: &Path) -> Result<bool, String> {
    match prepare(root, build) {
        Ok(base) => check(root, build, &build.join("hwacha"), &base),
        Err(reason) => {
            println!("image: left out, since containers cannot run here: {}", reason.replace('\n', " "));
            Ok(true)
        }
    }
}

/// An engine that runs containers on a network of their own, and the image that ours is built on.
struct Base {
    podman: Podman,
    image: String,
}

fn prepare(root: &Path, build: &Path) -> Result<Base, String> {
    let podman = Podman::find_or_install()?;
    let image = base::find_or_make(&podman, root, &build.join("image"))?;
    podman.try_out(&image)?;
    Ok(Base { podman, image })
}

fn check(root: &Path, build: &Path, binary: &Path, base: &Base) -> Result<bool, String> {
    let folder = build.join("image");
    let podman = &base.podman;
    let mut steps = Steps::default();
    let mut is_built = false;
    steps.run("build", || {
        build::build(podman, root, &folder, binary, &base.image)?;
        is_built = true;
        Ok(true)
    });
    if !is_built {
        return Ok(steps.report("image"));
    }
    steps.run("run", || {
        let cluster = Cluster::prepare(podman, &folder)?;
        let checked = cluster
            .start()
            .and_then(|()| cluster.check_containers())
            .and_then(|()| answers::check(&cluster, root))
            .and_then(|()| faults::check(&cluster));
        if checked.is_err() {
            cluster.print_logs();
        }
        checked.map(|()| true)
    });
    Ok(steps.report("image"))
}
