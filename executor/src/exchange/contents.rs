//! The chunks of an output, in memory and in spill files, and the bytes of a result that were not read yet.

use arrow::array::RecordBatch;

use super::budget::Held;
use super::spill::{Extent, SpillReader};

/// Unread bytes that a task's part of the result may have (64 MiB). Each partition may have an equal share of them,
/// beyond which its writer waits.
pub(super) const RESULT_UNREAD_BYTES: usize = 64 << 20;

/// The chunks of an output by partition, with their byte counts.
#[derive(Debug)]
pub(super) struct Contents {
    pub partitions: Vec<Vec<Chunk>>,
    pub end: End,
    /// Positions of the chunks that are in memory and not being spilled. In a result some of them may be `Gone`.
    pub resident: Vec<Position>,
    /// How many unread chunks of a result are in a file or being written to one.
    pub unread_spilled: usize,
    /// The bytes of all chunks in memory.
    pub held: Held,
    /// Bytes by partition that were not read yet. Only a result uses them.
    pub unread_bytes: Vec<usize>,
}

/// The position of a chunk: its partition, and its index in the partition.
pub(super) type Position = (usize, usize);

#[derive(Debug, Clone)]
pub(super) enum Chunk {
    Memory(RecordBatch),
    /// In memory, and being written to the file.
    Leaving(RecordBatch),
    Spilled(Spilled),
    /// Read, and not to be read again.
    Gone,
}

/// A batch in a spill file.
#[derive(Debug, Clone)]
pub(super) struct Spilled {
    pub reader: SpillReader,
    pub extent: Extent,
    /// Bytes that the batch takes in memory.
    pub bytes: usize,
}

impl Chunk {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Memory(batch) | Self::Leaving(batch) => batch.get_array_memory_size(),
            Self::Spilled(spilled) => spilled.bytes,
            Self::Gone => 0,
        }
    }
}

/// How far the writer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The attempt was given up before its first batch. Nothing is written any more.
    Withdrawn,
    /// Everything has been written.
    Complete,
    /// The output was dropped; readers get an error.
    Broken,
}

/// Whether a batch that was chosen for the spill file must still be written.
pub(super) enum Leaving {
    Wanted,
    Read,
    /// The output was dropped.
    InVain,
}

impl Contents {
    pub(super) fn new(partitions: usize, held: Held) -> Self {
        Self {
            partitions: vec![vec![]; partitions],
            end: End::Open,
            resident: vec![],
            unread_spilled: 0,
            held,
            unread_bytes: vec![0; partitions],
        }
    }

    /// Marks the batches in memory as `Leaving` and returns them. The caller writes them to the file.
    pub(super) fn leave_memory(&mut self) -> Vec<(Position, RecordBatch)> {
        let mut leaving = vec![];
        for position in std::mem::take(&mut self.resident) {
            let chunk = &mut self.partitions[position.0][position.1];
            if let Chunk::Memory(batch) = chunk {
                let batch = batch.clone();
                leaving.push((position, batch.clone()));
                *chunk = Chunk::Leaving(batch);
            }
        }
        self.unread_spilled += leaving.len();
        leaving
    }

    pub(super) fn state_of(&self, (partition, place): Position) -> Leaving {
        match self.partitions[partition][place] {
            _ if self.end == End::Broken => Leaving::InVain,
            Chunk::Leaving(_) => Leaving::Wanted,
            _ => Leaving::Read,
        }
    }

    /// Replaces a `Leaving` chunk by its place in the file. Returns false if the chunk was read meanwhile.
    pub(super) fn move_to_file(&mut self, (partition, place): Position, spilled: Spilled) -> bool {
        let chunk = &mut self.partitions[partition][place];
        let is_unread = matches!(chunk, Chunk::Leaving(_));
        if is_unread {
            self.held.shrink(spilled.bytes);
            *chunk = Chunk::Spilled(spilled);
        }
        is_unread
    }

    /// Whether the writer of a partition of a result must wait: the partition has more unread bytes than its share of
    /// `RESULT_UNREAD_BYTES`, or any unread bytes while chunks are spilled.
    pub(super) fn has_backlog(&self, partition: usize) -> bool {
        let allowed = if self.unread_spilled > 0 { 0 } else { RESULT_UNREAD_BYTES / self.partitions.len() };
        self.unread_bytes[partition] > allowed && self.end == End::Open
    }

    /// Drops a chunk of a result, which has been read. Returns the bytes that the query no longer holds.
    pub(super) fn forget(&mut self, partition: usize, place: usize) -> usize {
        let chunk = std::mem::replace(&mut self.partitions[partition][place], Chunk::Gone);
        let bytes = chunk.bytes();
        self.unread_bytes[partition] -= bytes;
        self.unread_spilled -= usize::from(matches!(chunk, Chunk::Leaving(_) | Chunk::Spilled(_)));
        if self.unread_bytes.iter().all(|bytes| *bytes == 0) {
            self.resident.clear();
        }
        match chunk {
            Chunk::Memory(_) | Chunk::Leaving(_) => {
                self.held.shrink(bytes);
                bytes
            }
            Chunk::Spilled(_) | Chunk::Gone => 0,
        }
    }
}
