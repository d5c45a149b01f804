//! Estimates of the rows that enter a region: their bytes and where their keys lie.

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
use crate::tuning::{RANGE_SHARE, RANGE_SKEW};

/// The rows of one input of a region, and one of their keys.
pub(super) struct Known {
    pub bytes: f64,
    /// The bounds of the key ranges by which the rows are already partitioned.
    pub there: Option<Arc<[i64]>>,
    /// The keys in the row groups of the scan that gives the rows. `None` for example if an exchange lies between.
    layout: Option<KeyLayout>,
    /// The least and the greatest key that the query asks for, if they are known.
    asked: Option<(f64, f64)>,
    /// The distribution of the keys that the query asks for. Empty if it is unknown.
    pieces: Vec<Piece>,
}

impl Known {
    /// The estimates for `key` of `rows`. `None` if a few key ranges would have most of the rows.
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
            // A cast may change the unit of the key. If the two ranges do not overlap, the join's range is ignored.
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

    /// Whether the rows can stay in place: they are already in these ranges, or their scan can read these ranges.
    pub(super) fn stay(&self, bounds: &[i64]) -> bool {
        let suits = |layout: &KeyLayout| layout.suits(bounds, self.asked);
        self.there.as_deref() == Some(bounds) || self.layout.as_ref().is_some_and(suits)
    }

    /// The share of the rows in each range. Equal shares if unknown, or if the rows are already in these ranges.
    fn shares(&self, bounds: &[i64]) -> Vec<f64> {
        match self.there.as_deref() == Some(bounds) {
            true => shares(&[], bounds),
            false => shares(&self.pieces, bounds),
        }
    }
}

/// Bounds of ranges with equal row counts, counted in the tables that can stay in place. If a table does not suit the
/// bounds, they are computed again without this table.
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

/// Whether the ranges are even: no range has much more than the average bytes, and no range has nearly all rows of
/// one input. The second test is needed because a join could remove the rows of the other inputs.
pub(super) fn are_even(known: &[Known], bounds: &[i64]) -> bool {
    let mut all = vec![0.0; bounds.len() + 1];
    for rows in known {
        let shares = rows.shares(bounds);
        if shares.iter().any(|share| *share > RANGE_SHARE) {
            return false;
        }
        all.iter_mut().zip(shares).for_each(|(bytes, share)| *bytes += share * rows.bytes);
    }
    let average = all.iter().sum::<f64>() / all.len() as f64;
    all.iter().all(|bytes| *bytes <= RANGE_SKEW * average)
}

/// The keys of a probe side that a join keeps.
#[derive(Default)]
struct Met {
    asked: Option<(f64, f64)>,
    /// Whether a condition on another column of the build side selects a short key range with unknown bounds.
    is_picked: bool,
}

/// The keys in column `probed` of the probe side that `plan` keeps. Other operators than inner and right semi joins
/// are assumed to keep all keys.
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

/// The layout of the keys in the files from which they come. Exchanges may lie between these files and `rows`, so the
/// layout is only for estimates: it does not show that rows can stay where they are read.
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
