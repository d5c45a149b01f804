//! Names the build by a hash of all that it is made from: two binaries of different sources never share an exchange.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The crates that the binary is made from.
const CRATES: [&str; 10] =
    ["cli", "client", "executor", "local", "model", "plan", "proto", "scheduler", "scheduler-core", "workloads"];

fn main() -> io::Result<()> {
    let own = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let root = Path::new(&own).parent().ok_or_else(|| io::Error::other("the crate is not in a workspace"))?;
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    for name in CRATES {
        files.push(root.join(name).join("Cargo.toml"));
        for folder in ["src", "proto"] {
            let folder = root.join(name).join(folder);
            if folder.is_dir() {
                println!("cargo:rerun-if-changed={}", folder.display());
                add_files(&folder, &mut files)?;
            }
        }
    }
    files.sort();
    // Its keys are fixed, so equal sources have equal hashes on all machines.
    let mut hasher = DefaultHasher::new();
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        file.strip_prefix(root).map_err(io::Error::other)?.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    let version = env::var("CARGO_PKG_VERSION").map_err(io::Error::other)?;
    println!("cargo:rustc-env=HWACHA_BUILD={version}+{:016x}", hasher.finish());
    Ok(())
}

fn add_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => add_files(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
