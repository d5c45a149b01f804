//! Cuts a text into statements at the semicolons outside of quotes and comments.

/// One statement and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub text: String,
    /// Line number, counted from 1.
    pub line: usize,
}

/// A text cut into statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    pub complete: Vec<Statement>,
    /// The text after the last semicolon, if it contains more than space and comments.
    pub rest: Option<Statement>,
}

/// Cuts `text` into statements. A `\` outside of a statement starts a command, which ends with its line.
///
/// Example: `select 1; \d t` gives `select 1` and the command `\d t`. `select 'a;b` gives no complete statement and the
/// rest `select 'a;b`.
pub(super) fn split(text: &str) -> Statements {
    let mut found = Statements::default();
    let mut scanner = Scanner { text, position: 0 };
    // Position of the first word of the current statement. Comments before it are not sent.
    let mut start = None;
    let mut position = 0;
    while let Some(piece) = scanner.next_piece(start.is_some()) {
        match piece {
            Piece::Command => found.complete.push(statement(text, position, scanner.position)),
            Piece::End => found.complete.extend(start.take().map(|start| statement(text, start, position))),
            Piece::Space => {}
            Piece::Content => start = start.or(Some(position)),
        }
        position = scanner.position;
    }
    found.rest = start.map(|start| statement(text, start, text.len()));
    found
}

fn statement(text: &str, start: usize, end: usize) -> Statement {
    Statement { text: text[start..end].trim_end().to_owned(), line: text[..start].matches('\n').count() + 1 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// A semicolon.
    End,
    /// A backslash outside of a statement, and the rest of its line.
    Command,
    /// Space or a comment.
    Space,
    Content,
}

struct Scanner<'a> {
    text: &'a str,
    position: usize,
}

impl Scanner<'_> {
    fn next_piece(&mut self, within_statement: bool) -> Option<Piece> {
        let rest = &self.text[self.position..];
        let first = rest.chars().next()?;
        let (length, piece) = match first {
            ';' => (1, Piece::End),
            '\\' if !within_statement => (rest.find('\n').unwrap_or(rest.len()), Piece::Command),
            '\'' if self.is_escaped() => (escaped(rest), Piece::Content),
            '\'' | '"' | '`' => (quoted(rest, first), Piece::Content),
            '$' => (dollar_quoted(rest), Piece::Content),
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), Piece::Space),
            '/' if rest.starts_with("/*") => (block_comment(rest), Piece::Space),
            space if space.is_whitespace() => (space.len_utf8(), Piece::Space),
            other => (other.len_utf8(), Piece::Content),
        };
        self.position += length;
        Some(piece)
    }

    /// Whether the quote at this position opens a string with backslash escapes: `E'…'`.
    fn is_escaped(&self) -> bool {
        let mut before = self.text[..self.position].chars().rev();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(word)
    }
}

/// Length of a quoted string or name. A doubled quote stands for one quote. It is scanned as two adjacent strings
/// (`'it'` and `'s'` for `'it''s'`), which gives the same end.
fn quoted(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
}

fn escaped(rest: &str) -> usize {
    let mut is_literal = false;
    for (position, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_literal => is_literal = false,
            '\\' => is_literal = true,
            '\'' => return position + 1,
            _ => {}
        }
    }
    rest.len()
}

fn dollar_quoted(rest: &str) -> usize {
    let tag_end = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(rest.len(), |end| end + 1);
    if !rest[tag_end..].starts_with('$') {
        return 1;
    }
    let tag = &rest[..=tag_end];
    rest[tag.len()..].find(tag).map_or(rest.len(), |end| end + 2 * tag.len())
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut position) = (0, 0);
    while let Some(next) = rest[position..].find(['/', '*']) {
        position += next;
        match &rest[position..] {
            open if open.starts_with("/*") => (depth, position) = (depth + 1, position + 2),
            close if close.starts_with("*/") => (depth, position) = (depth - 1, position + 2),
            _ => position += 1,
        }
        if depth == 0 {
            return position;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> (Vec<String>, Option<String>) {
        let found = split(text);
        (found.complete.into_iter().map(|s| s.text).collect(), found.rest.map(|s| s.text))
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(texts("select 1; select 2"), (vec!["select 1".into()], Some("select 2".into())));
        assert_eq!(texts(" ; ;\n"), (vec![], None));
        assert_eq!(texts("select 1;"), (vec!["select 1".into()], None));
    }

    #[test]
    fn quotes_and_comments_hide_semicolons() {
        for whole in [
            "select ';'",
            "select 'it''s; fine'",
            "select E'it\\'s; fine', e'\\\\'",
            "select name'a\\'",
            "select \"a;b\" from t",
            "select $$a;b$$",
            "select $tag$ ; $$ ; $tag$",
            "select 1 -- no; end\n + 2",
            "select /* a; /* nested; */ ; */ 1",
            "select $1 + $2",
        ] {
            assert_eq!(texts(&format!("{whole};")), (vec![whole.to_owned()], None), "{whole}");
        }
        assert_eq!(texts("select 'open; "), (vec![], Some("select 'open;".into())));
        assert_eq!(texts("-- only a comment;\n"), (vec![], None));
    }

    #[test]
    fn lines_are_counted_and_commands_stand_alone() {
        let found = split("select 1;\n\n\\timing\n-- two\nselect\n2;");
        let lines: Vec<_> = found.complete.iter().map(|s| (s.line, s.text.as_str())).collect();
        assert_eq!(lines, [(1, "select 1"), (3, "\\timing"), (5, "select\n2")]);
    }
}
