//! Servers of others for the tests of stores, beside the build: Azurite from npm, Hadoop's mini cluster from Maven.
//!
//! `tests/python/servers` has a folder for each with its pins. moto, the server of S3, is a package of the virtual
//! environment.

use std::path::Path;
use std::process::Command;

use crate::{installed, steps};

const SOURCES: &str = "tests/python/servers";
/// The folder of the installed servers. `tests/python/stores/installed.py` looks for it beside the binary.
const SERVERS: &str = "test-servers";
/// Fails if Node.js is too old.
const NODE: &str = "process.exit(Number(process.versions.node.split('.')[0] < 18))";
const NETWORK: &str = "its packages come from the network, try again when it is there";

/// Installs the servers, or keeps those that are installed from the same pins.
pub(crate) fn prepare(root: &Path, build: &Path) -> Result<(), String> {
    let (sources, servers) = (root.join(SOURCES), build.join(SERVERS));
    let azurite = servers.join("azurite");
    installed::once(&azurite, &sources.join("azurite/package-lock.json"), || {
        installed::need("node", &["-e", NODE], "Node.js 18 or later", &["nodejs"])?;
        installed::need("npm", &["--version"], "npm", &["npm"])?;
        azurite_from_npm(&sources.join("azurite"), &azurite).map_err(|error| format!("{error}; {NETWORK}"))
    })?;
    let hdfs = servers.join("hdfs");
    installed::once(&hdfs, &sources.join("hdfs/pom.xml"), || {
        installed::need("javac", &["--release", "17", "--version"], "a JDK, 17 or later", &["default-jdk-headless"])?;
        installed::need("mvn", &["--version"], "Maven", &["maven"])?;
        let jars = format!("-DoutputDirectory={}", hdfs.join("jars").display());
        let copy = ["--batch-mode", "--quiet", "dependency:copy-dependencies", &jars, "--file"];
        steps::must_succeed(Command::new("mvn").args(copy).arg(sources.join("hdfs/pom.xml")))
            .map_err(|error| format!("{error}; {NETWORK}"))
    })
}

/// Installs the packages that the lock file in `source` names into `folder`.
fn azurite_from_npm(source: &Path, folder: &Path) -> Result<(), String> {
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(name), folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    steps::must_succeed(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(folder))
}
