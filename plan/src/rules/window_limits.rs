//! Drops rows before the exchange if their rank among the rows of their input partition is already above the limit.
//!
//! ```text
//!   Filter: rank <= 3                        Filter: rank <= 3
//!     Window: rank() PARTITION BY k ORDER BY v  Window: rank() ...
//!       Sort: k, v                      ->        Sort: k, v
//!         Repartition: hash(k)                      Repartition: hash(k)
//!           rows                                      Filter: rank <= 3
//!                                                       Window: rank() ...
//!                                                         Sort: k, v
//!                                                           rows
//! ```
//!
//! Further rows can only raise the rank of a row. A row of rank 7 in one partition has at least rank 7 among all
//! rows, so the lower filter drops no row that the upper filter keeps.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, lit};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::BoundedWindowAggExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_execution::session::hwacha_options;
use hwacha_operators::tree::{window_function, with_children};

use crate::cluster::Cluster;
use crate::estimate::estimate;
use crate::tuning::RANKED_SHARE;

/// The functions whose value for a row never falls if further rows are added.
const RANKS: [&str; 3] = ["row_number", "rank", "dense_rank"];

/// Limits ranks before rows change partitions.
#[derive(Debug)]
pub struct WindowLimitsRule {
    pub cluster: Cluster,
}

impl PhysicalOptimizerRule for WindowLimitsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !hwacha_options(config).optimizer.window_limits || self.cluster.partitions() == 1 {
            return Ok(plan);
        }
        plan.transform_up(|node| match node.downcast_ref::<FilterExec>() {
            Some(filter) => match limited(filter, self.cluster)? {
                Some(limited) => Ok(Transformed::yes(limited)),
                None => Ok(Transformed::no(node)),
            },
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "window_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `filter` over a window that gets fewer rows. `None` if the plan has another shape or if too few rows would be
/// dropped.
fn limited(filter: &FilterExec, cluster: Cluster) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let tests = split_conjunction(filter.predicate());
    let limits = tests.into_iter().filter_map(limit);
    let limits = limits.filter_map(|(column, limit)| Some((window_column(filter.input(), column)?, limit)));
    match limits.min_by_key(|(_, limit)| *limit) {
        Some((column, limit)) => {
            let input = with_limit(filter.input(), column, limit, cluster)?;
            input.map(|input| Ok(Arc::new(FilterExecBuilder::from(filter).with_input(input).build()?) as _)).transpose()
        }
        None => Ok(None),
    }
}

/// The position of `column` in the window below `plan`, if only projections of plain columns and repartitions lie
/// between.
fn window_column(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Option<usize> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let column = projection.expr()[column].expr.downcast_ref::<Column>()?.index();
        return window_column(projection.input(), column);
    }
    match plan.downcast_ref::<RepartitionExec>() {
        Some(repartition) => window_column(repartition.input(), column),
        None => plan.is::<BoundedWindowAggExec>().then_some(column),
    }
}

/// Adds the lower filter below the exchange of the window at the end of `plan`. `column` is the position of the rank in
/// the window's output. The filter keeps rows with a rank of at most `limit` within their partition. `None` if the
/// window is of another kind or if too few rows would be dropped.
fn with_limit(
    plan: &Arc<dyn ExecutionPlan>,
    column: usize,
    limit: u64,
    cluster: Cluster,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() else {
        let input = with_limit(plan.children()[0], column, limit, cluster)?;
        return input.map(|input| with_children(plan, vec![input])).transpose();
    };
    let ([rank], Some(moved)) = (window.window_expr(), moved(window)) else { return Ok(None) };
    if column != window.input().schema().fields().len() || !is_rank(rank) {
        return Ok(None);
    }
    let rows = estimate(&moved.rows)?;
    let groups = rows.distinct(rank.partition_by());
    if groups * limit as f64 * cluster.partitions() as f64 > RANKED_SHARE * rows.rows {
        return Ok(None);
    }
    let sorted = with_children(&moved.sort, vec![Arc::clone(&moved.rows)])?;
    let ranked = with_children(plan, vec![sorted])?;
    let rank = Arc::new(Column::new(ranked.schema().field(column).name(), column));
    let test = Arc::new(BinaryExpr::new(rank, Operator::LtEq, lit(limit)));
    let kept = FilterExecBuilder::new(test, ranked).apply_projection(Some((0..column).collect()))?.build()?;
    let below = with_children(&moved.exchange, vec![Arc::new(kept)])?;
    let input = if moved.sorts_after { with_children(&moved.sort, vec![below])? } else { below };
    Ok(Some(with_children(plan, vec![input])?))
}

