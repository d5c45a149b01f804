//! The exchange within an executor: sinks write outputs into the [`store`]. Sources of this process read them through
//! [`reader`]. Other executors and the scheduler read them through [`server`].

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
