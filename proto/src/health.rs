//! The service names that a process reports to gRPC health checks (`grpc.health.v1.Health`).

/// The process answers. A process that does not answer should be restarted.
pub const LIVE: &str = "live";
/// The process takes work: a scheduler serves clients, an executor is registered and does not drain.
pub const READY: &str = "ready";
