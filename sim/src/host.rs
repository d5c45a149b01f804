//! What a simulated machine has: its executor process, and the attempts that run there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use hwacha_model::{Assignment, ExecutorId, QueryId, TaskId, Timestamp};
use hwacha_scheduler_core::Event;

use crate::answer::Output;

/// A machine of the cluster; it has one executor process at a time.
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

/// What the scheduler tells an executor.
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
    /// How many slots are blocked by stopped attempts that still compute, and until which time.
    pub blocked: (u32, Timestamp),
    pub draining: bool,
    pub runs: BTreeMap<TaskId, Run>,
    pub outputs: BTreeMap<TaskId, Rc<Output>>,
    /// Attempts that were aborted: they are not begun again.
    pub refused: BTreeSet<TaskId>,
    pub released: BTreeSet<QueryId>,
    pub unacknowledged: BTreeMap<u64, Event>,
    pub next_report: u64,
    /// When the last command arrives, for keeping the order.
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

    /// What it runs or has unacknowledged reports about.
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
