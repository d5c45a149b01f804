//! Checks of scheduler-core, which is a pure machine: no clock, thread, I/O or async, and no map without an order.

use super::mask::Masked;
use super::{Finding, Tree};

const FOLDER: &str = "scheduler-core/";

const IMPURE: [(&str, &str); 8] = [
    ("Instant::now", "time comes in with `handle(now, event)`"),
    ("SystemTime", "time comes in with `handle(now, event)`"),
    ("std::thread", "the event loop around the core owns the threads"),
    ("std::net", "the event loop around the core owns the sockets"),
    ("std::fs", "the event loop around the core owns the files"),
    ("async fn", "the core only answers: events in, actions out"),
    ("HashMap", "use `BTreeMap`: the same events must give the same actions"),
    ("HashSet", "use `BTreeSet`: the same events must give the same actions"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs")
        .filter(|(path, _)| path.starts_with(FOLDER))
        .flat_map(|(path, text)| check_file(path, text))
        .collect()
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let masked = Masked::new(text);
    let mut findings = Vec::new();
    for ((index, line), in_test) in masked.code.lines().enumerate().zip(masked.test_lines()) {
        for (code, remedy) in IMPURE.iter().filter(|(code, _)| !in_test && line.contains(code)) {
            findings.push(Finding::new(path, index + 1, format!("`{code}` in the pure machine"), remedy));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn only_the_core_is_held_pure() {
        let text = "//! A.\n// HashMap is only named here.\nuse std::collections::HashMap;\nlet a = Instant::now();\n";
        let tree = Tree::of(&[("scheduler-core/src/a.rs", text), ("scheduler/src/a.rs", text)]);
        assert_eq!(places(&check(&tree)), ["scheduler-core/src/a.rs:3", "scheduler-core/src/a.rs:4"]);
    }
}
