//! Splits Rust source into code and comments, so a check does not find its words in strings or comments.
//!
//! Both halves have all line breaks: line N of a half is line N of the file. String and character literals are blank in
//! both halves.

/// A source file in two halves of equal line count.
pub(super) struct Masked {
    pub(super) code: String,
    pub(super) comments: String,
}

impl Masked {
    pub(super) fn new(text: &str) -> Self {
        let mut masked = Self { code: String::new(), comments: String::new() };
        let mut rest = text;
        while !rest.is_empty() {
            let (part, length) = next_part(rest, masked.code.chars().next_back());
            let (now, after) = rest.split_at(length);
            masked.push(part, now);
            rest = after;
        }
        masked
    }

    /// For each line, whether it belongs to an item marked `#[cfg(test)]` or `#[test]`.
    pub(super) fn test_lines(&self) -> Vec<bool> {
        let mut marks = Vec::new();
        let mut item = TestItem::None;
        for line in self.code.lines() {
            if matches!(item, TestItem::None) && is_test_attribute(line) {
                item = TestItem::Awaited;
            }
            marks.push(!matches!(item, TestItem::None));
            item = item.after(line);
        }
        marks
    }

    fn push(&mut self, part: Part, text: &str) {
        for character in text.chars() {
            let blank = if character == '\n' { '\n' } else { ' ' };
            self.code.push(if matches!(part, Part::Code) { character } else { blank });
            self.comments.push(if matches!(part, Part::Comment) { character } else { blank });
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// The state of a scan over lines, in relation to an item that only tests use.
enum TestItem {
    None,
    /// The attribute was seen, the item's body was not.
    Awaited,
    /// Inside the body, with this many open braces.
    Open(usize),
}

impl TestItem {
    fn after(self, line: &str) -> Self {
        let mut item = self;
        for character in line.chars() {
            item = match (item, character) {
                (Self::Awaited, '{') => Self::Open(1),
                (Self::Awaited, ';') | (Self::Open(1), '}') => Self::None,
                (Self::Open(depth), '{') => Self::Open(depth + 1),
                (Self::Open(depth), '}') => Self::Open(depth - 1),
                (same, _) => same,
            };
        }
        item
    }
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim_start();
    ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test", "#[test]", "#[tokio::test"].iter().any(|a| line.starts_with(a))
}

/// The kind and the length of the first part of a text. `before` is the character before the text.
fn next_part(text: &str, before: Option<char>) -> (Part, usize) {
    let in_word = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if text.starts_with("//") {
        return (Part::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Part::Comment, block_comment(text));
    }
    if let Some(length) = (!in_word).then(|| raw_string(text)).flatten() {
        return (Part::Literal, length);
    }
    if text.starts_with('"') {
        return (Part::Literal, quoted(text, '"'));
    }
    if let Some(length) = character_literal(text) {
        return (Part::Literal, length);
    }
    (Part::Code, text.chars().next().map_or(1, char::len_utf8))
}

/// The length of a block comment, including nested comments.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = match rest {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let opening = text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = opening.len() - opening.trim_start_matches('#').len();
    let body = opening[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&closing).map_or(body.len(), |end| end + closing.len());
    Some(text.len() - body.len() + end)
}

/// The length of a literal between two `quote` characters. A backslash escapes the next character.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character_literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(quoted(text, '\''));
    }
    body[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Masked::new(text).code
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code("f(\"x\\\"y\") + 1"), "f(      ) + 1");
        assert_eq!(code("r#\"a \" b\"# ;"), "           ;");
        assert_eq!(code("for'{' 'a: '\\'' b"), "for    'a:      b");
    }

    #[test]
    fn comments_keep_their_lines() {
        let masked = Masked::new("let a = \"// no\"; // yes\n/* and\nso */ b");
        let lines: Vec<&str> = masked.comments.lines().map(str::trim).collect();
        assert_eq!(lines, ["// yes", "/* and", "so */"]);
    }

    #[test]
    fn test_items_end_at_their_brace() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { '}' }\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}";
        let marks = Masked::new(text).test_lines();
        assert_eq!(marks, [false, true, true, true, true, false, true, true, false]);
    }
}
