//! What each engine took for each query, and what it asked of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::EngineName;
use crate::output::{Bar, Measurement};
use crate::slow_store::Asked;

/// One run of a query.
#[derive(Clone, Debug, Serialize)]
struct Run {
    /// `None` if it failed or was wrong.
    seconds: Option<f64>,
    problem: Option<String>,
    asked: Asked,
}

/// The runs of one engine, by query.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    pub engine: EngineName,
    runs: BTreeMap<usize, Vec<Run>>,
}

impl Standing {
    pub(crate) fn new(engine: EngineName) -> Self {
        Self { engine, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, number: usize, answer: Result<f64, String>, asked: Asked) {
        let (seconds, problem) = match answer {
            Ok(seconds) => (Some(seconds), None),
            Err(problem) => (None, Some(problem)),
        };
        self.runs.entry(number).or_default().push(Run { seconds, problem, asked });
    }

    fn seconds(&self, number: usize, round: usize) -> Option<f64> {
        self.runs.get(&number)?.get(round)?.seconds
    }

    fn asked(&self, numbers: &BTreeSet<usize>, round: usize) -> Asked {
        let mut sum = Asked::default();
        for run in numbers.iter().filter_map(|number| self.runs.get(number)?.get(round)) {
            sum.requests += run.asked.requests;
            sum.bytes += run.asked.bytes;
        }
        sum
    }
}

/// All engines.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    standings: Vec<Standing>,
}

impl Report {
    pub(crate) fn new(standings: Vec<Standing>) -> Self {
        Self { standings }
    }

    /// How many queries of Hwacha failed or were wrong.
    pub(crate) fn wrong(&self) -> usize {
        let own = self.standings.iter().filter(|standing| standing.engine.name().starts_with("hwacha"));
        own.flat_map(|standing| standing.runs.values())
            .filter(|runs| runs.iter().any(|run| run.problem.is_some()))
            .count()
    }

    fn rounds(&self) -> usize {
        self.standings.iter().flat_map(|standing| standing.runs.values()).map(Vec::len).max().unwrap_or(0)
    }

    /// The queries that all engines answered in all rounds.
    fn common(&self) -> BTreeSet<usize> {
        let numbers: BTreeSet<usize> =
            self.standings.iter().flat_map(|standing| standing.runs.keys().copied()).collect();
        let answered = |number: &usize| {
            let rounds = 0..self.rounds();
            self.standings.iter().all(|it| rounds.clone().all(|round| it.seconds(*number, round).is_some()))
        };
        numbers.into_iter().filter(answered).collect()
    }

    fn total(&self, standing: &Standing, round: usize) -> f64 {
        self.common().iter().filter_map(|number| standing.seconds(*number, round)).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let common = self.common();
        for round in 0..self.rounds() {
            writeln!(f, "round {} ({} queries that all answered)", round + 1, common.len())?;
            let first = self.standings.first().map_or(0.0, |hwacha| self.total(hwacha, round));
            for standing in &self.standings {
                let (total, asked) = (self.total(standing, round), standing.asked(&common, round));
                writeln!(
                    f,
                    "  {:<14} {total:>8.2} s   hwacha takes {:>5.2} of it   {:>7} requests   {:>8.1} MB",
                    standing.engine.name(),
                    first / total,
                    asked.requests,
                    asked.bytes as f64 / 1e6,
                )?;
            }
        }
        for standing in &self.standings {
            for (number, runs) in &standing.runs {
                if let Some(problem) = runs.iter().find_map(|run| run.problem.as_ref()) {
                    writeln!(f, "{} q{number} {problem}", standing.engine.name())?;
                }
            }
        }
        writeln!(f, "query, seconds of round 1: {}", self.names().join(", "))?;
        for number in &common {
            let seconds = self.standings.iter().filter_map(|standing| standing.seconds(*number, 0));
            let seconds: Vec<_> = seconds.map(|seconds| format!("{seconds:>8.3}")).collect();
            writeln!(f, "  q{number:<4}{}", seconds.join(" "))?;
        }
        Ok(())
    }
}

impl Report {
    fn names(&self) -> Vec<&'static str> {
        self.standings.iter().map(|standing| standing.engine.name()).collect()
    }
}

impl Measurement for Report {
    fn bars(&self) -> Vec<Bar> {
        let bar = |standing: &Standing| {
            let value = self.total(standing, 0);
            let name = standing.engine.name();
            Bar { name: name.to_owned(), value, text: format!("{value:.1} s"), is_hwacha: name.starts_with("hwacha") }
        };
        self.standings.iter().map(bar).collect()
    }
}
