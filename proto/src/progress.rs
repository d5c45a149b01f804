//! The progress of a query: the Flight action `hwacha.progress`, whose body and result are JSON.

use serde::{Deserialize, Serialize};

/// The name of the action.
pub const PROGRESS_ACTION: &str = "hwacha.progress";

/// The body of the action.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProgressRequest {
    /// The query's number, which the answer to its statement contains.
    pub query: String,
}

/// The progress of a query. A field that the server leaves out has its default value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Progress {
    /// Queued, Planning, Running, Finished, Failed or Canceled.
    pub state: String,
    /// Whether the query waits because there is no executor.
    pub waiting_for_executors: bool,
    pub stages: u64,
    pub finished_stages: u64,
    pub tasks: u64,
    pub finished_tasks: u64,
    /// Rows that the last stage has written.
    pub rows: u64,
    /// Bytes that all other stages have written.
    pub exchange_bytes: u64,
    pub spilled_bytes: u64,
    /// Reads of remote files, without retries.
    pub store_requests: u64,
    pub store_retries: u64,
    /// Bytes of remote files that the stores sent.
    pub store_bytes: u64,
    /// Bytes of remote files that came from the caches of executors.
    pub cached_bytes: u64,
    /// Time that scans waited for the stores, summed over all partitions of all tasks.
    pub store_wait_nanos: u64,
    /// Compute time of the operators, summed over all cores.
    pub compute_nanos: u64,
    /// The compute time of the busiest task of each stage, summed over all stages.
    pub busiest_nanos: u64,
    /// Whether the query was cut into several stages.
    pub distributed: bool,
}
