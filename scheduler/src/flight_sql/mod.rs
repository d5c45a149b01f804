//! The Flight SQL service for clients. Translates commands into statements, and answers into Flight streams.
//!
//! Every answer waits under a ticket of its own until it is fetched once or expires. A `FlightInfo` has exactly one
//! endpoint, without a location: many clients read only the first endpoint, and some cannot connect to executors.

mod answers;
mod clients;
mod connections;
mod encode;
mod handles;
mod metadata;
mod service;

pub(crate) use clients::Clients;
pub(crate) use connections::{Connection, Peer};
pub(crate) use service::FrontDoor;
