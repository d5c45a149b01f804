//! The types that the planner, the scheduler's machine and the executors share, as plain data.
//!
//! ```text
//!   Query --> StageGraph --> Stage --(Output)--> Input --> Stage ...
//!                              |
//!                              +--> Task (one executor's share of a stage) --> attempts (TaskId)
//! ```
//!
//! The crate depends on `std` alone, so `scheduler-core` and `sim` build in seconds and cannot do I/O.

pub mod adaptation;
pub mod bytes;
pub mod failure;
pub mod ids;
pub mod stage;
pub mod task;
pub mod time;

pub use adaptation::Adaptation;
pub use bytes::ByteSize;
pub use failure::{Failure, FailureKind};
pub use ids::{ExecutorId, QueryId, StageId, TaskId, TaskIndex};
pub use stage::{
    Adaptivity, Delivery, Determinism, Input, JoinSplit, JoinSwitch, OutputKind, Stage, StageGraph, StageGraphError,
};
pub use task::{Assignment, HeavyPartition, InputBinding, Producer, Reading, StoreUse, TaskStats};
pub use time::Timestamp;
