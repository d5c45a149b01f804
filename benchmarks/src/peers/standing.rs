//! The results of the engines: seconds per query, totals, failures, memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::engine::EngineName;
use crate::output::{Bar, Measurement};
use crate::report::median;

/// The results of one engine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Standing {
    pub engine: EngineName,
    /// Seconds of each round, for each query whose answers were right in all rounds.
    seconds: BTreeMap<usize, Vec<f64>>,
    /// The first failure or wrong answer of each query that had one.
    failures: BTreeMap<usize, String>,
    /// Peak memory of all processes of the engine together.
    pub peak_bytes: u64,
}

impl Standing {
    pub(super) fn new(engine: EngineName) -> Self {
        Self { engine, seconds: BTreeMap::new(), failures: BTreeMap::new(), peak_bytes: 0 }
    }

    pub(super) fn add(&mut self, query: usize, outcome: Result<f64, String>) {
        match outcome {
            Ok(seconds) => self.seconds.entry(query).or_default().push(seconds),
            Err(reason) => drop(self.failures.entry(query).or_insert(reason)),
        }
        if self.failures.contains_key(&query) {
            self.seconds.remove(&query);
        }
    }

    /// The last round of a query, as text.
    pub(super) fn last(&self, query: usize) -> String {
        match (self.failures.get(&query), self.seconds.get(&query).and_then(|rounds| rounds.last())) {
            (Some(reason), _) => reason.clone(),
            (None, Some(seconds)) => format!("{seconds:.3} s"),
            (None, None) => String::new(),
        }
    }

    fn median(&self, query: usize) -> Option<f64> {
        self.seconds.get(&query).map(|rounds| median(rounds))
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    standings: Vec<Standing>,
    /// The queries that all engines answered correctly. Totals are sums over these queries.
    common: BTreeSet<usize>,
    totals: Vec<Total>,
}

/// The total of one engine: the sum of the median of each query.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Total {
    pub engine: EngineName,
    pub seconds: f64,
    pub geometric_mean: f64,
    /// The first engine's total divided by this engine's total. Below 1, the first engine is faster.
    pub first_relative: f64,
}

impl Report {
    pub(super) fn new(standings: Vec<Standing>) -> Self {
        let answered = |standing: &Standing| standing.seconds.keys().copied().collect::<BTreeSet<_>>();
        let common = standings.iter().map(answered).reduce(|all, one| &all & &one).unwrap_or_default();
        let of =
            |standing: &Standing| -> Vec<f64> { common.iter().filter_map(|query| standing.median(*query)).collect() };
        let first: f64 = standings.first().map(of).unwrap_or_default().iter().sum();
        let totals = standings.iter().map(|standing| {
            let seconds = of(standing);
            let logarithms: f64 = seconds.iter().map(|seconds| seconds.ln()).sum();
            let total: f64 = seconds.iter().sum();
            Total {
                engine: standing.engine,
                seconds: total,
                geometric_mean: (logarithms / seconds.len() as f64).exp(),
                first_relative: first / total,
            }
        });
        let totals = totals.collect();
        Self { standings, common, totals }
    }

    /// The number of queries of an engine that failed or had a wrong answer.
    pub(super) fn wrong(&self, engine: EngineName) -> usize {
        self.standings.iter().filter(|standing| standing.engine == engine).map(|standing| standing.failures.len()).sum()
    }
}

impl Measurement for Report {
    /// One bar for each engine, the fastest first.
    fn bars(&self) -> Vec<Bar> {
        let mut totals = self.totals.clone();
        totals.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let bar = |total: Total| {
            let failed = match self.wrong(total.engine) {
                0 => String::new(),
                failed => format!(" ({failed} failed)"),
            };
            let text = format!("{:.1} s{failed}", total.seconds);
            let is_hwacha = total.engine == EngineName::Hwacha;
            Bar { name: total.engine.to_string(), value: total.seconds, text, is_hwacha }
        };
        totals.into_iter().map(bar).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, cells: Vec<String>| {
            let cells: String = cells.into_iter().map(|cell| format!("{cell:>24}")).collect();
            writeln!(f, "{name:<16}{cells}")
        };
        let engines = || self.standings.iter();
        row(f, "seconds", engines().map(|standing| standing.engine.to_string()).collect())?;
        let queries: BTreeSet<usize> =
            engines().flat_map(|standing| standing.seconds.keys().chain(standing.failures.keys())).copied().collect();
        for query in queries {
            let cell = |standing: &Standing| match standing.median(query) {
                Some(seconds) => format!("{seconds:.3}"),
                None => {
                    standing.failures.get(&query).map_or("", |reason| &reason[..reason.find(':').unwrap_or(0)]).into()
                }
            };
            row(f, &format!("q{query}"), engines().map(cell).collect())?;
        }
        let totals = |each: fn(&Total) -> f64| self.totals.iter().map(|total| format!("{:.3}", each(total))).collect();
        writeln!(f, "over the {} queries that all answered rightly:", self.common.len())?;
        row(f, "total", totals(|total| total.seconds))?;
        row(f, "geometric mean", totals(|total| total.geometric_mean))?;
        let first = self.standings.first().map(|standing| standing.engine.to_string()).unwrap_or_default();
        row(f, &format!("{first} to it"), totals(|total| total.first_relative))?;
        row(f, "failed or wrong", engines().map(|standing| standing.failures.len().to_string()).collect())?;
        row(f, "peak MiB", engines().map(|standing| (standing.peak_bytes >> 20).to_string()).collect())?;
        for standing in engines() {
            for (query, reason) in &standing.failures {
                writeln!(f, "{} q{query} {}", standing.engine, reason.chars().take(300).collect::<String>())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_taken_over_what_all_answered() {
        let mut fast = Standing::new(EngineName::Hwacha);
        let mut slow = Standing::new(EngineName::Ballista);
        for (query, seconds) in [(1, 1.0), (1, 3.0), (2, 8.0), (3, 100.0)] {
            fast.add(query, Ok(seconds));
        }
        slow.add(1, Ok(8.0));
        slow.add(2, Ok(32.0));
        slow.add(3, Ok(1.0));
        slow.add(3, Err("failed: it was too large".to_owned()));
        let report = Report::new(vec![fast, slow]);
        assert_eq!(report.common, BTreeSet::from([1, 2]));
        assert_eq!(report.totals.iter().map(|total| total.seconds).collect::<Vec<_>>(), [10.0, 40.0]);
        assert_eq!(report.totals[1].first_relative, 0.25);
        assert!((report.totals[0].geometric_mean - 4.0).abs() < 1e-12);
        assert_eq!((report.wrong(EngineName::Hwacha), report.wrong(EngineName::Ballista)), (0, 1));
    }
}
