//! Checks of Cargo.toml files and Cargo.lock: versions are only in the root, the crates depend on each other as
//! [`ARROWS`] allows, and there is one version of arrow and similar packages.
//!
//! Manifests are read line by line. This works if each dependency is on one line. A dependency with a section of its
//! own is a finding.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Tree};

/// The crates that each crate may depend on. It may also depend on the allowed dependencies of these crates.
const ARROWS: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("proto", &["model"]),
    ("execution", &["model"]),
    ("storage", &["model"]),
    ("operators", &["execution", "model", "proto", "storage"]),
    ("codec", &["operators"]),
    ("corrections", &["operators"]),
    ("plan", &["codec", "corrections"]),
    ("scheduler-core", &["model"]),
    ("scheduler", &["scheduler-core", "plan", "storage"]),
    ("executor", &["codec", "storage"]),
    ("client", &["proto"]),
    ("local", &["scheduler", "executor", "client"]),
    ("workloads", &[]),
    ("cli", &["local", "client", "workloads"]),
    ("tests", &["local", "client", "workloads"]),
    ("benchmarks", &["local", "client", "workloads", "sim"]),
    ("sim", &["scheduler-core"]),
];

/// Crates without dependencies from outside of the project, except for their tests.
const WITHOUT_OUTSIDE: [&str; 3] = ["model", "scheduler-core", "xtask"];

/// Packages whose types are in the interfaces of our crates. Two versions would give two different types with one name.
const ONE_VERSION: [&str; 6] = ["arrow", "parquet", "datafusion", "object_store", "tonic", "prost"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let members = tree.ending("/Cargo.toml").flat_map(|(path, text)| check_member(path, text));
    let lock = tree.text("Cargo.lock").map(check_lock).unwrap_or_default();
    members.chain(lock).collect()
}

/// A line of a manifest that names a dependency.
struct Dependency<'a> {
    line: usize,
    name: &'a str,
    value: &'a str,
    is_dev: bool,
}

fn check_member(path: &str, text: &str) -> Vec<Finding> {
    let member = path.trim_end_matches("/Cargo.toml");
    let mut findings = Vec::new();
    for (index, _) in text.lines().enumerate().filter(|(_, line)| line.starts_with("version = ")) {
        findings.push(Finding::new(path, index + 1, "a version of its own", "write `version.workspace = true`"));
    }
    for dependency in dependencies(text) {
        let value: String = dependency.value.split_whitespace().collect();
        if value != ".workspace=true" && !value.contains("workspace=true") {
            let message = format!("`{}` is not the workspace's", dependency.name);
            findings.push(Finding::new(
                path,
                dependency.line,
                message,
                "name its version in the root's Cargo.toml only",
            ));
        }
        findings.extend(check_arrow(path, member, &dependency));
    }
    findings
}

fn check_arrow(path: &str, member: &str, dependency: &Dependency) -> Option<Finding> {
    let Some(target) = dependency.name.strip_prefix("hwacha-") else {
        let message = format!("`{member}` takes `{}` from outside", dependency.name);
        let allowed = dependency.is_dev || !WITHOUT_OUTSIDE.contains(&member);
        return (!allowed)
            .then(|| Finding::new(path, dependency.line, message, "this crate stands on the standard library alone"));
    };
    let allowed = reachable(member).contains(target);
    let message = format!("an arrow `{member}` -> `{target}`");
    (!allowed).then(|| {
        Finding::new(
            path,
            dependency.line,
            message,
            "`ARROWS` in xtask/src/tidy/manifests.rs names those that there are; move the code to the side it belongs to",
        )
    })
}

/// All crates that the arrows lead to from `member`, directly or indirectly.
fn reachable(member: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut pending = direct(member).to_vec();
    while let Some(next) = pending.pop() {
        if found.insert(next) {
            pending.extend(direct(next));
        }
    }
    found
}

fn direct(member: &str) -> &'static [&'static str] {
    ARROWS.iter().find(|(from, _)| *from == member).map_or(&[], |(_, targets)| targets)
}

