//! `cargo xtask tidy`: the project's rules that neither the compiler nor clippy checks.
//!
//! ```text
//! git's list of files ──> Tree ──> sources / circles / core / manifests / documents ──> findings: file:line, what, remedy
//! ```
//!
//! A check is a function from a [`Tree`] to findings, so its tests need no repository. A tree does not contain files
//! that git ignores.

mod circles;
mod core;
mod documents;
mod manifests;
mod mask;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::steps;

/// Every file of the project that git does not ignore: its path from the root, and its text if it is UTF-8.
#[derive(Default)]
struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

/// One violation of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Line number, counted from one. Zero means the whole file.
    line: usize,
    message: String,
    remedy: &'static str,
}

/// Checks the whole tree, and prints the findings and the size of the code. True if there are no findings.
pub(crate) fn run(root: &Path) -> Result<bool, String> {
    let tree = Tree::read(root)?;
    let mut findings = check(&tree);
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {}", sources::size_report(&tree));
    println!("tidy: {} found", findings.len());
    Ok(findings.is_empty())
}

fn check(tree: &Tree) -> Vec<Finding> {
    [sources::check, circles::check, core::check, manifests::check, documents::check]
        .iter()
        .flat_map(|check| check(tree))
        .collect()
}

impl Tree {
    fn read(root: &Path) -> Result<Self, String> {
        let listing = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
        let listing = steps::output(Command::new("git").args(listing).current_dir(root))
            .map_err(|error| format!("{error}; tidy reads git's list of files, run it inside a clone"))?;
        let mut tree = Self::default();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            // A deleted file may still be in git's list, so a file that cannot be read is skipped.
            let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
            tree.paths.insert(path.into());
            if let Ok(text) = String::from_utf8(bytes) {
                tree.texts.insert(path.into(), text);
            }
        }
        Ok(tree)
    }

    /// The text files whose paths end with `end`, and their texts, in the order of their paths.
    fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        Self {
            paths: files.iter().map(|(path, _)| (*path).into()).collect(),
            texts: files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect(),
        }
    }
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { path: path.into(), line, message: message.into(), remedy }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.message, self.remedy)
    }
}

/// The place of each finding as `path:line`, for tests.
#[cfg(test)]
fn places(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
}
