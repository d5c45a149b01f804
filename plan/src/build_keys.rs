//! The keys of a join's build side: how many distinct keys it has, which exchange they come from, and whether the
//! build side becomes a stage of its own that finishes before the probe side is read.
//!
//! The sink of the nearest exchange below the join collects the build side's keys for a run-time filter. Operators
//! between this exchange and the join may remove most of the keys:
//!
//! ```text
//!   Join
//!     Filter: sum > 300      624 keys: collected here if the build side becomes a stage
//!       Aggregate
//!         Repartition        15,000,000 keys: collected here otherwise
//!     probe side
//! ```

use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use hwacha_operators::tree::{left_columns, unprojected};

use crate::estimate::estimate;
use crate::mark::{Mark, MarkExec};
use crate::tuning::{FIRST_KEYS_SHARE, FIRST_PROBE_ROWS};

/// Estimates of the build side's keys, for a join that is spread over tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildKeys {
    /// Distinct keys in the run-time filter that other stages get.
    pub distinct: f64,
    /// Whether it pays to make the build side a stage of its own. The filter then has only the keys of the build side.
    pub first: bool,
}

impl BuildKeys {
    pub(crate) fn of(join: &HashJoinExec) -> Result<Self> {
        let keys: Exprs = join.on().iter().map(|(left, _)| Arc::clone(left)).collect();
        let distinct = estimate(join.left())?.distinct(&keys);
        let before = match key_origin(join.left(), keys, join.null_equality(), |node| node.is::<RepartitionExec>()) {
            Some((exchange, keys)) => estimate(exchange)?.distinct(&keys),
            None => distinct,
        };
        let first = *join.partition_mode() == PartitionMode::Partitioned
            && distinct <= FIRST_KEYS_SHARE * before
            && estimate(join.right())?.rows >= FIRST_PROBE_ROWS;
        Ok(Self { distinct: if first { distinct } else { before }, first })
    }
}

pub(crate) type Exprs = Vec<Arc<dyn PhysicalExpr>>;

/// Follows `keys` from `plan` down to the exchange from which they come (`is_exchange`). Returns the exchange, and the
/// keys as expressions over its rows. The exchange has all keys of `plan`, and maybe more.
///
/// `None` if a key is computed on the way or an operator is unknown. Also `None` if NULL keys match (`nulls`) and an
/// outer join on the way adds NULL keys, because the exchange does not have these NULLs.
pub(crate) fn key_origin(
    plan: &Arc<dyn ExecutionPlan>,
    keys: Exprs,
    nulls: NullEquality,
    is_exchange: impl Fn(&Arc<dyn ExecutionPlan>) -> bool + Copy,
) -> Option<(&Arc<dyn ExecutionPlan>, Exprs)> {
    if is_exchange(plan) {
        return Some((plan, keys));
    }
    let is_by_ranges = plan.downcast_ref::<MarkExec>().is_some_and(|marked| matches!(marked.kind(), Mark::ByRanges(_)));
    if plan.is::<CooperativeExec>() || plan.is::<CoalescePartitionsExec>() || is_by_ranges {
        return key_origin(plan.children()[0], keys, nulls, is_exchange);
    }
    let columns: Vec<usize> =
        keys.iter().map(|key| Some(key.downcast_ref::<Column>()?.index())).collect::<Option<_>>()?;
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let groups = aggregate.group_expr();
        let group = |column: usize| groups.expr().get(column).map(|(expr, _)| Arc::clone(expr));
        let keys = columns.into_iter().map(group).collect::<Option<_>>().filter(|_| !groups.has_grouping_set())?;
        return key_origin(aggregate.input(), keys, nulls, is_exchange);
    }
    let (input, columns) = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let column = |index: usize| Some(projection.expr()[index].expr.downcast_ref::<Column>()?.index());
        (projection.input(), columns.into_iter().map(column).collect::<Option<_>>()?)
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let projection = filter.projection().as_deref();
        (filter.input(), columns.into_iter().map(|column| unprojected(projection, column)).collect())
    } else {
        joined_side(plan.downcast_ref::<HashJoinExec>()?, columns, nulls)?
    };
    let schema = input.schema();
    let column = |index: usize| Arc::new(Column::new(schema.field(index).name(), index)) as Arc<dyn PhysicalExpr>;
    key_origin(input, columns.into_iter().map(column).collect(), nulls, is_exchange)
}

/// The side of a join that all of `columns` come from, and their positions there. `None` if they come from both sides.
/// Also `None` if NULL keys match and the join adds NULLs to this side.
fn joined_side(
    join: &HashJoinExec,
    columns: Vec<usize>,
    nulls: NullEquality,
) -> Option<(&Arc<dyn ExecutionPlan>, Vec<usize>)> {
    let join_type = join.join_type();
    let adds_left = matches!(join_type, JoinType::Right | JoinType::Full);
    let adds_right = matches!(join_type, JoinType::Left | JoinType::Full);
    let has_all = |adds_nulls: bool| !adds_nulls || nulls == NullEquality::NullEqualsNothing;
    let columns: Vec<_> = columns.into_iter().map(|column| unprojected(join.projection.as_deref(), column)).collect();
    let left_columns = left_columns(join)?;
    if columns.iter().all(|column| *column < left_columns) {
        return has_all(adds_left).then(|| (join.left(), columns));
    }
    let columns = columns.into_iter().map(|column| column.checked_sub(left_columns)).collect::<Option<_>>()?;
    has_all(adds_right).then(|| (join.right(), columns))
}
