//! Attempts that run on an executor. They read only the producer attempts that their launch names.

use std::collections::BTreeMap;
use std::rc::Rc;

use hwacha_model::{
    Assignment, Determinism, ExecutorId, Failure, FailureKind, HeavyPartition, Producer, TaskId, TaskStats,
};
use hwacha_scheduler_core::Event;

use crate::answer::Output;
use crate::host::Run;
use crate::workload::PARTITIONS;
use crate::world::{Item, World};

/// Number of vain looks in a row, at all producers of an attempt together, after which the attempt fails with a lost
/// exchange (80). An attempt looks at up to two producers every 5 to 200 ms, and after four vain looks every 100 to
/// 400 ms.
const PATIENCE: u32 = 80;

/// The state of an output, as a reader finds it.
pub(crate) enum Found {
    Whole(Rc<Output>),
    /// The output is being written.
    Begun,
    /// The output does not exist yet, but may still be written.
    NotYet,
    Gone,
}

impl World {
    pub(crate) fn begin(&mut self, executor: ExecutorId, assignment: Assignment) {
        let delay = self.rng.millis(1, 60);
        let process = self.process_mut(executor).expect("commands reach processes that are there");
        let attempt = assignment.attempt;
        let is_known = process.runs.contains_key(&attempt) || process.outputs.contains_key(&attempt);
        if is_known || process.refused.contains(&attempt) || process.released.contains(&attempt.query) {
            return;
        }
        process.runs.insert(attempt, Run { assignment, started: false, read: BTreeMap::new(), in_vain: 0 });
        self.after(delay, Item::Step { executor, attempt });
    }

    pub(crate) fn step(&mut self, executor: ExecutorId, attempt: TaskId) {
        if self.put_off(executor, || Item::Step { executor, attempt }) {
            return;
        }
        let query = &self.queries[&attempt.query];
        let has_begun =
            self.process(executor).and_then(|process| process.runs.get(&attempt)).is_some_and(|run| run.started);
        if has_begun && query.stalled_until > self.now && attempt.stage == query.graph.root() {
            // A root attempt waits while the reader of its rows stalls.
            let until = query.stalled_until;
            return self.at(until, Item::Step { executor, attempt });
        }
        let Some(mut run) = self.process_mut(executor).and_then(|process| process.runs.remove(&attempt)) else {
            return;
        };
        if !run.started {
            run.started = true;
            self.report(executor, Event::Started { executor, attempt });
        } else if let Some(ended) = self.work(executor, &mut run) {
            return self.report(executor, ended);
        }
        let delay = if run.in_vain > 3 { self.rng.millis(100, 400) } else { self.rng.millis(5, 200) };
        self.process_mut(executor).expect("the process is there").runs.insert(attempt, run);
        self.after(delay, Item::Step { executor, attempt });
    }

    /// Continues an attempt. If the attempt ends, returns its last report.
    fn work(&mut self, executor: ExecutorId, run: &mut Run) -> Option<Event> {
        let attempt = run.assignment.attempt;
        let bound = run.assignment.inputs.iter().flat_map(|input| input.producers.iter().copied());
        let mut unread: Vec<_> = bound.filter(|producer| !run.read.contains_key(&producer.attempt)).collect();
        if unread.is_empty() {
            return Some(self.conclude(executor, run));
        }
        for _ in 0..unread.len().min(2) {
            let producer = unread.swap_remove(self.rng.index(unread.len()));
            if let Err(failure) = self.read_input(executor, run, producer) {
                return Some(Event::Failed { executor, attempt, failure });
            }
        }
        // A varying stage may end before it has read all inputs, like a stage with a LIMIT.
        let varying = self.queries[&attempt.query].stage(attempt.stage).determinism == Determinism::Varying;
        (varying && !run.read.is_empty() && self.rng.percent(10)).then(|| self.conclude(executor, run))
    }

    fn read_input(&mut self, executor: ExecutorId, run: &mut Run, producer: Producer) -> Result<(), Failure> {
        let attempt = run.assignment.attempt;
        let found = self.look(producer);
        match found {
            Found::Whole(output) => {
                run.in_vain = 0;
                run.read.insert(producer.attempt, output);
                self.report(executor, Event::InputRead { executor, attempt, producer: producer.attempt });
                return Ok(());
            }
            Found::Begun => {
                run.in_vain = 0;
                return Ok(());
            }
            Found::NotYet if run.in_vain < PATIENCE => {
                run.in_vain += 1;
                return Ok(());
            }
            Found::NotYet | Found::Gone => {}
        }
        let kind = FailureKind::ExchangeLost { producer: producer.attempt };
        Err(Failure::new(kind, format!("the output of {} is not there", producer.attempt)))
    }

    /// Looks for an output on the executor that the launch names.
    pub(crate) fn look(&mut self, producer: Producer) -> Found {
        if self.now < self.bad_network_until && self.rng.percent(15) {
            return Found::Gone;
        }
        let Some(process) = self.process(producer.executor) else { return Found::Gone };
        if self.now < process.hung_until {
            return Found::NotYet;
        }
        if let Some(output) = process.outputs.get(&producer.attempt) {
            return Found::Whole(Rc::clone(output));
        }
        match process.runs.get(&producer.attempt) {
            Some(run) if run.started => Found::Begun,
            Some(_) => Found::NotYet,
            None if process.refused.contains(&producer.attempt) => Found::Gone,
            None => Found::NotYet,
        }
    }

    /// Ends an attempt that has read its inputs: with its output, or with a failure from the workload.
    fn conclude(&mut self, executor: ExecutorId, run: &Run) -> Event {
        let attempt = run.assignment.attempt;
        let query = self.queries.get_mut(&attempt.query).expect("attempts belong to queries");
        if query.outgrows {
            let failure = Failure::new(FailureKind::Outgrown, "there are more rows than was thought");
            return Event::Failed { executor, attempt, failure };
        }
        if let Some(failure) = query.trouble(attempt, run.assignment.waves) {
            return Event::Failed { executor, attempt, failure };
        }
        let determinism = query.stage(attempt.stage).determinism;
        let is_empty = query.plan.empty.contains(&attempt.stage);
        let output = Rc::new(Output::derive(&run.assignment, determinism, &run.read));
        let process = self.process_mut(executor).expect("the process is there");
        process.outputs.insert(attempt, output);
        let rows = u64::from(!is_empty);
        // Stages with odd numbers have a heavy partition. All tasks of such a stage report the same one.
        let heavy = HeavyPartition { partition: attempt.stage.0 % PARTITIONS, bytes: rows * 40 };
        let heavy = if attempt.stage.0 % 2 == 1 { vec![heavy] } else { vec![] };
        let stats = TaskStats { output_rows: rows, output_bytes: rows * 50, heavy, ..TaskStats::default() };
        Event::Finished { executor, attempt, stats }
    }
}
