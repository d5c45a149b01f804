//! Measures the time of the scheduler's decisions by simulation, with 10 to 1,000 executors.

use std::fmt;
use std::time::Duration;

use clap::Args;
use hwacha_sim::fleet::{Fleet, Measured, measure};
use serde::Serialize;

use crate::Result;
use crate::memory::peak_bytes_of_this_process;
use crate::output::{Bar, Measurement, OutputArgs};

const EXECUTORS: [u64; 5] = [10, 30, 100, 300, 1000];
/// Executors for each query. The numbers of queries and tasks grow with the fleet.
const EXECUTORS_PER_QUERY: u64 = 5;
const TASKS_PER_EXECUTOR: u64 = 100;

#[derive(Args, Clone, Debug)]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// The times of one fleet. The time of an event includes all decisions that follow from it.
#[derive(Debug, Serialize)]
struct Line {
    executors: u64,
    queries: u64,
    tasks: u64,
    events: usize,
    events_a_second: f64,
    median_micros: f64,
    p99_micros: f64,
    longest_millis: f64,
    /// Peak memory of this process so far, including the simulation. `None` if the system does not report it.
    peak_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Table {
    lines: Vec<Line>,
}

/// Simulates all fleets and prints the table.
pub(crate) fn run(args: &FleetArgs) -> Result<()> {
    let fleets = EXECUTORS.map(|executors| Fleet {
        executors,
        queries: executors / EXECUTORS_PER_QUERY,
        tasks: executors * TASKS_PER_EXECUTOR,
    });
    let lines = fleets.into_iter().map(|fleet| Line::new(&measure(fleet))).collect();
    args.output.give(&Table { lines }, "the scheduler: microseconds of an event, on average")
}

impl Line {
    fn new(measured: &Measured) -> Self {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Self {
            executors: measured.fleet.executors,
            queries: measured.fleet.queries,
            tasks: measured.fleet.tasks,
            events: measured.events,
            events_a_second: measured.events_a_second(),
            median_micros: micros(measured.median),
            p99_micros: micros(measured.p99),
            longest_millis: micros(measured.longest) / 1e3,
            peak_bytes: peak_bytes_of_this_process(),
        }
    }
}

impl Measurement for Table {
    fn bars(&self) -> Vec<Bar> {
        let bar = |line: &Line| {
            let value = 1e6 / line.events_a_second;
            let (name, text) = (format!("{} executors", line.executors), format!("{value:.2}"));
            Bar { name, value, text, is_hwacha: true }
        };
        self.lines.iter().map(bar).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "executors  queries    tasks     events  events/s   median us   p99 us  longest ms  memory MiB")?;
        for line in &self.lines {
            write!(
                f,
                "\n{:>9} {:>8} {:>8} {:>10} {:>9.0} {:>11.1} {:>8.1} {:>11.2} {:>11}",
                line.executors,
                line.queries,
                line.tasks,
                line.events,
                line.events_a_second,
                line.median_micros,
                line.p99_micros,
                line.longest_millis,
                line.peak_bytes.map_or("-".to_owned(), |bytes| (bytes >> 20).to_string()),
            )?;
        }
        Ok(())
    }
}
