//! Tickets of exchange reads, and output kinds.

use std::ops::Range;

use hwacha_model::{ExecutorId, OutputKind, QueryId, StageId, TaskId, TaskIndex};
use prost::Message;

use crate::exchange;

/// One read of an exchange: a range of partitions of one attempt's output, and in each partition a range of batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeRead {
    pub executor: ExecutorId,
    pub producer: TaskId,
    pub partitions: Range<u32>,
    /// A range that is never empty. The end `u64::MAX` means all batches from the start of the range.
    pub batches: Range<u64>,
    /// Whether the reader asks for compressed rows.
    pub compressed: bool,
}

impl ExchangeRead {
    /// The ticket's bytes.
    pub fn to_ticket(&self) -> Vec<u8> {
        exchange::ExchangeTicket {
            executor: self.executor.0,
            query: self.producer.query.0,
            stage: self.producer.stage.0,
            task: self.producer.task.0,
            attempt: self.producer.attempt,
            first_partition: self.partitions.start,
            partitions: self.partitions.end - self.partitions.start,
            compressed: self.compressed,
            first_batch: self.batches.start,
            batches: if self.batches.end == u64::MAX { 0 } else { self.batches.end - self.batches.start },
        }
        .encode_to_vec()
    }

    /// Decodes a ticket. Fails if the bytes are no `ExchangeTicket` message.
    pub fn from_ticket(ticket: &[u8]) -> Result<Self, prost::DecodeError> {
        let ticket = exchange::ExchangeTicket::decode(ticket)?;
        Ok(Self {
            executor: ExecutorId(ticket.executor),
            producer: TaskId {
                query: QueryId(ticket.query),
                stage: StageId(ticket.stage),
                task: TaskIndex(ticket.task),
                attempt: ticket.attempt,
            },
            batches: match ticket.batches {
                0 => ticket.first_batch..u64::MAX,
                batches => ticket.first_batch..ticket.first_batch.saturating_add(batches),
            },
            partitions: ticket.first_partition..ticket.first_partition.saturating_add(ticket.partitions),
            compressed: ticket.compressed,
        })
    }
}

impl From<OutputKind> for exchange::OutputKind {
    fn from(kind: OutputKind) -> Self {
        match kind {
            OutputKind::Hash => Self::Hash,
            OutputKind::Forward => Self::Forward,
            OutputKind::Broadcast => Self::Broadcast,
            OutputKind::Gather => Self::Gather,
            OutputKind::Merge => Self::Merge,
            OutputKind::Range => Self::Range,
            OutputKind::Result => Self::Result,
        }
    }
}

impl From<exchange::OutputKind> for OutputKind {
    fn from(kind: exchange::OutputKind) -> Self {
        match kind {
            exchange::OutputKind::Hash => Self::Hash,
            exchange::OutputKind::Forward => Self::Forward,
            exchange::OutputKind::Broadcast => Self::Broadcast,
            exchange::OutputKind::Gather => Self::Gather,
            exchange::OutputKind::Merge => Self::Merge,
            exchange::OutputKind::Range => Self::Range,
            exchange::OutputKind::Result => Self::Result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_survives_the_wire() {
        for batches in [0..u64::MAX, 3..u64::MAX, 0..1, 5..7] {
            let read = ExchangeRead {
                executor: ExecutorId(7),
                producer: TaskId { query: QueryId(1_000_001), stage: StageId(2), task: TaskIndex(3), attempt: 4 },
                partitions: 8..12,
                batches,
                compressed: true,
            };
            assert_eq!(ExchangeRead::from_ticket(&read.to_ticket()), Ok(read));
        }
        assert!(ExchangeRead::from_ticket(b"select 1").is_err());
    }
}
