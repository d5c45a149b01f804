//! Run-time filters between stages: which keys a join's build side has, told to the scans of its probe side.
//!
//! ```text
//!   sink of the build side's stage: collect ─┐                     ┌─> scans of the probe side's stage: apply
//!   sink of its other tasks:        collect ─┴─ scheduler: merge ──┘   (it starts when the build side has finished)
//! ```
//!
//! A filter lets all rows pass that the join could match, and some more. Where it is lost, or was too large to make,
//! nothing is tested: only time is lost with it.

mod apply;
mod bitmap;
mod bloom;
mod collect;
mod column_keys;
mod key_set;
mod words;

use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use hwacha_proto::exchange as wire;
use prost::Message;

pub use apply::tests_rows;
pub use apply::{Filters, apply};
pub use bitmap::KeyRange;
pub(crate) use collect::KeyCollector;

use column_keys::ColumnKeys;
use key_set::KeySet;

/// What a sink is asked to find out about the rows that it writes.
#[derive(Clone, Debug)]
pub struct FilterTap {
    /// The id of the filter in the plans that test it.
    pub id: u64,
    /// The join's keys over the sink's input.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// About how many different keys there are.
    pub expected_keys: u64,
    /// Of each key where it is likely to lie, if it is a whole number that a bitmap suits.
    pub ranges: Vec<Option<KeyRange>>,
    /// Whether NULLs match each other in that join.
    pub nulls_match: bool,
}

/// The keys of a build side.
#[derive(Clone)]
pub struct RuntimeFilter {
    /// The values of each key column.
    columns: Vec<ColumnKeys>,
    /// Sets of keys, each of some of the columns; a row's keys are in all of them but those in which one is NULL.
    sets: Vec<(Vec<usize>, Arc<KeySet>)>,
    is_empty: bool,
    /// Whether NULLs match each other.
    nulls_match: bool,
}

impl fmt::Debug for RuntimeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeFilter").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl RuntimeFilter {
    /// Of no keys yet. Single columns come first: their tests are cheap, and may leave little for the others.
    fn new(tap: &FilterTap) -> Self {
        let ranges = tap.ranges.iter().enumerate();
        let single = ranges.filter_map(|(column, range)| Some((vec![column], Arc::new(KeySet::in_range((*range)?)))));
        let mut sets: Vec<_> = single.collect();
        if tap.keys.len() > 1 || sets.is_empty() {
            sets.push(((0..tap.keys.len()).collect(), Arc::new(KeySet::hashed(tap.expected_keys))));
        }
        let columns = vec![ColumnKeys::none(); tap.keys.len()];
        Self { columns, sets, is_empty: true, nulls_match: tap.nulls_match }
    }

    /// Adds the keys that another task found.
    pub fn merge(&mut self, other: &Self) {
        if self.sets.len() != other.sets.len() {
            self.sets.clear();
        }
        for ((columns, mine), (other_columns, others)) in self.sets.iter_mut().zip(&other.sets) {
            let mine = Arc::make_mut(mine);
            if columns == other_columns { mine.merge(others) } else { *mine = KeySet::All }
        }
        self.columns.iter_mut().zip(&other.columns).for_each(|(mine, others)| mine.merge(others));
        self.is_empty &= other.is_empty;
    }

    /// Whether it lets so many rows pass that testing them is not worth it.
    pub fn is_useless(&self) -> bool {
        self.sets.iter().all(|(columns, keys)| {
            // A list is better than a set that could not be held.
            let is_listed = keys.is_void() && columns.iter().any(|column| self.columns[*column].is_exact());
            keys.is_full() && !is_listed
        })
    }

    /// Its form on the wire.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let filter = wire::KeyFilter {
            columns: self.columns.iter().map(ColumnKeys::to_wire).collect::<Result<_>>()?,
            sets: self.sets.iter().map(|(columns, keys)| keys.to_wire(columns)).collect(),
            is_empty: self.is_empty,
            nulls_match: self.nulls_match,
        };
        Ok(filter.encode_to_vec())
    }

    /// Reads what [`RuntimeFilter::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let filter = wire::KeyFilter::decode(bytes).map_err(broken)?;
        Ok(Self {
            columns: filter.columns.iter().map(ColumnKeys::from_wire).collect::<Result<_>>()?,
            sets: filter.sets.iter().map(KeySet::from_wire).collect::<Result<_>>()?,
            is_empty: filter.is_empty,
            nulls_match: filter.nulls_match,
        })
    }
}

fn broken(error: prost::DecodeError) -> DataFusionError {
    internal_datafusion_err!("a run-time filter cannot be read: {error}")
}
