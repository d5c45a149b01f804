//! Builds the last stage of `docker/Dockerfile` from a built binary.

use std::fs;
use std::path::Path;

use crate::steps;

use super::podman::Podman;

pub(super) const DOCKERFILE: &str = "docker/Dockerfile";
/// The name of the built image.
pub(super) const IMAGE: &str = "localhost/hwacha:xtask";
/// The certificates of this machine, which the image gets for HTTPS.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(super) fn build(podman: &Podman, root: &Path, folder: &Path, binary: &Path, base: &str) -> Result<(), String> {
    let context = folder.join("context");
    put(binary, &context, "usr/local/bin/hwacha")?;
    put(&root.join("LICENSE"), &context, "usr/share/doc/hwacha/LICENSE")?;
    if Path::new(CERTIFICATES).exists() {
        put(Path::new(CERTIFICATES), &context, CERTIFICATES.trim_start_matches('/'))?;
    }
    // The image of an earlier run would stay without a name, and so would the stage with the files.
    if podman.has_image(IMAGE)? {
        podman.output(&["image", "rm", "--force", IMAGE])?;
    }
    let base = format!("BASE={base}");
    // Only the format of Docker has health checks. `chroot` also works where namespaces cannot be nested.
    let options = ["--format", "docker", "--isolation", "chroot", "--network", "host", "--pull=never"];
    let mut command = podman.command(&["build"]);
    command.args(options).args(["--build-arg", "BINARY=prebuilt", "--build-arg", &base, "--tag", IMAGE]);
    steps::must_succeed(command.arg("--file").arg(root.join(DOCKERFILE)).arg(&context))?;
    podman.output(&["image", "prune", "--force", "--filter", "label=hwacha.stage=prebuilt"])?;
    let bytes = podman.output(&["image", "inspect", "--format", "{{.Size}}", IMAGE])?;
    println!("{IMAGE}: {} MB uncompressed", bytes.trim().parse::<u64>().unwrap_or_default() / 1_000_000);
    Ok(())
}

/// Copies a file to a path in the build context.
fn put(file: &Path, context: &Path, path: &str) -> Result<(), String> {
    let target = context.join(path);
    let folder = target.parent().expect("the path has a folder");
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::copy(file, &target).map(|_| ()).map_err(|error| format!("{}: {error}", file.display()))
}
