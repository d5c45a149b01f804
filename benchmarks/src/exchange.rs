//! Measures how many bytes per second and core move from one executor to another in three ways: Hwacha's exchange,
//! arrow-flight's own encoder and decoder over a server with default settings, and copying memory.
//!
//! Sender and receiver are in this process, and the CPU time of the whole process counts. The receiver drops the rows.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use clap::Args;
use hwacha_executor::ExchangeProbe;
use serde::Serialize;

use crate::Result;
use crate::output::{Bar, Measurement, OutputArgs};
use crate::parties::cpu_seconds;
use crate::plain_flight::PlainFlight;
use crate::report::median;

const BATCH_ROWS: usize = 8192;
const COLUMNS: usize = 8;
/// Number of different batches (256 of 512 KiB or more: together larger than the CPU's caches).
const DIFFERENT_BATCHES: usize = 256;
const GIGABYTE: f64 = 1e9;
const HWACHA: &str = "Hwacha's exchange";

/// The amount of rows to move.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExchangeArgs {
    /// MiB of rows that each way moves in each round.
    #[arg(long, default_value_t = 1024)]
    mebibytes: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Line {
    rows: &'static str,
    way: &'static str,
    /// Gigabytes per second of elapsed time.
    gigabytes_a_second: f64,
    /// Gigabytes per second of CPU time, all cores together.
    gigabytes_a_core_second: f64,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Table {
    lines: Vec<Line>,
}

/// Moves the rows and prints the speeds.
pub(crate) async fn run(args: ExchangeArgs) -> Result<()> {
    let mut lines = vec![];
    for (name, different) in [("integers", integers()?), ("strings", strings()?)] {
        let count = (args.mebibytes << 20).div_ceil(different[0].get_array_memory_size());
        let batches: Vec<_> = different.iter().cycle().take(count).cloned().collect();
        lines.extend(measure(name, &batches, args.rounds).await?);
    }
    args.output.give(&Table { lines }, "from one executor to another: GB/s per core, both ends counted")
}

impl Measurement for Table {
    fn bars(&self) -> Vec<Bar> {
        let bar = |line: &Line| {
            let value = line.gigabytes_a_core_second;
            let name = format!("{}: {}", line.rows, line.way);
            Bar { name, value, text: format!("{value:.2}"), is_hwacha: line.way == HWACHA }
        };
        self.lines.iter().map(bar).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {:<22} {:>8} {:>14}", "rows", "way", "GB/s", "GB/s per core")?;
        for line in &self.lines {
            let (wall, core) = (line.gigabytes_a_second, line.gigabytes_a_core_second);
            write!(f, "\n{:<10} {:<22} {wall:>8.2} {core:>14.2}", line.rows, line.way)?;
        }
        Ok(())
    }
}

/// Measures all ways in turn, round by round.
async fn measure(rows: &'static str, batches: &[RecordBatch], rounds: usize) -> Result<Vec<Line>> {
    let probe = ExchangeProbe::start(batches).await?;
    let plain = PlainFlight::start(batches).await?;
    let (mut hwacha, mut flight, mut memory) = (Taken::default(), Taken::default(), Taken::default());
    for _ in 0..=rounds {
        hwacha.add(async { Ok(probe.read().await?) }).await?;
        flight.add(plain.read()).await?;
        memory.add(async { Ok(copy(batches)) }).await?;
    }
    let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() as f64;
    let line = |way, taken: Taken| Line {
        rows,
        way,
        gigabytes_a_second: bytes / GIGABYTE / median(&taken.seconds[1..]),
        gigabytes_a_core_second: bytes / GIGABYTE / median(&taken.core_seconds[1..]),
    };
    Ok(vec![line(HWACHA, hwacha), line("plain Arrow Flight", flight), line("copying memory", memory)])
}

/// The times of one way, one for each round. The first round only warms up.
#[derive(Default)]
struct Taken {
    seconds: Vec<f64>,
    core_seconds: Vec<f64>,
}

impl Taken {
    async fn add(&mut self, way: impl Future<Output = Result<usize>>) -> Result<()> {
        let (started, before) = (Instant::now(), cpu_seconds(std::process::id())?);
        let rows = way.await?;
        self.seconds.push(started.elapsed().as_secs_f64());
        self.core_seconds.push(cpu_seconds(std::process::id())? - before);
        if rows == 0 { Err("no rows came".into()) } else { Ok(()) }
    }
}

fn integers() -> Result<Vec<RecordBatch>> {
    let mut random = fastrand::Rng::with_seed(1);
    batches(|| Arc::new(Int64Array::from_iter_values((0..BATCH_ROWS).map(|_| random.i64(..)))))
}

/// Columns of strings of 5 to 45 bytes, as string views, which the engine uses too.
fn strings() -> Result<Vec<RecordBatch>> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut text = || (0..random.usize(5..=45)).map(|_| random.alphanumeric()).collect::<String>();
    batches(|| Arc::new(StringViewArray::from_iter_values((0..BATCH_ROWS).map(|_| text()))))
}

fn batches(mut column: impl FnMut() -> ArrayRef) -> Result<Vec<RecordBatch>> {
    let mut batch = || Ok(RecordBatch::try_from_iter((0..COLUMNS).map(|number| (format!("c{number}"), column())))?);
    (0..DIFFERENT_BATCHES).map(|_| batch()).collect()
}

/// Copies every buffer of the batches once.
fn copy(batches: &[RecordBatch]) -> usize {
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows();
        for column in batch.columns() {
            for buffer in column.to_data().buffers() {
                std::hint::black_box(buffer.as_slice().to_vec());
            }
        }
    }
    rows
}
