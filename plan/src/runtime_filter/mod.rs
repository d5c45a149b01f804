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
mod key_set;
mod words;

use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, ScalarValue, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion_proto::protobuf;
use hwacha_proto::exchange as wire;
use prost::Message;

pub(crate) use apply::tests_rows;
pub use apply::{Filters, apply};
pub use bitmap::KeyRange;
pub(crate) use bitmap::{is_whole_number, numbers};
pub(crate) use collect::KeyCollector;

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
}

/// The keys of a build side.
#[derive(Clone)]
pub struct RuntimeFilter {
    /// Of each key column the least and greatest value; `None` where they have no order or there are none.
    bounds: Vec<Option<(ScalarValue, ScalarValue)>>,
    /// Sets of keys, each of some of the columns; a row's keys are in all of them.
    sets: Vec<(Vec<usize>, Arc<KeySet>)>,
    is_empty: bool,
}

impl fmt::Debug for RuntimeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeFilter").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl RuntimeFilter {
    /// Of no keys yet. Single columns come first: their tests are cheap, and may leave little for the others.
    fn new(tap: &FilterTap) -> Self {
        let columns = tap.ranges.iter().enumerate();
        let single = columns.filter_map(|(column, range)| Some((vec![column], Arc::new(KeySet::in_range((*range)?)))));
        let mut sets: Vec<_> = single.collect();
        if tap.keys.len() > 1 || sets.is_empty() {
            sets.push(((0..tap.keys.len()).collect(), Arc::new(KeySet::hashed(tap.expected_keys))));
        }
        Self { bounds: vec![None; tap.keys.len()], sets, is_empty: true }
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
        let sides = self.bounds.iter_mut().zip(&other.bounds);
        for (mine, others) in sides.filter(|_| !other.is_empty) {
            *mine = match (mine.take(), others) {
                _ if self.is_empty => others.clone(),
                (Some(mine), Some(others)) => widened(mine, others),
                _ => None,
            };
        }
        self.is_empty &= other.is_empty;
    }

    /// Whether it lets so many rows pass that testing them is not worth it.
    pub fn is_useless(&self) -> bool {
        self.sets.iter().all(|(_, keys)| keys.is_full())
    }

    /// Its form on the wire.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bounds = self.bounds.iter().map(|bounds| {
            Ok(match bounds {
                Some((least, greatest)) => wire::KeyBounds { least: encoded(least)?, greatest: encoded(greatest)? },
                None => wire::KeyBounds::default(),
            })
        });
        let filter = wire::KeyFilter {
            bounds: bounds.collect::<Result<_>>()?,
            sets: self.sets.iter().map(|(columns, keys)| keys.to_wire(columns)).collect(),
            is_empty: self.is_empty,
        };
        Ok(filter.encode_to_vec())
    }

    /// Reads what [`RuntimeFilter::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let filter = wire::KeyFilter::decode(bytes).map_err(broken)?;
        let bounds = filter.bounds.iter().map(|bounds| match bounds.least.is_empty() {
            true => Ok(None),
            false => Ok(Some((decoded(&bounds.least)?, decoded(&bounds.greatest)?))),
        });
        Ok(Self {
            bounds: bounds.collect::<Result<_>>()?,
            sets: filter.sets.iter().map(KeySet::from_wire).collect::<Result<_>>()?,
            is_empty: filter.is_empty,
        })
    }
}

fn encoded(value: &ScalarValue) -> Result<Vec<u8>> {
    Ok(protobuf::ScalarValue::try_from(value)?.encode_to_vec())
}

fn decoded(bytes: &[u8]) -> Result<ScalarValue> {
    let value = protobuf::ScalarValue::decode(bytes).map_err(broken)?;
    Ok(ScalarValue::try_from(&value)?)
}

fn broken(error: prost::DecodeError) -> DataFusionError {
    internal_datafusion_err!("a run-time filter cannot be read: {error}")
}

fn widened(
    mine: (ScalarValue, ScalarValue),
    others: &(ScalarValue, ScalarValue),
) -> Option<(ScalarValue, ScalarValue)> {
    let least = if others.0.partial_cmp(&mine.0)?.is_lt() { others.0.clone() } else { mine.0 };
    let greatest = if others.1.partial_cmp(&mine.1)?.is_gt() { others.1.clone() } else { mine.1 };
    Some((least, greatest))
}
