//! Views of the machine's state, for people.

use hwacha_model::{ExecutorId, QueryId};

use crate::machine::Machine;
use crate::query::{QueryState, Task};

/// How far a query has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStatus {
    pub state: QueryState,
    /// Whether it cannot go on because there is no executor.
    pub waiting_for_executors: bool,
    /// In the graph's order; empty before the query is planned.
    pub stages: Vec<StageStatus>,
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageStatus {
    pub tasks: u32,
    pub running: u32,
    pub finished: u32,
    pub output_rows: u64,
    pub output_bytes: u64,
}

/// What an executor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorStatus {
    pub executor: ExecutorId,
    pub slots: u32,
    pub used_slots: u32,
    /// Whether it is given tasks.
    pub usable: bool,
}

impl Machine {
    /// How far a query has come; nothing once it has ended.
    pub fn query_status(&self, query: QueryId) -> Option<QueryStatus> {
        let query = self.queries.get(&query)?;
        Some(QueryStatus {
            state: query.state,
            waiting_for_executors: self.without_executors.is_some() && query.waits_for_executors(),
            stages: query.tasks.iter().map(|tasks| stage_status(tasks)).collect(),
        })
    }

    /// All executors that are not lost.
    pub fn executors(&self) -> impl Iterator<Item = ExecutorStatus> {
        self.executors.iter().map(|(id, executor)| ExecutorStatus {
            executor: *id,
            slots: executor.slots,
            used_slots: executor.live.len() as u32,
            usable: executor.is_usable(),
        })
    }
}

fn stage_status(tasks: &[Task]) -> StageStatus {
    let mut status = StageStatus { tasks: tasks.len() as u32, ..StageStatus::default() };
    for attempt in tasks.iter().filter_map(|task| task.attempt.as_ref()) {
        if attempt.is_live() {
            status.running += 1;
        } else {
            status.finished += 1;
        }
        status.output_rows += attempt.stats.output_rows;
        status.output_bytes += attempt.stats.output_bytes;
    }
    status
}
