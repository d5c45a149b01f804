//! The shell's own commands, which start with a backslash.

use std::path::PathBuf;

use clap::ValueEnum;

use super::format::Format;

/// The text that `\?` prints.
pub(super) const HELP: &str = "\
Statements end with `;`. Ctrl-C cancels the running query; Ctrl-D or \\q ends the shell.
  \\?             this help
  \\d             lists tables and views
  \\d NAME        describes a table or view
  \\i FILE        runs the statements of a file
  \\o [FILE]      writes rows to a file; without FILE, to the screen
  \\format [NAME] sets the output format (table, csv, tsv, json, ndjson, vertical, none); without NAME, shows it
  \\timing        turns the run times of statements on or off
  \\q             ends the shell";

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    ListTables,
    Describe(String),
    Include(PathBuf),
    Output(Option<PathBuf>),
    ShowFormat,
    SetFormat(Format),
    ToggleTiming,
    Quit,
}

/// Parses a command. The error tells the user what to type instead.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    match (name, argument) {
        ("\\?" | "\\h" | "\\help", "") => Ok(Command::Help),
        ("\\d", "") => Ok(Command::ListTables),
        ("\\d", table) => Ok(Command::Describe(table.to_owned())),
        ("\\i", "") => Err("\\i wants a file".to_owned()),
        ("\\i", file) => Ok(Command::Include(file.into())),
        ("\\o", "") => Ok(Command::Output(None)),
        ("\\o", file) => Ok(Command::Output(Some(file.into()))),
        ("\\format", "") => Ok(Command::ShowFormat),
        ("\\format", format) => Format::from_str(format, true).map(Command::SetFormat).map_err(|_| {
            format!("there is no format \"{format}\"; there are table, csv, tsv, json, ndjson, vertical and none")
        }),
        ("\\timing", "") => Ok(Command::ToggleTiming),
        ("\\q" | "\\quit", "") => Ok(Command::Quit),
        _ => Err(format!("there is no command {line}; \\? lists all commands")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(parse("\\d lineitem;"), Ok(Command::Describe("lineitem".into())));
        assert_eq!(parse("\\format CSV"), Ok(Command::SetFormat(Format::Csv)));
        assert_eq!(parse("\\o"), Ok(Command::Output(None)));
        assert!(parse("\\format xml").expect_err("no such format").contains("ndjson"));
        assert!(parse("\\nonsense").expect_err("no such command").contains("\\?"));
    }
}