/// The nodes that bring rows to a window.
struct Moved {
    /// The rows before they change partitions.
    rows: Arc<dyn ExecutionPlan>,
    exchange: Arc<dyn ExecutionPlan>,
    sort: Arc<dyn ExecutionPlan>,
    /// `true`: the sort is above the exchange, which is a hash repartition. `false`: the sort is below the exchange,
    /// which merges the sorted partitions.
    sorts_after: bool,
}

fn moved(window: &BoundedWindowAggExec) -> Option<Moved> {
    let input = window.input();
    if let Some(sort) = input.downcast_ref::<SortExec>()
        && let Some(repartition) = sort.input().downcast_ref::<RepartitionExec>()
        && matches!(repartition.partitioning(), Partitioning::Hash(..))
        && sort.preserve_partitioning()
        && sort.fetch().is_none()
    {
        let (rows, exchange) = (Arc::clone(repartition.input()), Arc::clone(sort.input()));
        return Some(Moved { rows, exchange, sort: Arc::clone(input), sorts_after: true });
    }
    let merge = input.downcast_ref::<SortPreservingMergeExec>().filter(|merge| merge.fetch().is_none())?;
    let sort = merge.input().downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none())?;
    let spread = sort.preserve_partitioning() && sort.input().output_partitioning().partition_count() > 1;
    let (rows, exchange) = (Arc::clone(sort.input()), Arc::clone(input));
    spread.then(|| Moved { rows, exchange, sort: Arc::clone(merge.input()), sorts_after: false })
}

/// Whether this rule has added the filter: it tests the rank of the window right below and drops the rank column.
pub(crate) fn limits_a_rank(filter: &FilterExec) -> bool {
    let Some(window) = filter.input().downcast_ref::<BoundedWindowAggExec>() else { return false };
    let rank = window.input().schema().fields().len();
    let drops_the_rank = filter.projection().as_deref().is_some_and(|columns| columns.iter().copied().eq(0..rank));
    drops_the_rank
        && limit(filter.predicate()).is_some_and(|(column, _)| column == rank)
        && matches!(window.window_expr(), [function] if is_rank(function))
}

fn is_rank(function: &Arc<dyn WindowExpr>) -> bool {
    window_function(function.as_ref()).is_some_and(|function| RANKS.contains(&function.fun().name()))
}

/// The tested column and the highest value that passes; `None` for other tests. `r < 4` and `r = 3` both give 3.
fn limit(test: &Arc<dyn PhysicalExpr>) -> Option<(usize, u64)> {
    let test = test.downcast_ref::<BinaryExpr>()?;
    let column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().map(Column::index);
    let (column, operator, value) = match (column(test.left()), column(test.right())) {
        (Some(column), None) => (column, *test.op(), test.right()),
        (None, Some(column)) => (column, test.op().swap()?, test.left()),
        _ => return None,
    };
    let ScalarValue::UInt64(Some(value)) = value.downcast_ref::<Literal>()?.value() else { return None };
    match operator {
        Operator::LtEq | Operator::Eq => Some((column, *value)),
        Operator::Lt => Some((column, value.checked_sub(1)?)),
        _ => None,
    }
}
