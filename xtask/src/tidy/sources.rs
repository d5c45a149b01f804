//! Checks of files: the `//!` opening, the size, banned code, notes to do something later, paths of one machine.

use std::collections::BTreeSet;

use super::mask::Masked;
use super::{Finding, Tree};

/// Lines of the longest allowed code file.
const LONGEST_LINES: usize = 800;

/// Endings of code files. Only these have a size limit.
const CODE: [&str; 6] = [".rs", ".py", ".proto", ".toml", ".sh", ".ci/run"];

/// Rust code that is banned outside of tests, or everywhere.
struct Banned {
    code: &'static str,
    in_tests_too: bool,
    remedy: &'static str,
}

const BANNED: [Banned; 6] = [
    Banned { code: ".unwrap()", in_tests_too: false, remedy: "return the error, or `expect` with why it holds" },
    Banned {
        code: "unimplemented!",
        in_tests_too: true,
        remedy: "write it, or return an error that says what is missing",
    },
    Banned { code: "todo!", in_tests_too: true, remedy: "write it, or return an error that says what is missing" },
    Banned { code: "#[ignore", in_tests_too: true, remedy: "mend the test or remove it" },
    Banned { code: "unbounded_channel", in_tests_too: true, remedy: "bound the channel" },
    Banned {
        code: "tokio::spawn(",
        in_tests_too: true,
        remedy: "use a `JoinSet` or `SpawnedTask` that something owns",
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let tests = test_files(tree);
    let rust = tree.ending(".rs").flat_map(|(path, text)| check_rust(path, text, tests.contains(path)));
    let all = tree.texts.iter().flat_map(|(path, text)| check_text(path, text));
    rust.chain(all).collect()
}

/// One line about the amount of Rust code and its longest file.
pub(super) fn size_report(tree: &Tree) -> String {
    let sizes: Vec<(usize, &str)> = tree.ending(".rs").map(|(path, text)| (text.lines().count(), path)).collect();
    let total: usize = sizes.iter().map(|(lines, _)| lines).sum();
    let long = sizes.iter().filter(|(lines, _)| *lines > 450).count();
    let (most, longest) = sizes.iter().max().copied().unwrap_or((0, "none"));
    format!("{} Rust files, {total} lines, {long} over 450 lines, the longest {longest} with {most}", sizes.len())
}

fn check_rust(path: &str, text: &str, is_test: bool) -> Vec<Finding> {
    let masked = Masked::new(text);
    let test_lines = masked.test_lines();
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(Finding::new(
            path,
            1,
            "the file does not open with `//!`",
            "say what it is for in its first line",
        ));
    }
    for (index, line) in masked.code.lines().enumerate() {
        let in_test = is_test || test_lines.get(index).copied().unwrap_or(false);
        for banned in BANNED.iter().filter(|banned| banned.in_tests_too || !in_test) {
            if stands_in(line, banned.code) {
                findings.push(Finding::new(path, index + 1, format!("`{}`", banned.code), banned.remedy));
            }
        }
    }
    findings.extend(find_notes(path, &masked.comments));
    findings
}

/// Checks for text files of every language.
fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_code = CODE.iter().any(|end| path.ends_with(end));
    if is_code && text.lines().count() > LONGEST_LINES {
        let message = format!("{} lines, more than {LONGEST_LINES}", text.lines().count());
        findings.push(Finding::new(path, LONGEST_LINES + 1, message, "split it by what its parts are for"));
    }
    if is_code && !path.ends_with(".rs") {
        findings.extend(find_notes(path, text));
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(machine) = machine_path(line) {
            let message = format!("`{machine}` is a path of one machine");
            findings.push(Finding::new(
                path,
                index + 1,
                message,
                "take it from a flag, a variable or the repository's root",
            ));
        }
    }
    findings
}

/// Notes to do something later.
fn find_notes(path: &str, text: &str) -> Vec<Finding> {
    let notes = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME"];
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| notes.iter().any(|note| stands_in(line, note)))
        .map(|(index, _)| {
            Finding::new(path, index + 1, "a note to do something later", "do it, or file it as an issue")
        })
        .collect()
}

