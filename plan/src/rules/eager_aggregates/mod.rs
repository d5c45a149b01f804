//! Aggregates rows before they are joined, if that leaves fewer rows to join and to group.
//!
//! ```text
//!   Aggregate partial: by c_id; sum(x)        Aggregate partial: by c_id; merged sum(state)
//!     Join: c_sk = s_sk                 ->      Join: c_sk = s_sk
//!       customer                                  customer
//!       sales                                     Aggregate partial: by s_sk; sum(x)
//!                                                   sales
//! ```
//!
//! Rows that are equal in all columns used above find the same join partners. So one row with their aggregate state
//! can replace them. If this row has three partners, its state is merged three times, so each replaced row counts three
//! times, as without the rule. All aggregate arguments must come from one side of each join. The arguments are also
//! computed for rows that a join drops later, so they must not fail.

mod cost;
mod path;

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};

use super::cost::Costs;
use crate::cluster::Cluster;
use hwacha_execution::session::hwacha_options;
use hwacha_operators::aggregates::checked_sum::may_fail_early;
use hwacha_operators::aggregates::merged::MergedAggregate;
use hwacha_operators::aggregates::resumed::{registered_name, resumable};
use hwacha_operators::tree::at_positions;
use path::{Call, Needs, Path, Pushed};

/// A function with another state with GROUP BY than without. Both states have the same types, so merging could mix them
/// up without an error.
const TWO_STATES: &str = "corr";

/// Adds aggregations below joins.
#[derive(Debug)]
pub struct EagerAggregatesRule {
    pub cluster: Cluster,
}

impl PhysicalOptimizerRule for EagerAggregatesRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let options = hwacha_options(config).optimizer;
        if !options.eager_aggregates {
            return Ok(plan);
        }
        let costs = Costs::new(self.cluster, &options);
        plan.transform_up(|node| {
            let eager = match node.downcast_ref::<AggregateExec>() {
                Some(aggregate) => eager(aggregate, options.eager_aggregate_rows, costs)?,
                None => None,
            };
            Ok(eager.map_or_else(|| Transformed::no(node), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &str {
        "eager_aggregates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `aggregate` over rows that are aggregated below a join; `None` if the answer could change or too little is saved.
fn eager(aggregate: &AggregateExec, least_rows: usize, costs: Costs) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let groups = aggregate.group_expr();
    let is_plain = *aggregate.mode() == AggregateMode::Partial
        && aggregate.limit_options().is_none()
        && !groups.expr().iter().any(|(key, _)| is_volatile(key));
    if !is_plain || !aggregate.aggr_expr().iter().all(|it| is_mergeable(it)) {
        return Ok(None);
    }
    let path = Path::below(aggregate.input(), needs(aggregate))?;
    let Some(depth) = cost::best_depth(aggregate, &path, least_rows, costs)? else { return Ok(None) };
    let pushed = path.pushed(depth, |needs, rows| eager_rows(aggregate, needs, rows))?;
    let merged = merged(aggregate, pushed)?;
    Ok((merged.schema() == aggregate.schema()).then_some(merged))
}

/// Whether the states of an aggregate over parts of its rows are small, can be merged in any order, and do not overflow
/// unless the total does.
fn is_mergeable(aggregate: &AggregateFunctionExpr) -> bool {
    let (name, function) = (aggregate.fun().name(), registered_name(aggregate.fun()));
    let is_plain = !aggregate.is_distinct() && !aggregate.ignore_nulls() && aggregate.order_bys().is_empty();
    let is_small = |states: Vec<FieldRef>| states.iter().all(|state| !state.data_type().is_nested());
    is_plain
        && name != TWO_STATES
        && resumable(function).is_some()
        && !may_fail_early(aggregate.fun(), aggregate.field().data_type())
        && aggregate.state_fields().is_ok_and(is_small)
}

/// The input columns that `aggregate` uses.
fn needs(aggregate: &AggregateExec) -> Needs {
    let keys = aggregate.group_expr().expr().iter().flat_map(|(expr, _)| collect_columns(expr));
    let calls = aggregate.aggr_expr().iter().zip(aggregate.filter_expr());
    Needs {
        keys: keys.map(|column| column.index()).collect(),
        calls: calls.map(|(call, filter)| Call { arguments: call.expressions(), filter: filter.clone() }).collect(),
    }
}

/// The partial aggregation of `rows`, grouped by the keys of `needs`.
fn eager_rows(aggregate: &AggregateExec, needs: &Needs, rows: &Arc<dyn ExecutionPlan>) -> Result<AggregateExec> {
    let schema = rows.schema();
    let key = |index: &usize| {
        let name = schema.field(*index).name();
        (Arc::new(Column::new(name, *index)) as Arc<dyn PhysicalExpr>, name.clone())
    };
    let calls = aggregate.aggr_expr().iter().zip(&needs.calls).map(|(original, call)| {
        let function = Arc::new(original.fun().clone());
        let builder = AggregateExprBuilder::new(function, call.arguments.clone()).alias(original.name());
        Ok(Arc::new(builder.schema(Arc::clone(&schema)).build()?))
    });
    AggregateExec::try_new(
        AggregateMode::Partial,
        PhysicalGroupBy::new_single(needs.keys.iter().map(key).collect()),
        calls.collect::<Result<_>>()?,
        needs.calls.iter().map(|call| call.filter.clone()).collect(),
        Arc::clone(rows),
        schema,
    )
}

/// `aggregate` over rows that have states of its functions instead of values.
fn merged(aggregate: &AggregateExec, rows: Pushed) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = rows.plan.schema();
    let original = aggregate.input().schema();
    let groups = aggregate.group_expr();
    let keys = groups.expr().iter().map(|(expr, name)| {
        let expr = at_positions(expr, &schema, |index| rows.keys[&index])?;
        Ok((expr, name.clone()))
    });
    let mut states = rows
        .states
        .iter()
        .map(|index| Arc::new(Column::new(schema.field(*index).name(), *index)) as Arc<dyn PhysicalExpr>);
    let calls = aggregate.aggr_expr().iter().map(|call| {
        let arguments = call.expressions();
        let fields = arguments.iter().map(|argument| argument.return_field(&original));
        let function = MergedAggregate::new(registered_name(call.fun()), fields.collect::<Result<_>>()?)?;
        let own = states.by_ref().take(call.state_fields()?.len()).collect();
        let builder = AggregateExprBuilder::new(Arc::new(AggregateUDF::new_from_impl(function)), own);
        Ok(Arc::new(builder.schema(Arc::clone(&schema)).alias(call.name()).build()?))
    });
    let calls: Vec<_> = calls.collect::<Result<_>>()?;
    let filters = vec![None; calls.len()];
    let groups = PhysicalGroupBy::new(
        keys.collect::<Result<_>>()?,
        groups.null_expr().to_vec(),
        groups.groups().to_vec(),
        groups.has_grouping_set(),
    );
    let merged = AggregateExec::try_new(AggregateMode::Partial, groups, calls, filters, rows.plan, schema)?;
    Ok(Arc::new(merged))
}
