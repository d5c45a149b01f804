//! The set of a build side's keys: a Bloom filter or a bitmap.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::common::Result;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use hwacha_proto::exchange as wire;

use super::bitmap::{Bitmap, KeyRange};
use super::bloom::Bloom;
use crate::whole_numbers::numbers;

/// Seed of the hash of keys. It differs from the seeds of the hashes that choose partitions and waves: with one of
/// those, the keys of a partition would use only some words of a Bloom filter.
const SEED: u64 = 0x6b65_7966_696c;

/// Keys of one or more columns. A set may also contain keys that were never inserted.
#[derive(Clone)]
pub(super) enum KeySet {
    /// Keys of any types and any number of columns.
    Bloom(Bloom),
    /// Keys of one column of whole numbers.
    Bitmap(Bitmap),
    /// All possible keys: an inserted key lay outside the bitmap's range, or two sets could not be merged.
    All,
}

impl KeySet {
    /// An empty Bloom filter for about `expected_keys` keys.
    pub(super) fn hashed(expected_keys: u64) -> Self {
        Self::Bloom(Bloom::for_keys(expected_keys as f64))
    }

    /// An empty bitmap over a range of whole numbers.
    pub(super) fn in_range(range: KeyRange) -> Self {
        Self::Bitmap(Bitmap::new(range))
    }

    /// Inserts the keys of the rows that are `valid`.
    pub(super) fn insert(&mut self, keys: &[ArrayRef], valid: Option<&NullBuffer>) -> Result<()> {
        let Some(first) = keys.first() else { return Ok(()) };
        let is_valid = |row: usize| valid.is_none_or(|valid| valid.is_valid(row));
        let rows = (0..first.len()).filter(|row| is_valid(*row));
        match self {
            Self::Bloom(bloom) => {
                let hashes = hashes(keys)?;
                rows.for_each(|row| bloom.insert(hashes[row]));
            }
            Self::Bitmap(bitmap) => {
                let numbers = numbers(first)?;
                // The range was only an estimate, so a key may lie outside it.
                if !rows.fold(true, |all, row| all & bitmap.insert(numbers.value(row))) {
                    *self = Self::All;
                }
            }
            Self::All => {}
        }
        Ok(())
    }

    /// Whether each row's keys may be in the set. For a row with NULL the answer has no meaning.
    pub(super) fn contains(&self, keys: &[ArrayRef], rows: usize) -> Result<BooleanBuffer> {
        Ok(match self {
            Self::Bloom(bloom) => {
                let hashes = hashes(keys)?;
                BooleanBuffer::collect_bool(rows, |row| bloom.contains(hashes[row]))
            }
            Self::Bitmap(bitmap) => {
                let numbers = numbers(&keys[0])?;
                let numbers = numbers.values();
                BooleanBuffer::collect_bool(rows, |row| bitmap.contains(numbers[row]))
            }
            Self::All => BooleanBuffer::new_set(rows),
        })
    }

    /// Adds all keys of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        let merged = match (&mut *self, other) {
            (Self::Bloom(mine), Self::Bloom(others)) => {
                mine.merge(others);
                true
            }
            (Self::Bitmap(mine), Self::Bitmap(others)) => mine.merge(others),
            _ => false,
        };
        if !merged {
            *self = Self::All;
        }
    }

    /// Whether the set holds all possible keys ([`KeySet::All`]).
    pub(super) fn is_void(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether the set drops too few rows to be tested: more than 60 % of its bits are set, or it holds all keys.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Bloom(bloom) => bloom.is_full(),
            Self::Bitmap(bitmap) => bitmap.is_full(),
            Self::All => true,
        }
    }

    /// The set in its form on the wire. `columns` are the positions of its key columns.
    pub(super) fn to_wire(&self, columns: &[usize]) -> wire::KeySet {
        let keys = match self {
            Self::Bloom(bloom) => Some(wire::key_set::Keys::Bloom(bloom.to_bytes())),
            Self::Bitmap(bitmap) => Some(wire::key_set::Keys::Bitmap(bitmap.to_wire())),
            Self::All => None,
        };
        wire::KeySet { columns: columns.iter().map(|column| *column as u32).collect(), keys }
    }

    /// Reads what [`KeySet::to_wire`] wrote.
    pub(super) fn from_wire(set: &wire::KeySet) -> Result<(Vec<usize>, Arc<Self>)> {
        let keys = match &set.keys {
            Some(wire::key_set::Keys::Bloom(bytes)) => Self::Bloom(Bloom::from_bytes(bytes)?),
            Some(wire::key_set::Keys::Bitmap(bitmap)) => Self::Bitmap(Bitmap::from_wire(bitmap)?),
            None => Self::All,
        };
        Ok((set.columns.iter().map(|column| *column as usize).collect(), Arc::new(keys)))
    }
}

fn hashes(keys: &[ArrayRef]) -> Result<Vec<u64>> {
    let mut hashes = vec![0; keys[0].len()];
    create_hashes(keys, &RandomState::with_seed(SEED), &mut hashes)?;
    Ok(hashes)
}
