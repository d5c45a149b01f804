//! Checks that the modules of a crate do not use each other in a circle. Then each module can be read after the
//! modules that it uses.
//!
//! The check compares the direct entries of each folder. The uses of all files below an entry count as uses of that
//! entry. A module and its submodules may use each other. Tests do not count. A name that a parent re-exports counts
//! as a name of the parent.
//!
//! ```text
//!   exchange/output.rs: use crate::memory::Work             ->  in `src/`: exchange -> memory
//!   exchange/output.rs: use super::spill::ExchangeSpill     ->  in `src/exchange/`: output -> spill
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::mask::Masked;
use super::{Finding, Tree};

/// The path of a module from the crate's root; empty for the root.
type Module = Vec<String>;

/// A folder, its entry that uses another entry, and the used entry.
type Arrow = (Module, String, String);

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, BTreeMap<Module, (&str, &str)>> = BTreeMap::new();
    for (path, text) in tree.ending(".rs") {
        if let Some((root, file)) = path.split_once("/src/") {
            crates.entry(root).or_default().insert(module(file), (path, text));
        }
    }
    crates.into_iter().flat_map(|(root, modules)| check_crate(root, &modules)).collect()
}

/// The module that a file holds: `a/b.rs` and `a/b/mod.rs` hold `a::b`.
fn module(file: &str) -> Module {
    let mut names: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    names.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    names
}

fn check_crate(root: &str, modules: &BTreeMap<Module, (&str, &str)>) -> Vec<Finding> {
    let mut arrows: BTreeMap<Arrow, (&str, usize)> = BTreeMap::new();
    for (user, (path, text)) in modules {
        for (line, used) in uses(user, text) {
            let used = (0..=used.len()).rev().map(|length| &used[..length]).find(|used| modules.contains_key(*used));
            if let Some(arrow) = used.and_then(|used| arrow(user, used)) {
                arrows.entry(arrow).or_insert((path, line));
            }
        }
    }
    let mut findings = vec![];
    let folders: BTreeSet<_> = arrows.keys().map(|(folder, ..)| folder).collect();
    for folder in folders {
        let within: BTreeSet<_> =
            arrows.keys().filter(|(of, ..)| of == folder).map(|(_, from, to)| (from.as_str(), to.as_str())).collect();
        for circle in circles(&within) {
            let is_in = |(of, from, to): &&Arrow| {
                of == folder && circle.contains(from.as_str()) && circle.contains(to.as_str())
            };
            let (path, line) = arrows.iter().find(|(arrow, _)| is_in(arrow)).map_or((root, 0), |(_, place)| *place);
            let names: Vec<_> = circle.iter().copied().collect();
            let message = format!("modules that use each other in a circle: {}", names.join(", "));
            findings.push(Finding::new(path, line, message, "move what they share to a module that uses none of them"));
        }
    }
    findings
}

/// The folder in which the paths of two modules separate, and their entries there. `None` if one module contains the
/// other.
fn arrow(user: &[String], used: &[String]) -> Option<Arrow> {
    let shared = user.iter().zip(used).take_while(|(one, other)| one == other).count();
    Some((user[..shared].to_vec(), user.get(shared)?.clone(), used.get(shared)?.clone()))
}

/// The groups of entries that use each other directly or indirectly (strongly connected components).
fn circles<'a>(arrows: &BTreeSet<(&'a str, &'a str)>) -> BTreeSet<BTreeSet<&'a str>> {
    let reached = |start: &'a str| {
        let (mut found, mut pending) = (BTreeSet::new(), vec![start]);
        while let Some(from) = pending.pop() {
            pending.extend(arrows.iter().filter(|arrow| arrow.0 == from && found.insert(arrow.1)).map(|arrow| arrow.1));
        }
        found
    };
    let reached: BTreeMap<_, _> = arrows.iter().map(|(from, _)| (*from, reached(from))).collect();
    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|found| found.contains(to));
    let circle = |one: &&'a str| {
        let other = |other: &&'a str| leads(one, other) && leads(other, one);
        reached.keys().copied().filter(other).collect::<BTreeSet<_>>()
    };
    reached.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// The uses of the same crate in a file, outside of tests: line numbers, and paths from the crate's root.
fn uses(module: &[String], text: &str) -> Vec<(usize, Module)> {
    let masked = Masked::new(text);
    let tests = masked.test_lines();
    let code: Vec<_> = masked.code.lines().zip(tests).map(|(line, is_test)| if is_test { "" } else { line }).collect();
    let code = code.join("\n");
    let parent = &module[..module.len().saturating_sub(1)];
    let mut found = vec![];
    for (word, base) in [("crate::", &[][..]), ("self::", module), ("super::", parent)] {
        for (at, _) in code.match_indices(word) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|character| character.is_alphanumeric() || "_:$".contains(character)) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let mut paths = vec![];
            read_paths(&code[at + word.len()..], base.to_vec(), &mut paths);
            found.extend(paths.into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// Reads the paths of `a::b` or `a::{b, c::d}` into `found`, and returns the text after them.
fn read_paths<'a>(mut text: &'a str, mut path: Module, found: &mut Vec<Module>) -> &'a str {
    loop {
        text = text.trim_start();
        if let Some(list) = text.strip_prefix('{') {
            text = list.trim_start();
            while !text.is_empty() && !text.starts_with('}') {
                text = read_paths(text, path.clone(), found).trim_start();
                text = text.strip_prefix(',').unwrap_or(text).trim_start();
            }
            return text.strip_prefix('}').unwrap_or(text);
        }
        let end = text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        match name {
            "super" => drop(path.pop()),
            "self" => {}
            name => path.push(name.to_owned()),
        }
        match rest.strip_prefix("::") {
            Some(rest) => text = rest,
            None => {
                found.push(path);
                // The rest of the item, such as `*` or `as Name`, is skipped.
                let next = rest.find([',', '}', ';', '\n']).unwrap_or(rest.len());
                return &rest[next..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        places(&check(&Tree::of(files)))
    }

    #[test]
    fn modules_that_use_each_other_are_found() {
        let files = [
            ("plan/src/lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("plan/src/a.rs", "use crate::b::B;\n"),
            ("plan/src/b.rs", "\nuse crate::{c::C, Root};\n"),
            ("plan/src/c.rs", "fn f() {\n    super::a::g()\n}\n"),
        ];
        assert_eq!(found(&files), ["plan/src/a.rs:1"]);
        let one_way = ("plan/src/c.rs", "fn f() {}\n");
        assert!(found(&[files[0], files[1], files[2], one_way]).is_empty());
    }

    #[test]
    fn folders_count_as_one() {
        let inner = ("plan/src/a/one.rs", "use super::two::X;\nuse crate::b::B;\n");
        let mut files =
            vec![inner, ("plan/src/a/mod.rs", "use self::one::Y;\n"), ("plan/src/a/two.rs", "use super::Z;\n")];
        files.push(("plan/src/b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::two::X;\n}\n"));
        assert!(found(&files).is_empty(), "a module may use its parent, and tests may use anything");
        files.push(("plan/src/b.rs", "use crate::a::{self, two::X as Y, *};\n"));
        assert_eq!(found(&files), ["plan/src/a/one.rs:2"]);
        files.push(("plan/src/a/two.rs", "use super::{super::b, one::Y};\n"));
        assert_eq!(found(&files), ["plan/src/a/one.rs:2", "plan/src/a/one.rs:1"]);
    }
}
