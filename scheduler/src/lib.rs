//! The process around scheduler-core: sessions, catalog, planning, the event loop, and two services on one port: Flight
//! SQL for clients and the control service for executors.
//!
//! ```text
//! clients -Flight SQL-> flight_sql --> statement -(Submission)-> event_loop [ Machine ] <--> rpc <-Attach- executors
//!                           ^             |                          |
//!                           |          catalog, session, planner     | ResultSource
//!                           +------------ results <------------------+----DoGet----> executors
//! ```

mod catalog;
mod config;
mod declared_types;
mod error;
mod event_loop;
mod filters;
mod flight_sql;
mod parsing;
mod plan_cache;
mod planner;
mod planning;
mod process;
mod query;
mod results;
mod rpc;
mod running_query;
mod session;
mod settings;
mod statement;
mod store;
mod wire_schema;

pub use config::SchedulerConfig;
pub use error::{Error, ErrorKind};
pub use process::Scheduler;
