//! The parts of a process that the gRPC health service tells about (`grpc.health.v1.Health`).

/// The process answers. A process that does not should be started again.
pub const LIVE: &str = "live";
/// The process takes work: a scheduler serves clients, an executor is registered and does not drain.
pub const READY: &str = "ready";
