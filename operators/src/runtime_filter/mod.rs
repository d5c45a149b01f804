//! Run-time filters between stages: the keys of a join's build side, sent to the scans of its probe side.
//!
//! ```text
//!   build stage, sink of task 0: collect ─┐                     ┌─> probe stage, scans: apply
//!   build stage, sink of task 1: collect ─┴─ scheduler: merge ──┘   (starts when the build stage has finished)
//! ```
//!
//! A filter lets every row with a match pass, and some rows without a match. If a filter is lost or was too large, the
//! scan does not test rows by it. The result of the query is the same but takes longer.

mod apply;
mod bitmap;
mod bloom;
mod collect;
mod column_keys;
mod key_set;
mod words;

use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use hwacha_proto::exchange as wire;
use prost::Message;

pub use apply::tests_rows;
pub use apply::{Filters, apply};
pub use bitmap::KeyRange;
pub use collect::KeyCollector;

use column_keys::ColumnKeys;
use key_set::KeySet;

/// A run-time filter for which a sink collects the keys of the rows that it writes.
#[derive(Clone, Debug)]
pub struct FilterTap {
    /// The id of the filter in the plans that test it.
    pub id: u64,
    /// The join's keys as expressions over the sink's input.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Estimated number of distinct keys.
    pub expected_keys: u64,
    /// The expected range of each key; `None` for a key that is not a whole number or does not suit a bitmap.
    pub ranges: Vec<Option<KeyRange>>,
    /// Whether NULL matches NULL in that join, as in INTERSECT and IS NOT DISTINCT FROM.
    pub nulls_match: bool,
}

/// The keys of a build side.
#[derive(Clone)]
pub struct RuntimeFilter {
    /// The values of each key column.
    columns: Vec<ColumnKeys>,
    /// Key sets, each over the key columns at the given positions. A set has the keys of all build rows, except rows
    /// with NULL in a column of the set. If NULLs do not match each other, it also lacks rows with NULL in another key.
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
    /// A filter without keys. Sets of single columns come first: their tests are cheap and may leave few rows for the
    /// others.
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

    /// Whether each set of keys is full and no list of keys filters instead. Testing rows would then cost more than it
    /// saves.
    pub fn is_useless(&self) -> bool {
        self.sets.iter().all(|(columns, keys)| {
            // A set with all possible keys drops no row, but the list of values still does.
            let is_listed = keys.is_void() && columns.iter().any(|column| self.columns[*column].is_exact());
            keys.is_full() && !is_listed
        })
    }

    /// The filter in its wire form.
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
        let wire::KeyFilter { columns, sets, is_empty, nulls_match } =
            wire::KeyFilter::decode(bytes).map_err(broken)?;
        let columns: Vec<_> = columns.iter().map(ColumnKeys::from_wire).collect::<Result<_>>()?;
        let sets: Vec<(Vec<usize>, _)> = sets.iter().map(KeySet::from_wire).collect::<Result<_>>()?;
        match sets.iter().flat_map(|(of, _)| of).find(|column| **column >= columns.len()) {
            Some(column) => internal_err!("a run-time filter of {} columns has keys of column {column}", columns.len()),
            None => Ok(Self { columns, sets, is_empty, nulls_match }),
        }
    }
}

fn broken(error: prost::DecodeError) -> DataFusionError {
    internal_datafusion_err!("a run-time filter cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_column_that_a_filter_lacks_are_refused() {
        let words = wire::KeySet { columns: vec![0], ..wire::KeySet::default() };
        let filter = |columns| wire::KeyFilter { columns, sets: vec![words.clone()], ..wire::KeyFilter::default() };
        assert!(RuntimeFilter::decode(&filter(vec![wire::ColumnKeys::default()]).encode_to_vec()).is_ok());
        let error = RuntimeFilter::decode(&filter(vec![]).encode_to_vec()).expect_err("there is no column");
        assert!(error.to_string().contains("0 columns has keys of column 0"), "{error}");
    }
}
