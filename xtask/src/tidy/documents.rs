//! Checks of Markdown files: relative links name existing files, and both READMEs have the same heading levels.

use super::{Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let links = tree.ending(".md").flat_map(|(path, text)| check_links(tree, path, text));
    links.chain(check_translation(tree)).collect()
}

fn check_translation(tree: &Tree) -> Option<Finding> {
    let english = tree.text("README.md")?;
    let Some(korean) = tree.text("README.ko.md") else {
        return Some(Finding::new("README.ko.md", 0, "the file is missing", "translate README.md"));
    };
    let (ours, theirs) = (headings(english), headings(korean));
    let message = format!("headings of levels {theirs:?} where README.md has {ours:?}");
    (ours != theirs).then(|| Finding::new("README.ko.md", 0, message, "give both the same sections in the same order"))
}

/// The levels of the headings, in order.
fn headings(text: &str) -> Vec<usize> {
    let levels = prose(text).map(|(_, line)| (line.chars().take_while(|character| *character == '#').count(), line));
    levels.filter(|(level, line)| *level > 0 && line[*level..].starts_with(' ')).map(|(level, _)| level).collect()
}

fn check_links(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line_number, line) in prose(text) {
        for target in link_targets(line).filter(|target| !leads_somewhere(tree, path, target)) {
            let message = format!("the link `{target}` leads nowhere");
            findings.push(Finding::new(
                path,
                line_number,
                message,
                "name a file of the repository by its path from here",
            ));
        }
    }
    findings
}

/// The lines outside of fenced code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((index + 1, line))
    })
}

fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

fn leads_somewhere(tree: &Tree, path: &str, target: &str) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            name => parts.push(name),
        }
    }
    let file = parts.join("/");
    let folder = format!("{file}/");
    tree.paths.contains(&file) || file.is_empty() || tree.paths.iter().any(|path| path.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        places(&check(&Tree::of(files)))
    }

    #[test]
    fn links_are_followed_from_their_file() {
        let good = "[a](b.md) [c](../README.md#d) [e](https://f) [g](#h) [i](sub) [j](../docs/)\n```\n[k](l)\n```\n";
        let tree =
            [("docs/a.md", good), ("docs/b.md", ""), ("README.md", ""), ("README.ko.md", ""), ("docs/sub/x.rs", "")];
        assert!(found(&tree).is_empty());
        assert_eq!(found(&[("docs/a.md", "\n[a](c.md) and [b](../../d)\n")]), ["docs/a.md:2", "docs/a.md:2"]);
    }

    #[test]
    fn readmes_have_the_same_headings() {
        let english = "# A\n## B\n```\n# not one\n```\n";
        assert!(found(&[("README.md", english), ("README.ko.md", "# 가\n## 나\n")]).is_empty());
        assert_eq!(found(&[("README.md", english), ("README.ko.md", "# 가\n")]), ["README.ko.md:0"]);
        assert_eq!(found(&[("README.md", english)]), ["README.ko.md:0"]);
    }
}
