//! A simulated computer: its executor process, and the attempts that run there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use hwacha_model::{Assignment, ExecutorId, QueryId, TaskId, Timestamp};
use hwacha_scheduler_core::Event;

use crate::answer::Output;

/// A computer of the cluster. It has one executor process at a time.
#[derive(Debug)]
pub(crate) struct Host {
    pub slots: u32,
    pub process: Option<Process>,
}

impl Host {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots, process: None }
    }
}

/// A command of the scheduler to an executor.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Launch(Assignment),
    Abort(TaskId),
    Release(QueryId),
    Evicted,
}

/// One executor process.
#[derive(Debug)]
pub(crate) struct Process {
    pub id: ExecutorId,
    pub connection: Option<u64>,
    pub hung_until: Timestamp,
    /// Number of slots that are blocked by stopped attempts that still compute, and the time at which they become free.
    pub blocked: (u32, Timestamp),
    pub draining: bool,
    pub runs: BTreeMap<TaskId, Run>,
    pub outputs: BTreeMap<TaskId, Rc<Output>>,
    /// Aborted attempts. A launch that arrives late does not start them.
    pub refused: BTreeSet<TaskId>,
    pub released: BTreeSet<QueryId>,
    pub unacknowledged: BTreeMap<u64, Event>,
    pub next_report: u64,
    /// Arrival time of the last command. Later commands do not arrive before it, so their order is kept.
    pub last_command: Timestamp,
}

impl Process {
    pub(crate) fn new(id: ExecutorId) -> Self {
        Self {
            id,
            connection: None,
            hung_until: Timestamp::default(),
            blocked: (0, Timestamp::default()),
            draining: false,
            runs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            refused: BTreeSet::new(),
            released: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            next_report: 0,
            last_command: Timestamp::default(),
        }
    }

    /// The attempts that the process runs or has unacknowledged reports about.
    pub(crate) fn known(&self) -> BTreeSet<TaskId> {
        self.runs.keys().copied().chain(self.unacknowledged.values().filter_map(reported_attempt)).collect()
    }

    pub(crate) fn forget(&mut self, is_it: impl Fn(&TaskId) -> bool) {
        self.runs.retain(|attempt, _| !is_it(attempt));
        self.outputs.retain(|attempt, _| !is_it(attempt));
    }
}

fn reported_attempt(event: &Event) -> Option<TaskId> {
    match event {
        Event::Started { attempt, .. }
        | Event::InputRead { attempt, .. }
        | Event::Finished { attempt, .. }
        | Event::Failed { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

/// An attempt that an executor is running.
#[derive(Debug)]
pub(crate) struct Run {
    pub assignment: Assignment,
    pub started: bool,
    pub read: BTreeMap<TaskId, Rc<Output>>,
    pub in_vain: u32,
}
