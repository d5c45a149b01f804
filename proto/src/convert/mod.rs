//! The only code that converts between wire types and the model.

mod assignment;
mod failure;
mod report;
mod ticket;

use hwacha_model::{QueryId, StageId, TaskId, TaskIndex};

use crate::control;

pub use ticket::ExchangeRead;

/// A message lacks a required field, so its sender has another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message came without its `{0}`")]
pub struct MissingField(pub &'static str);

impl From<TaskId> for control::TaskId {
    fn from(id: TaskId) -> Self {
        Self { query: id.query.0, stage: id.stage.0, task: id.task.0, attempt: id.attempt }
    }
}

impl From<control::TaskId> for TaskId {
    fn from(id: control::TaskId) -> Self {
        Self { query: QueryId(id.query), stage: StageId(id.stage), task: TaskIndex(id.task), attempt: id.attempt }
    }
}

fn task_id(id: Option<control::TaskId>, field: &'static str) -> Result<TaskId, MissingField> {
    id.map(TaskId::from).ok_or(MissingField(field))
}
