//! The wire: generated types, and the one place where they turn into the model's nouns and back.
//!
//! ```text
//!   executor --Attach(Register, Heartbeat, Reports)--> scheduler
//!   executor <--(Registered, Acknowledge, Launch, Abort, Release, Drain, Evicted)-- scheduler
//!   consumer --DoGet(ExchangeTicket)--> producer's executor
//! ```

/// What the scheduler and its executors say to each other; documented in `control.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod control {
    tonic::include_proto!("hwacha.control");
}

/// What executors say to each other; documented in `exchange.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod exchange {
    tonic::include_proto!("hwacha.exchange");
}

pub mod convert;
mod progress;

pub use progress::{PROGRESS_ACTION, Progress, ProgressRequest};

/// Largest message that either side accepts; plans over long file lists are the largest in use.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;
