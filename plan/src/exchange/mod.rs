//! The two operators at the ends of an exchange, and what they need from the process that runs them.
//!
//! [`ExchangeSinkExec`] is the root of every stage, [`ExchangeSourceExec`] stands where an input comes in. Both reach the
//! executor's store through the [`TaskExchange`] that the task's `TaskContext` carries, so the plan crate knows neither
//! sockets nor files.

mod sink;
mod source;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::prelude::SessionConfig;
use futures::future::BoxFuture;
use hwacha_model::StageId;

pub use sink::ExchangeSinkExec;
pub use source::{ExchangeSourceExec, SourceSpec, is_column};

/// What one task's sink and sources reach the rest of the cluster through.
pub trait TaskExchange: Debug + Send + Sync + 'static {
    /// Which of its stage's tasks this is.
    fn task(&self) -> usize;

    /// How many tasks its stage has.
    fn tasks(&self) -> usize;

    /// Which wave this plan instance works on, and how many there are.
    fn wave(&self) -> (usize, usize);

    /// The rows of one partition of an input, from all its producers.
    fn read(&self, stage: StageId, partition: usize) -> Result<SendableRecordBatchStream>;

    /// The rows that one producer task wrote to its only partition, in their order.
    fn read_run(&self, stage: StageId, producer: usize) -> Result<SendableRecordBatchStream>;

    /// Waits until the task's output takes more rows: at once, unless it is the result and its reader is slow.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// Appends rows to a partition of the task's output. Does not wait for consumers.
    fn append(&self, partition: usize, batch: RecordBatch) -> Result<()>;
}

/// Carries a [`TaskExchange`] inside a `SessionConfig`.
#[derive(Debug)]
struct TaskExchangeExtension(Arc<dyn TaskExchange>);

/// A configuration whose plans read and write through `exchange`.
pub fn with_task_exchange(config: SessionConfig, exchange: Arc<dyn TaskExchange>) -> SessionConfig {
    config.with_extension(Arc::new(TaskExchangeExtension(exchange)))
}

fn task_exchange(context: &TaskContext) -> Result<Arc<dyn TaskExchange>> {
    context
        .session_config()
        .get_extension::<TaskExchangeExtension>()
        .map(|extension| Arc::clone(&extension.0))
        .ok_or_else(|| internal_datafusion_err!("an exchange operator was run outside a task"))
}
