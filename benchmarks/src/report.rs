//! The report of a comparison, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::output::{Bar, Measurement};

const MEBIBYTE: f64 = (1 << 20) as f64;

/// CPU times of processes, all cores together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    pub plain_seconds: f64,
    pub scheduler_seconds: f64,
    pub executor_seconds: f64,
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            plain_seconds: self.plain_seconds - before.plain_seconds,
            scheduler_seconds: self.scheduler_seconds - before.scheduler_seconds,
            executor_seconds: self.executor_seconds - before.executor_seconds,
        }
    }
}

/// One query on both sides.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Measured {
    pub number: usize,
    pub plain_seconds: Vec<f64>,
    pub hwacha_seconds: Vec<f64>,
    /// Exchanged bytes of the last round. `spilled_bytes` and `cpu` are of the last round, too.
    pub exchanged_bytes: u64,
    pub spilled_bytes: u64,
    pub cpu: Cpu,
    /// Why the query failed, or how its rows differ.
    pub failure: Option<String>,
}

impl Measured {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// The last round, as text.
    pub(crate) fn last(&self) -> String {
        let last = |seconds: &[f64]| seconds.last().map_or("-".to_owned(), |seconds| format!("{seconds:.3} s"));
        let failure = self.failure.as_deref().unwrap_or_default();
        format!("plain {}, Hwacha {} {failure}", last(&self.plain_seconds), last(&self.hwacha_seconds))
    }
}

/// The peak memory of each side: the most bytes that all its processes held at the same time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PeakMemory {
    pub plain_bytes: u64,
    pub hwacha_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Line {
    query: usize,
    plain_seconds: f64,
    hwacha_seconds: f64,
    ratio: f64,
}

/// A whole run. The seconds of a query are the median of its rounds. Totals are sums of these medians.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    lines: Vec<Line>,
    total: Line,
    peak_memory: PeakMemory,
    rounds: Vec<Measured>,
}

impl Report {
    pub(crate) fn new(rounds: Vec<Measured>, peak_memory: PeakMemory) -> Self {
        let line = |query, plain_seconds, hwacha_seconds| Line {
            query,
            plain_seconds,
            hwacha_seconds,
            ratio: hwacha_seconds / plain_seconds,
        };
        let lines: Vec<_> = rounds
            .iter()
            .map(|query| line(query.number, median(&query.plain_seconds), median(&query.hwacha_seconds)))
            .collect();
        let sum = |seconds: fn(&Line) -> f64| lines.iter().map(seconds).sum();
        let total = line(0, sum(|line| line.plain_seconds), sum(|line| line.hwacha_seconds));
        Self { lines, total, peak_memory, rounds }
    }

    /// The number of queries that failed or gave other rows.
    pub(crate) fn wrong(&self) -> usize {
        self.rounds.iter().filter(|query| query.failure.is_some()).count()
    }
}

impl Measurement for Report {
    fn bars(&self) -> Vec<Bar> {
        let bar = |name: &str, value, is_hwacha| Bar {
            name: name.to_owned(),
            value,
            text: format!("{value:.1} s"),
            is_hwacha,
        };
        vec![bar("plain DataFusion", self.total.plain_seconds, false), bar("Hwacha", self.total.hwacha_seconds, true)]
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MEBIBYTE);
        writeln!(f, "query    plain s   Hwacha s   ratio      exchanged        spilled  answer")?;
        for (line, query) in self.lines.iter().zip(&self.rounds) {
            let answer = query.failure.as_deref().unwrap_or("equal");
            let (exchanged, spilled) = (mebibytes(query.exchanged_bytes), mebibytes(query.spilled_bytes));
            let name = format!("q{}", line.query);
            let (plain, hwacha, ratio) = (line.plain_seconds, line.hwacha_seconds, line.ratio);
            writeln!(f, "{name:<5} {plain:>10.3} {hwacha:>10.3} {ratio:>7.2} {exchanged:>14} {spilled:>14}  {answer}")?;
        }
        let total = &self.total;
        let sum = |bytes: fn(&Measured) -> u64| mebibytes(self.rounds.iter().map(bytes).sum());
        writeln!(
            f,
            "total {:>10.3} {:>10.3} {:>7.2} {:>14} {:>14}",
            total.plain_seconds,
            total.hwacha_seconds,
            total.ratio,
            sum(|query| query.exchanged_bytes),
            sum(|query| query.spilled_bytes)
        )?;
        let cpu = |seconds: fn(&Cpu) -> f64| self.rounds.iter().map(|query| seconds(&query.cpu)).sum::<f64>();
        writeln!(
            f,
            "CPU seconds of the last round: plain {:.1}; Hwacha: scheduler {:.1}, executors {:.1}",
            cpu(|cpu| cpu.plain_seconds),
            cpu(|cpu| cpu.scheduler_seconds),
            cpu(|cpu| cpu.executor_seconds)
        )?;
        let PeakMemory { plain_bytes, hwacha_bytes } = self.peak_memory;
        let ratio = hwacha_bytes as f64 / plain_bytes as f64;
        write!(f, "peak memory: plain {}, Hwacha {}, {ratio:.2}", mebibytes(plain_bytes), mebibytes(hwacha_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_make_ratios_and_totals() {
        let query = |number, plain: &[f64], hwacha: &[f64]| Measured {
            plain_seconds: plain.to_vec(),
            hwacha_seconds: hwacha.to_vec(),
            ..Measured::new(number)
        };
        let peaks = PeakMemory { plain_bytes: 1, hwacha_bytes: 1 };
        let report = Report::new(vec![query(1, &[1.0, 9.0, 2.0], &[4.0, 4.0]), query(2, &[2.0], &[2.0])], peaks);
        assert_eq!((report.lines[0].ratio, report.total.ratio, report.wrong()), (2.0, 1.5, 0));
    }
}
