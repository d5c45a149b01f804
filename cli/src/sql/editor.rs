//! The line editor: several lines until a semicolon, history, completion of keywords and tables.

use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper, Highlighter, Hinter};

use super::statements::split;
use crate::error::CliError;

const KEYWORDS: &[&str] = &[
    "ALL",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CREATE",
    "CROSS",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PARTITIONED",
    "RESET",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "STORED",
    "SUM",
    "TABLE",
    "TABLES",
    "THEN",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];

/// The input of a user.
pub(super) enum Typed {
    Text(String),
    /// Ctrl-C: the text typed so far is dropped.
    Interrupt,
    /// Ctrl-D.
    End,
}

/// Reads statements from a terminal.
pub(super) struct Prompt {
    editor: Editor<SqlHelper, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    pub(super) fn open() -> Result<Self, CliError> {
        let mut editor = Editor::new().map_err(CliError::Editor)?;
        editor.set_helper(Some(SqlHelper::default()));
        let history = history_file();
        if let Some(history) = &history {
            // In the first session the history file does not exist yet.
            let _ = editor.load_history(history);
        }
        Ok(Self { editor, history })
    }

    /// Sets the table names that completion offers beside keywords.
    pub(super) fn offer_tables(&mut self, tables: Vec<String>) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.tables = tables;
        }
    }

    /// Waits for a whole statement or command.
    pub(super) fn read(&mut self) -> Result<Typed, CliError> {
        match self.editor.readline("hwacha> ") {
            Ok(text) => {
                if !text.trim().is_empty() {
                    // An error is ignored, since a full disk must not end the shell.
                    let _ = self.editor.add_history_entry(&text);
                    if let Some(history) = &self.history {
                        let _ = self.editor.append_history(history);
                    }
                }
                Ok(Typed::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupt),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(CliError::Editor(error)),
        }
    }
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    let directory = state.join("hwacha");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

#[derive(Default, Helper, Highlighter, Hinter)]
struct SqlHelper {
    tables: Vec<String>,
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line[..position].char_indices().rfind(|(_, c)| !(c.is_alphanumeric() || *c == '_'));
        let start = before.map_or(0, |(at, c)| at + c.len_utf8());
        let word = line[start..position].to_lowercase();
        if word.is_empty() {
            return Ok((start, vec![]));
        }
        let tables = self.tables.iter().map(String::as_str).filter(|table| table.to_lowercase().starts_with(&word));
        let keywords = KEYWORDS.iter().copied().filter(|keyword| keyword.to_lowercase().starts_with(&word));
        Ok((start, tables.chain(keywords).map(str::to_owned).collect()))
    }
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match split(context.input()).rest {
            Some(_) => ValidationResult::Incomplete,
            None => ValidationResult::Valid(None),
        })
    }
}

#[cfg(test)]
mod tests {
    use rustyline::history::DefaultHistory;

    use super::*;

    #[test]
    fn the_word_before_the_cursor_is_completed() {
        let (helper, history) = (SqlHelper { tables: vec!["abc".to_owned()] }, DefaultHistory::new());
        let complete =
            |line: &str| helper.complete(line, line.len(), &Context::new(&history)).expect("completion reads no file");
        for (line, start) in [("ab", 0), ("select ab", 7), ("“ab", "“".len()), ("x=ab", 2)] {
            assert_eq!(complete(line), (start, vec!["abc".to_owned()]), "{line}");
        }
    }
}
