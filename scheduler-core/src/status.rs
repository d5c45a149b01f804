//! Views of the machine's state, for people.

use hwacha_model::{ExecutorId, QueryId, TaskId};

use crate::executor::ExecutorState;
use crate::machine::Machine;
use crate::query::{QueryState, StageTasks};

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
    /// Tasks whose attempt holds a slot.
    pub running: u32,
    pub finished: u32,
    /// Of finished tasks, as are the bytes.
    pub output_rows: u64,
    pub output_bytes: u64,
}

/// What an executor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorStatus {
    pub executor: ExecutorId,
    pub slots: u32,
    pub used_slots: u32,
    pub state: ExecutorState,
}

impl Machine {
    /// Whether an attempt is one at a task of the plan that its query has now. What others found is of no use any more.
    pub fn is_of_plan(&self, attempt: TaskId) -> bool {
        self.queries.get(&attempt.query).is_some_and(|query| query.is_of_plan(attempt))
    }

    /// How far a query has come; nothing once it has ended.
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
