//! The types on the wire, generated from the `.proto` files. Only the module [`convert`] converts them to and from
//! `model`.
//!
//! ```text
//!   executor --Attach(Register, Heartbeat, Reports, Drain)--> scheduler
//!   executor <--(Registered, Acknowledge, Launch, Abort, Release, Evicted)-- scheduler
//!   consumer --DoGet(ExchangeTicket)--> producer's executor
//! ```

/// The messages between the scheduler and its executors, documented in `control.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod control {
    tonic::include_proto!("hwacha.control");
}

/// The messages in stage plans, exchange tickets and run-time filters, documented in `exchange.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod exchange {
    tonic::include_proto!("hwacha.exchange");
}

pub mod convert;
pub mod health;
mod progress;

pub use progress::{PROGRESS_ACTION, Progress, ProgressRequest};

/// Bytes of the largest message that schedulers and executors accept from each other (256 MiB). Plans with long file
/// lists are large, and batches of long values.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;