/// The dependencies of a manifest, of every kind and for every target.
fn dependencies(text: &str) -> Vec<Dependency<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.push(Dependency {
                    line: index + 1,
                    name,
                    value: "a section of its own",
                    is_dev: section.starts_with("dev-"),
                });
            }
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            let Some(end) = line.find(['.', '=', ' ']) else { continue };
            let (name, value) = line.split_at(end);
            found.push(Dependency { line: index + 1, name, value, is_dev: section.starts_with("dev-") });
        }
    }
    found
}

fn check_lock(text: &str) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
    let mut package = "";
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("name = ") {
            package = name.trim_matches('"');
        } else if let Some(version) = line.strip_prefix("version = ")
            && is_one_version(package)
        {
            versions.entry(package).or_default().push((index + 1, version.trim_matches('"')));
        }
    }
    let several = versions.into_iter().filter(|(_, found)| found.len() > 1);
    several
        .map(|(package, found)| {
            let list: Vec<&str> = found.iter().map(|(_, version)| *version).collect();
            let message = format!("{} versions of `{package}`: {}", found.len(), list.join(", "));
            let line = found.last().map_or(0, |(line, _)| *line);
            Finding::new(
                "Cargo.lock",
                line,
                message,
                "`cargo tree --invert` shows who asks for it; use releases that agree",
            )
        })
        .collect()
}

fn is_one_version(package: &str) -> bool {
    ONE_VERSION.contains(&package) || package.starts_with("arrow-") || package.starts_with("datafusion-")
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        places(&check(&Tree::of(files)))
    }

    #[test]
    fn workspace_dependencies_along_the_arrows_pass() {
        let text = "[package]\nversion.workspace = true\n[dependencies]\nhwacha-model.workspace = true\n\
                    tokio = { workspace = true, features = [\"full\"] }\n# a note\n[dev-dependencies]\ninsta.workspace = true\n";
        assert!(found(&[("executor/Cargo.toml", text), ("proto/Cargo.toml", text)]).is_empty());
    }

    #[test]
    fn versions_belong_to_the_root() {
        let text = "[package]\nversion = \"1\"\n[dependencies]\ntokio = \"1\"\n[build-dependencies.protox]\nworkspace = true\n";
        assert_eq!(
            found(&[("proto/Cargo.toml", text)]),
            ["proto/Cargo.toml:2", "proto/Cargo.toml:4", "proto/Cargo.toml:5"]
        );
    }

    #[test]
    fn forbidden_arrows_are_found() {
        let manifest = |name: &str| format!("[dependencies]\nhwacha-{name}.workspace = true\n");
        assert_eq!(found(&[("scheduler/Cargo.toml", &manifest("executor"))]), ["scheduler/Cargo.toml:2"]);
        assert_eq!(found(&[("client/Cargo.toml", &manifest("plan"))]), ["client/Cargo.toml:2"]);
        assert_eq!(found(&[("model/Cargo.toml", &manifest("proto"))]), ["model/Cargo.toml:2"]);
        assert!(found(&[("cli/Cargo.toml", &manifest("scheduler"))]).is_empty());
    }

    #[test]
    fn the_core_takes_nothing_from_outside() {
        let text = "[dependencies]\nthiserror.workspace = true\n[dev-dependencies]\ninsta.workspace = true\n";
        assert_eq!(found(&[("scheduler-core/Cargo.toml", text)]), ["scheduler-core/Cargo.toml:2"]);
    }

    #[test]
    fn two_arrows_in_the_lock_are_found() {
        let lock = "[[package]]\nname = \"arrow-schema\"\nversion = \"59.3.2\"\n[[package]]\nname = \"arrow-schema\"\n\
                    version = \"60.1.0\"\n[[package]]\nname = \"syn\"\nversion = \"1\"\n[[package]]\nname = \"syn\"\nversion = \"2\"\n";
        assert_eq!(found(&[("Cargo.lock", lock)]), ["Cargo.lock:6"]);
    }
}