/// Whether `line` contains `needle`, and not only as the end of a longer word.
fn stands_in(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        needle.starts_with('.') || !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

/// An absolute path below a folder such as `/home`, which exists only on one machine. Relative paths are allowed.
fn machine_path(line: &str) -> Option<String> {
    ["work", "root", "home", "Users"].iter().find_map(|folder| {
        let needle = format!("/{folder}/");
        let (at, _) = line.match_indices(&needle).find(|(at, _)| {
            let before = line[..*at].chars().next_back();
            !before.is_some_and(|character| character.is_alphanumeric() || "_-.~})$*".contains(character))
        })?;
        let rest = line[at + needle.len()..].split(|character: char| !character.is_alphanumeric()).next();
        rest.filter(|name| !name.is_empty()).map(|name| format!("{needle}{name}"))
    })
}

/// The files that only tests use: files in a folder `tests` or `benches`, and modules declared under `#[cfg(test)]`.
fn test_files(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in tree.ending(".rs") {
        if path.split('/').any(|folder| ["tests", "benches"].contains(&folder)) {
            found.insert(path.to_owned());
        }
        let masked = Masked::new(text);
        let lines = masked.code.lines().zip(masked.test_lines()).filter(|(_, in_test)| *in_test);
        for (line, _) in lines {
            if let Some(module) = line.trim().strip_suffix(';').and_then(|line| line.split_once("mod ")) {
                found.extend(module_files(path, module.1));
            }
        }
    }
    found
}

/// The two places where the file of a module declared in `path` may be.
fn module_files(path: &str, module: &str) -> [String; 2] {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let own = file.trim_end_matches(".rs");
    let base = if ["mod", "lib", "main"].contains(&own) { folder.to_owned() } else { format!("{folder}/{own}") };
    [format!("{base}/{module}.rs"), format!("{base}/{module}/mod.rs")]
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        places(&check(&Tree::of(files)))
    }

    #[test]
    fn a_tidy_file_passes() {
        let text = "//! What it is for.\nfn a() -> Option<&'static str> { Some(\".unwrap() todo!\") } // .unwrap()\n";
        assert!(found(&[("a/src/lib.rs", text)]).is_empty());
    }

    #[test]
    fn openings_and_banned_code_are_found() {
        let text = "fn a() {\n  b().unwrap();\n  tokio::spawn(c);\n}\n#[ignore]\nfn d() { todo!() }\n";
        assert_eq!(found(&[("a/src/b.rs", text)]), ["1", "2", "3", "5", "6"].map(|line| format!("a/src/b.rs:{line}")));
    }

    #[test]
    fn tests_may_unwrap_wherever_they_are() {
        let inline = "//! A.\n#[cfg(test)]\nmod tests {\n  fn a() { b.unwrap() }\n}\n#[cfg(test)]\nmod cases;\n";
        let apart = "//! B.\nfn a() { b.unwrap() }\n";
        assert!(found(&[("a/src/lib.rs", inline), ("a/src/cases.rs", apart), ("tests/src/main.rs", apart)]).is_empty());
        assert_eq!(found(&[("a/src/other.rs", apart)]), ["a/src/other.rs:2"]);
    }

    #[test]
    fn owned_spawns_and_longer_words_pass() {
        let text = "//! A.\nfn a() { set.spawn(b); my_unbounded_channel(); mytodo!(); }\n";
        assert!(found(&[("a/src/lib.rs", text)]).is_empty());
    }

    #[test]
    fn notes_are_found_in_comments_and_in_other_languages() {
        let note = ["TO", "DO"].concat();
        let rust = format!("//! A.\n// {note}: b\nfn c() {{ \"{note}\" }}\n");
        assert_eq!(found(&[("a/src/lib.rs", &rust)]), ["a/src/lib.rs:2"]);
        assert_eq!(found(&[("a.py", &format!("# {note}\n")), ("b.md", &note)]), ["a.py:1"]);
    }

    #[test]
    fn long_files_are_found() {
        let text = "//! A.\n".repeat(LONGEST_LINES + 1);
        assert_eq!(found(&[("a/src/lib.rs", &text), ("tests/slt/a.slt", &text)]), ["a/src/lib.rs:801"]);
    }

    #[test]
    fn machine_paths_are_found_and_others_pass() {
        let own = format!("data = \"/{}/someone/data\"", "home");
        assert_eq!(found(&[("a.md", &own)]), ["a.md:1"]);
        let others = ["../{}/plan", "~/{}/x", "$HOME/{}/y", "http://a.b/{}/c"];
        for (other, folder) in others.iter().flat_map(|other| ["home", "work"].map(|folder| (other, folder))) {
            assert!(found(&[("a.md", &other.replace("{}", folder))]).is_empty(), "{other} with {folder}");
        }
    }
}
