//! How far a query has come: the action `hwacha.progress` of Flight, with JSON in its body and its result.

use serde::{Deserialize, Serialize};

/// The name of the action.
pub const PROGRESS_ACTION: &str = "hwacha.progress";

/// The body of the action.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProgressRequest {
    /// The query's number, which the answer to its statement contains.
    pub query: String,
}

/// How far a query has come. A server may leave fields out; a field that is missing has its default value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Progress {
    /// Queued, Planning, Running, Finished, Failed or Canceled.
    pub state: String,
    /// Whether the query cannot go on because there is no executor.
    pub waiting_for_executors: bool,
    pub stages: u64,
    pub finished_stages: u64,
    pub tasks: u64,
    pub finished_tasks: u64,
    /// Rows that the last stage has written.
    pub rows: u64,
    /// Bytes that the other stages have written for each other.
    pub exchange_bytes: u64,
    pub spilled_bytes: u64,
    /// How long operators computed, on all cores together.
    pub compute_nanos: u64,
    /// The compute time of the busiest task of each stage, summed over all stages. More executors do not reduce it.
    pub busiest_nanos: u64,
    /// Whether the query was cut into several stages.
    pub distributed: bool,
}
