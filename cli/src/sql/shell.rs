//! Carries out statements and commands and prints their results.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hwacha_client::{Connection, Error, Query};

use super::commands::{self, Command, HELP};
use super::editor::{Prompt, Typed};
use super::format::{Format, RowPrinter};
use super::progress::ProgressLine;
use super::read_file;
use super::statements::{Statement, split};
use crate::error::CliError;

/// Maximum nested levels of `\i` (16). A file that includes itself stops here.
const MAX_INCLUDES: usize = 16;

/// The state of a shell: the connection that statements run on, and the settings of the output.
pub(super) struct Shell {
    connection: Connection,
    format: Format,
    timing: bool,
    quiet: bool,
    output: Option<BufWriter<File>>,
    includes: usize,
    quit: bool,
}

/// The outcome of a statement.
enum Ran {
    Done { rows: Option<usize>, elapsed: Duration },
    Failed(Error),
    Canceled,
}

impl Shell {
    pub(super) fn new(connection: Connection, format: Format, timing: bool, quiet: bool) -> Self {
        Self { connection, format, timing, quiet, output: None, includes: 0, quit: false }
    }

    /// Reads statements from a terminal until the user leaves.
    pub(super) async fn prompt(&mut self) -> Result<ExitCode, CliError> {
        println!("Hwacha {}. \\? for help.", env!("CARGO_PKG_VERSION"));
        let mut prompt = Prompt::open()?;
        while !self.quit {
            // An error is ignored: without table names, completion only offers keywords.
            prompt.offer_tables(self.connection.tables().await.unwrap_or_default());
            let (back, typed) = tokio::task::spawn_blocking(move || {
                let typed = prompt.read();
                (prompt, typed)
            })
            .await
            .map_err(|error| CliError::Usage(error.to_string()))?;
            prompt = back;
            match typed? {
                Typed::Text(text) => {
                    self.run_text(&text, None).await?;
                }
                Typed::Interrupt => {}
                Typed::End => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs all statements and commands of a text, until one fails. Returns whether all succeeded.
    pub(super) async fn run_text(&mut self, text: &str, file: Option<&Path>) -> Result<bool, CliError> {
        let found = split(text);
        for statement in found.complete.into_iter().chain(found.rest) {
            if self.quit {
                break;
            }
            let well = match statement.text.starts_with('\\') {
                true => Box::pin(self.command(&statement, file)).await?,
                false => self.statement(&statement, file).await?,
            };
            if !well {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn statement(&mut self, statement: &Statement, file: Option<&Path>) -> Result<bool, CliError> {
        match self.run(&statement.text).await {
            Ok(Ran::Done { rows, elapsed }) => {
                self.summary(rows, elapsed);
                Ok(true)
            }
            Ok(Ran::Failed(error)) => {
                complain(&error.message, statement, file);
                Ok(false)
            }
            Ok(Ran::Canceled) => {
                eprintln!("canceled");
                Ok(false)
            }
            // The reader of standard output has closed the pipe, as `head` does. This is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.quit = true;
                Ok(true)
            }
            Err(error) => {
                complain(&format!("cannot write the rows: {error}"), statement, file);
                Ok(false)
            }
        }
    }

    /// Runs one statement; Ctrl-C cancels it by dropping it.
    async fn run(&mut self, sql: &str) -> io::Result<Ran> {
        let started = Instant::now();
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        let query = tokio::select! {
            query = self.connection.query(sql) => query,
            _ = &mut interrupted => return Ok(Ran::Canceled),
        };
        let query = match query {
            Ok(query) => query,
            Err(error) => return Ok(Ran::Failed(error)),
        };
        tokio::select! {
            ran = self.print(query, started) => ran,
            _ = &mut interrupted => Ok(Ran::Canceled),
        }
    }

    async fn print(&mut self, mut query: Query, started: Instant) -> io::Result<Ran> {
        let is_command = query.command().is_some();
        let mut progress = ProgressLine::start(&self.connection, query.id());
        let mut printer = RowPrinter::new(self.format, query.schema().clone());
        let mut screen = BufWriter::new(io::stdout());
        loop {
            let batch = match query.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    screen.flush()?;
                    return Ok(Ran::Failed(error));
                }
            };
            progress = None;
            printer.add(batch, self.output(&mut screen))?;
        }
        drop(progress);
        if !is_command {
            printer.finish(self.output(&mut screen))?;
        }
        self.output(&mut screen).flush()?;
        Ok(Ran::Done { rows: (!is_command).then(|| printer.rows()), elapsed: started.elapsed() })
    }

    fn output<'a>(&'a mut self, screen: &'a mut dyn Write) -> &'a mut dyn Write {
        match &mut self.output {
            Some(file) => file,
            None => screen,
        }
    }

    fn summary(&self, rows: Option<usize>, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        match (rows, self.quiet, self.timing) {
            (Some(1), false, _) => println!("(1 row, {seconds:.3} s)"),
            (Some(rows), false, _) => println!("({rows} rows, {seconds:.3} s)"),
            (None, false, _) => println!("(done, {seconds:.3} s)"),
            (_, true, true) => eprintln!("{seconds:.3} s"),
            (_, true, false) => {}
        }
    }

    async fn command(&mut self, statement: &Statement, file: Option<&Path>) -> Result<bool, CliError> {
        let command = match commands::parse(&statement.text) {
            Ok(command) => command,
            Err(message) => {
                complain(&message, statement, file);
                return Ok(false);
            }
        };
        match command {
            Command::Help => println!("{HELP}"),
            Command::ListTables => {
                let sql = "SELECT table_name AS name, table_type AS type FROM information_schema.tables \
                           WHERE table_schema <> 'information_schema' ORDER BY 1";
                return self.statement(&Statement { text: sql.to_owned(), line: statement.line }, file).await;
            }
            Command::Describe(table) => {
                let text = format!("DESCRIBE {table}");
                return self.statement(&Statement { text, line: statement.line }, file).await;
            }
            Command::Include(path) => return self.include(&path, statement, file).await,
            Command::Output(path) => {
                if let Err(error) = self.redirect(path.as_deref()) {
                    complain(&error.to_string(), statement, file);
                    return Ok(false);
                }
            }
            Command::ShowFormat => println!("{:?}", self.format),
            Command::SetFormat(format) => self.format = format,
            Command::ToggleTiming => {
                self.timing = !self.timing;
                println!("timing is {}", if self.timing { "on" } else { "off" });
            }
            Command::Quit => self.quit = true,
        }
        Ok(true)
    }

    async fn include(&mut self, path: &Path, statement: &Statement, file: Option<&Path>) -> Result<bool, CliError> {
        if self.includes == MAX_INCLUDES {
            let text =
                format!("\\i is nested more than {MAX_INCLUDES} levels deep; check whether a file includes itself");
            complain(&text, statement, file);
            return Ok(false);
        }
        let text = match read_file(path) {
            Ok(text) => text,
            Err(error) => {
                complain(&error.to_string(), statement, file);
                return Ok(false);
            }
        };
        self.includes += 1;
        let well = self.run_text(&text, Some(path)).await;
        self.includes -= 1;
        well
    }

    fn redirect(&mut self, path: Option<&Path>) -> Result<(), CliError> {
        self.output = match path {
            None => None,
            Some(path) => {
                let failed = |source| CliError::WriteFile { path: path.to_owned(), source };
                Some(BufWriter::new(File::create(path).map_err(failed)?))
            }
        };
        Ok(())
    }
}

fn complain(message: &str, statement: &Statement, file: Option<&Path>) {
    match file {
        Some(file) => eprintln!("error: {}:{}: {message}", file.display(), statement.line),
        None => eprintln!("error: {message}"),
    }
}
