//! The client library. Users and the shell talk to a cluster with it, over Flight SQL.
//!
//! ```text
//!   Connection --query(sql)--> Query --next()--> rows, or one Error
//!        +-----progress(id)--> Progress
//! ```

mod connection;
mod error;
mod health;
mod query;

pub use connection::Connection;
pub use error::{Error, ErrorKind};
pub use health::{Health, health};
pub use hwacha_proto::Progress;
pub use query::Query;
