//! Named steps: runs all of them, measures their times, and reports failed steps at the end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The steps of one command, in the order in which they ran.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

struct Step {
    name: &'static str,
    time: Duration,
    passed: bool,
}

impl Steps {
    /// Runs one step. A failure is kept for the report and does not stop later steps.
    pub(crate) fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<bool, String>) {
        println!("==> {name}");
        let start = Instant::now();
        let passed = work().unwrap_or_else(|message| {
            eprintln!("error: {name}: {message}");
            false
        });
        self.done.push(Step { name, time: start.elapsed(), passed });
    }

    /// Prints each step's time and outcome, and tells whether all passed.
    pub(crate) fn report(&self, command: &str) -> bool {
        println!("==> {command}: steps");
        for step in &self.done {
            let outcome = if step.passed { "ok" } else { "FAILED" };
            println!("{:>10} {:>8.1} s  {outcome}", step.name, step.time.as_secs_f64());
        }
        self.done.iter().all(|step| step.passed)
    }
}

/// Runs a command without input. Its output goes to the terminal. True if its exit code is zero.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool, String> {
    let status = command.stdin(Stdio::null()).status().map_err(|error| not_started(command, &error))?;
    Ok(status.success())
}

/// Runs a command like [`succeeds`]. If it fails, returns an error that shows the command.
pub(crate) fn must_succeed(command: &mut Command) -> Result<(), String> {
    if succeeds(command)? { Ok(()) } else { Err(format!("{command:?} failed")) }
}

/// Runs a command and returns its standard output as text.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    format!("{} cannot be started: {error}", command.get_program().to_string_lossy())
}
