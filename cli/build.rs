//! Names the build by a hash of the sources of all crates that the binary is made from, and of the dependency versions.
//! A scheduler refuses executors of another build, so binaries with different hashes never share an exchange.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Members of the workspace that are not part of the binary.
const OTHERS: [&str; 4] = ["benchmarks", "sim", "tests", "xtask"];

fn main() -> io::Result<()> {
    let own = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let root = Path::new(&own).parent().ok_or_else(|| io::Error::other("the crate is not in a workspace"))?;
    let manifest = root.join("Cargo.toml");
    let members = members(&fs::read_to_string(&manifest)?)?;
    let mut files = vec![manifest, root.join("Cargo.lock")];
    for name in members.iter().filter(|name| !OTHERS.contains(&name.as_str())) {
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
    // The keys of `DefaultHasher` are fixed, so equal sources have equal hashes on all machines.
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

/// The folders that the list `members` of the workspace's manifest names.
fn members(manifest: &str) -> io::Result<Vec<String>> {
    let list = manifest.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.ok_or_else(|| io::Error::other("the workspace's manifest has no list of members"))?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
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
