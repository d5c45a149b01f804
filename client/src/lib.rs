//! The client library. Users and the shell talk to a cluster with it, over Flight SQL.
//!
//! ```text
//!   Connection --query(sql)--> Query --next()--> rows, or one Error
//!        +-----progress(id)--> Progress
//! ```

mod connection;
mod error;
mod query;

pub use connection::Connection;
pub use error::{Error, ErrorKind};
pub use hwacha_proto::Progress;
pub use query::Query;
