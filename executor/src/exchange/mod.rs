//! The exchange within an executor: outputs are kept in the [`store`], written by sinks, read by sources here
//! ([`reader`]) and elsewhere ([`server`]).

mod budget;
mod contents;
mod encode;
mod output;
mod peers;
mod probe;
mod reader;
mod server;
mod spill;
mod store;
mod wire;

pub(crate) use budget::Budget;
pub(crate) use output::Output;
pub(crate) use peers::Peers;
pub use probe::ExchangeProbe;
pub(crate) use reader::{BoundInput, BoundProducer, OnRead, TaskReader};
pub(crate) use server::ExchangeServer;
pub(crate) use store::ExchangeStore;
