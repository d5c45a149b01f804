//! The executor: runs tasks, keeps their outputs until no consumer can need them, serves them to other executors.
//!
//! ```text
//!   scheduler <==Attach==> control ---> tasks ---> task (one attempt: K partitions on the CPU runtime)
//!                             ^                      |  sink: append        | source: read
//!                             +---- reports ---------+        v             v
//!                                                         exchange::store  exchange::reader --DoGet--> other executors
//!                                                             ^
//!   other executors --DoGet--> exchange::server --------------+
//! ```
//!
//! An executor accepts no control calls: it dials the scheduler. Its own port only serves outputs, by ticket, and
//! bytes that measure the network.

mod allocator;
mod checked_spills;
mod config;
mod control;
mod error;
mod exchange;
mod machine_memory;
mod memory;
mod process;
mod reports;
mod spill_dir;
mod task;
mod tasks;

pub use allocator::keep_freed_memory;
pub use config::ExecutorConfig;
pub use error::Error;
pub use exchange::ExchangeProbe;
pub use hwacha_execution::counted_memory::{CountingAllocator, tell_process};
pub use machine_memory::default_memory_limit_bytes;
pub use process::Executor;
