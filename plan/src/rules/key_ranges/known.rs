//! What is known of rows that come into a region: how many bytes, and where their keys lie.

use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use hwacha_operators::key_ranges::KeyRanges;
use hwacha_operators::scan::file_scan;

use super::layout::{KeyLayout, Piece, even_bounds, shares};
use super::{below, column};
use crate::build_keys::key_origin;
use crate::estimate::estimate;
use crate::footers::Footers;

/// So many times the bytes that a range has on average, none of them may have more.
const MOST: f64 = 1.5;
/// The most of one input's rows that may be in one range.
const MOST_OF_ONE: f64 = 0.75;

/// Rows and a key of theirs.
pub(super) struct Known {
    pub bytes: f64,
    /// The bounds of the ranges that they lie in already.
    pub there: Option<Arc<[i64]>>,
    /// How they lie in the files that the region's own tasks would read.
    layout: Option<KeyLayout>,
    /// The least and the greatest key that is asked for, if that is known.
    asked: Option<(f64, f64)>,
    /// The rows with those keys, as far as is known where they lie.
    pieces: Vec<Piece>,
}

impl Known {
    /// `None` where few ranges of the key would have most of the rows.
    pub(super) fn of(
        rows: &Arc<dyn ExecutionPlan>,
        key: &Arc<dyn PhysicalExpr>,
        footers: &Footers,
    ) -> Result<Option<Self>> {
        let given = estimate(rows)?;
        let there = KeyRanges::of_rows(rows).filter(|ranges| ranges.key.eq(key)).map(|ranges| ranges.bounds);
        let mut asked = given.range(key);
        let (mut plan, mut at) = (rows, column(key));
        while let Some((child, below)) = at.and_then(|at| below(plan, at)) {
            let met = matching(plan, below, footers)?;
            if met.is_picked {
                return Ok(None);
            }
            let both = met.asked.zip(asked).map(|(one, other)| (one.0.max(other.0), one.1.min(other.1)));
            // Estimates of keys that were cast are in other units: none are in both.
            asked = both.filter(|(least, greatest)| least <= greatest).or(asked);
            (plan, at) = (plan.children()[child], Some(below));
        }
        let (layout, elsewhere) = match (file_scan(plan), at) {
            (Some(_), Some(at)) => (KeyLayout::of(plan, at, footers).map(|(_, layout)| layout), None),
            _ => (None, layout_elsewhere(rows, key, footers)),
        };
        let lie = layout.as_ref().or(elsewhere.as_ref());
        if lie.is_some_and(|layout| layout.is_uneven) {
            return Ok(None);
        }
        let between = |asked| Piece::between(asked, given.rows);
        let pieces = lie.map_or_else(|| asked.into_iter().map(between).collect(), |layout| layout.pieces(asked));
        Ok(Some(Self { bytes: given.bytes(), there, layout, asked, pieces }))
    }

    /// Whether the rows lie in these ranges where they come from.
    pub(super) fn stay(&self, bounds: &[i64]) -> bool {
        let suits = |layout: &KeyLayout| layout.suits(bounds, self.asked);
        self.there.as_deref() == Some(bounds) || self.layout.as_ref().is_some_and(suits)
    }

    /// The share of the rows that each range has; as much each where nothing else is known.
    fn shares(&self, bounds: &[i64]) -> Vec<f64> {
        match self.there.as_deref() == Some(bounds) {
            true => shares(&[], bounds),
            false => shares(&self.pieces, bounds),
        }
    }
}

/// Even bounds over the tables that lie in them.
pub(super) fn new_bounds(known: &[Known], ranges: usize) -> Option<Arc<[i64]>> {
    let mut read: Vec<_> = known.iter().filter(|rows| rows.layout.is_some()).collect();
    loop {
        let pieces: Vec<_> = read.iter().flat_map(|rows| rows.pieces.iter().copied()).collect();
        let bounds = even_bounds(&pieces, ranges)?;
        let before = read.len();
        read.retain(|rows| rows.stay(&bounds));
        if read.len() == before {
            return Some(bounds.into());
        }
    }
}

/// Whether no range would have much more of all rows than others, nor nearly all of an input's, which a join could leave.
pub(super) fn are_even(known: &[Known], bounds: &[i64]) -> bool {
    let mut all = vec![0.0; bounds.len() + 1];
    for rows in known {
        let shares = rows.shares(bounds);
        if shares.iter().any(|share| *share > MOST_OF_ONE) {
            return false;
        }
        all.iter_mut().zip(shares).for_each(|(bytes, share)| *bytes += share * rows.bytes);
    }
    let average = all.iter().sum::<f64>() / all.len() as f64;
    all.iter().all(|bytes| *bytes <= MOST * average)
}

/// What a join leaves of its probe side's keys.
#[derive(Default)]
struct Met {
    asked: Option<(f64, f64)>,
    /// Whether it leaves a few that are neighbours, for a reason that nobody knows the bounds of.
    is_picked: bool,
}

/// What the build side of a join that `plan` is leaves of a column of its probe side.
fn matching(plan: &Arc<dyn ExecutionPlan>, probed: usize, footers: &Footers) -> Result<Met> {
    let join = plan.downcast_ref::<HashJoinExec>();
    let drops = |join: &&HashJoinExec| matches!(join.join_type(), JoinType::Inner | JoinType::RightSemi);
    let Some(join) = join.filter(drops) else { return Ok(Met::default()) };
    let is_it = |probe: &Arc<dyn PhysicalExpr>| column(probe) == Some(probed);
    let Some((build, _)) = join.on().iter().find(|(_, probe)| is_it(probe)) else { return Ok(Met::default()) };
    let layout = layout_elsewhere(join.left(), build, footers);
    let is_picked = layout.is_some_and(|layout| layout.is_uneven);
    Ok(Met { asked: estimate(join.left())?.range(build), is_picked })
}

/// How the rows lie whose column a key is, in files that other tasks may read.
fn layout_elsewhere(
    rows: &Arc<dyn ExecutionPlan>,
    key: &Arc<dyn PhysicalExpr>,
    footers: &Footers,
) -> Option<KeyLayout> {
    let (mut plan, mut keys) = (rows, vec![Arc::clone(key)]);
    loop {
        let is_end = |node: &Arc<dyn ExecutionPlan>| node.is::<RepartitionExec>() || file_scan(node).is_some();
        (plan, keys) = key_origin(plan, keys, NullEquality::NullEqualsNothing, is_end)?;
        match (file_scan(plan), plan.downcast_ref::<RepartitionExec>()) {
            (Some(_), _) => return Some(KeyLayout::of(plan, column(&keys[0])?, footers)?.1),
            (None, repartition) => plan = repartition?.input(),
        }
    }
}
