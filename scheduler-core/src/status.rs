//! Views of the machine's state, for listings and progress.

use hwacha_model::{ExecutorId, QueryId, TaskId};

use crate::executor::ExecutorState;
use crate::machine::Machine;
use crate::query::{QueryState, StageTasks};

/// How far a query has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStatus {
    pub state: QueryState,
    /// Whether the query cannot go on because no executor is usable.
    pub waiting_for_executors: bool,
    /// In the graph's order; empty before the query is planned.
    pub stages: Vec<StageStatus>,
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageStatus {
    pub tasks: u32,
    /// Tasks whose attempt has not finished.
    pub running: u32,
    pub finished: u32,
    /// Rows that the finished tasks wrote. The bytes count the same tasks.
    pub output_rows: u64,
    pub output_bytes: u64,
}

/// The slots and the state of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorStatus {
    pub executor: ExecutorId,
    pub slots: u32,
    pub used_slots: u32,
    pub state: ExecutorState,
}

impl Machine {
    /// Whether an attempt belongs to the query's current plan. Measurements and filters of an earlier plan are of no
    /// use.
    pub fn is_of_plan(&self, attempt: TaskId) -> bool {
        self.queries.get(&attempt.query).is_some_and(|query| query.is_of_plan(attempt))
    }

    /// How far a query has come; `None` once it has ended.
    pub fn query_status(&self, query: QueryId) -> Option<QueryStatus> {
        let query = self.queries.get(&query)?;
        Some(QueryStatus {
            state: query.state,
            waiting_for_executors: self.without_executors.is_some() && query.waits_for_executors(),
            stages: query.stages.iter().map(stage_status).collect(),
        })
    }

    /// All executors that are not lost.
    pub fn executors(&self) -> impl Iterator<Item = ExecutorStatus> {
        self.executors.iter().map(|(id, executor)| ExecutorStatus {
            executor: *id,
            slots: executor.slots,
            used_slots: executor.used_slots(),
            state: executor.state(),
        })
    }
}

fn stage_status(stage: &StageTasks) -> StageStatus {
    let mut status = StageStatus { tasks: stage.tasks.len() as u32, ..StageStatus::default() };
    for attempt in stage.attempts() {
        match attempt.is_live() {
            true => status.running += 1,
            false => status.finished += 1,
        }
        status.output_rows += attempt.stats.output_rows;
        status.output_bytes += attempt.stats.output_bytes;
    }
    status
}
