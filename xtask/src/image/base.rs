//! The image that ours is built on: the one that `docker/Dockerfile` names, or the same Debian made by debootstrap.
//!
//! `HWACHA_IMAGE_BASE` names another image. `HWACHA_DEBIAN_MIRROR` is the mirror for debootstrap; without it,
//! debootstrap's own default is used.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::steps;

use super::build::DOCKERFILE;
use super::podman::{Podman, has, install};

/// What the `slim` images leave out too: packages, manuals and translations. They are two thirds of the bytes.
const UNUSED: [&str; 6] = [
    "./var/cache/apt",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
];

/// Returns the name of an image that is on this machine.
pub(super) fn find_or_make(podman: &Podman, root: &Path, folder: &Path) -> Result<String, String> {
    if let Ok(image) = std::env::var("HWACHA_IMAGE_BASE") {
        return Ok(image);
    }
    let dockerfile = fs::read_to_string(root.join(DOCKERFILE)).map_err(|error| format!("{DOCKERFILE}: {error}"))?;
    let named = default_of(&dockerfile, "BASE").ok_or_else(|| format!("{DOCKERFILE} has no line `ARG BASE=`"))?;
    let suite = suite(named).ok_or_else(|| format!("{named} is no image of a Debian release"))?;
    let made = format!("localhost/hwacha-base:{suite}");
    for image in [named, &made] {
        if podman.has_image(image)? {
            return Ok(image.to_owned());
        }
    }
    match podman.output(&["pull", "--quiet", named]) {
        Ok(_) => Ok(named.to_owned()),
        Err(_) => {
            println!("{named} cannot be pulled; making {made} with debootstrap");
            make(podman, suite, &made, &folder.join("base"))?;
            Ok(made)
        }
    }
}

/// The default of a build argument.
fn default_of<'a>(dockerfile: &'a str, argument: &str) -> Option<&'a str> {
    dockerfile.lines().find_map(|line| line.strip_prefix("ARG ")?.strip_prefix(argument)?.strip_prefix('='))
}

/// The release of an image such as `docker.io/library/debian:bookworm-slim`.
fn suite(image: &str) -> Option<&str> {
    let (name, tag) = image.rsplit_once(':')?;
    name.ends_with("debian").then(|| tag.split('-').next()).flatten()
}

fn make(podman: &Podman, suite: &str, image: &str, folder: &Path) -> Result<(), String> {
    if !has("debootstrap") {
        install()?;
    }
    clear(folder)?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", suite]).arg(folder).args(std::env::var("HWACHA_DEBIAN_MIRROR").ok());
    steps::output(&mut debootstrap)?;
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(folder)
        .args(UNUSED.map(|pattern| format!("--exclude={pattern}")))
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("tar cannot be started: {error}"))?;
    let mut import = podman.command(&["import", "--quiet", "-", image]);
    import.stdin(tar.stdout.take().expect("standard output is piped"));
    let imported = import.status().map_err(|error| format!("podman cannot be started: {error}"))?;
    let packed = tar.wait().map_err(|error| format!("tar: {error}"))?;
    clear(folder)?;
    (imported.success() && packed.success()).then_some(()).ok_or_else(|| format!("{image} could not be imported"))
}

fn clear(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", folder.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_in_the_name_of_the_image() {
        let dockerfile = "ARG RUST=a\nARG BASE=docker.io/library/debian:bookworm-slim\nFROM ${BASE}\n";
        assert_eq!(default_of(dockerfile, "BASE").and_then(suite), Some("bookworm"));
        assert_eq!(suite("docker.io/library/ubuntu:24.04"), None);
    }
}
