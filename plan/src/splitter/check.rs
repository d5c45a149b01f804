//! Checks that every operator of every stage gets its rows in the order and the partitioning that it requires.
//!
//! DataFusion's own check runs before Hwacha's last rules and before the plan is cut. So DataFusion does not check the
//! exchanges that the splitter adds. The check here runs in release builds too, because a requirement that is not met
//! gives wrong rows without an error.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_expr::{Distribution, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::InvariantLevel;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::windows::BoundedWindowAggExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_model::OutputKind;
use hwacha_operators::exchange::ExchangeSourceExec;
use hwacha_operators::key_ranges::KeyRanges;

use super::exchanges::FinishedStage;
use super::passes_rows_on;
use crate::rules::limits_a_rank;

/// The first requirement that a stage does not meet, as a sentence.
pub(super) fn unmet_requirement(stages: &[FinishedStage]) -> Result<Option<String>> {
    for (number, stage) in stages.iter().enumerate() {
        if let Some(unmet) = unmet_below(&stage.plan, stage.tasks > 1, false)? {
            return Ok(Some(format!("in stage {number}, {unmet}")));
        }
    }
    Ok(None)
}

/// `is_spread`: several tasks run the plan, each with its own rows. `is_limit`: `plan` is the window below a filter of
/// `WindowLimitsRule`. The filter uses the rank of a row within its partition, so any partitioning is right.
fn unmet_below(plan: &Arc<dyn ExecutionPlan>, is_spread: bool, is_limit: bool) -> Result<Option<String>> {
    let is_any_place_right = is_limit || is_window_of_ranges(plan);
    if let Some(unmet) = unmet(plan, is_spread, is_any_place_right)? {
        return Ok(Some(unmet));
    }
    let is_limit = plan.downcast_ref::<FilterExec>().is_some_and(limits_a_rank);
    for child in plan.children() {
        if let Some(unmet) = unmet_below(child, is_spread, is_limit)? {
            return Ok(Some(unmet));
        }
    }
    Ok(None)
}

fn unmet(plan: &Arc<dyn ExecutionPlan>, is_spread: bool, is_any_place_right: bool) -> Result<Option<String>> {
    let distributions = plan.input_distribution_requirements();
    let orders = plan.required_input_ordering();
    let children = plan.children().into_iter().zip(distributions.per_child_distributions()).zip(orders);
    for ((child, distribution), order) in children {
        if let Some(order) = order {
            let order = order.into_single();
            if !child.equivalence_properties().ordering_satisfy_requirement(order.clone())? {
                let columns: Vec<_> = order.iter().map(|requirement| requirement.expr.to_string()).collect();
                return Ok(Some(format!("{} needs rows sorted by {}", plan.name(), columns.join(", "))));
            }
        }
        if !is_any_place_right && !is_distributed(child, distribution, is_spread) {
            return Ok(Some(match distribution {
                Distribution::SinglePartition => format!("{} needs all rows in one partition", plan.name()),
                _ => format!("{} needs rows with equal keys in one partition", plan.name()),
            }));
        }
    }
    if !plan.downcast_ref::<HashJoinExec>().is_some_and(meets_by_some_keys) {
        plan.check_invariants(InvariantLevel::Executable)?;
    }
    Ok(None)
}

/// Whether both sides of a join are partitioned in the same way by some of its keys. Rows with equal keys then meet.
/// DataFusion's own check accepts only a partitioning by all keys. Example: the join keys are a and b, and both sides
/// are hashed by a.
fn meets_by_some_keys(join: &HashJoinExec) -> bool {
    let is_a_pair = |left: &Arc<dyn PhysicalExpr>, right: &Arc<dyn PhysicalExpr>| {
        join.on().iter().any(|(build, probe)| build == left && probe == right)
    };
    match (join.left().output_partitioning(), join.right().output_partitioning()) {
        (Partitioning::Hash(left, partitions), Partitioning::Hash(right, others)) => {
            let are_pairs = left.iter().zip(right).all(|(left, right)| is_a_pair(left, right));
            partitions == others && left.len() == right.len() && !left.is_empty() && are_pairs
        }
        (left, right) => match (KeyRanges::of(left), KeyRanges::of(right)) {
            (Some(left), Some(right)) => left.bounds == right.bounds && is_a_pair(&left.key, &right.key),
            _ => false,
        },
    }
}

fn is_distributed(rows: &Arc<dyn ExecutionPlan>, required: &Distribution, is_spread: bool) -> bool {
    let partitioning = match rows.output_partitioning() {
        // In a stage of several tasks, the single partition of a task has only some of the rows. So it is checked as
        // one of two partitions.
        Partitioning::Hash(keys, 1) if is_spread && !is_replicated(rows) => Partitioning::Hash(keys.clone(), 2),
        Partitioning::UnknownPartitioning(1) | Partitioning::RoundRobinBatch(1)
            if is_spread && !is_replicated(rows) =>
        {
            Partitioning::UnknownPartitioning(2)
        }
        known => known.clone(),
    };
    partitioning.satisfaction(required, rows.equivalence_properties(), true).is_satisfied()
}

/// Whether every task has the same rows.
fn is_replicated(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<ExchangeSourceExec>() {
        Some(source) => source.spec().kind == OutputKind::Broadcast,
        None => !plan.children().is_empty() && plan.children().into_iter().all(is_replicated),
    }
}

/// Whether the plan is a window without PARTITION BY that is computed range by range.
fn is_window_of_ranges(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let is_over_ranges =
        |window: &BoundedWindowAggExec| window.partition_keys().is_empty() && is_ranges(window.input());
    plan.downcast_ref::<BoundedWindowAggExec>().is_some_and(is_over_ranges)
}

fn is_ranges(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<ExchangeSourceExec>() {
        Some(source) => source.spec().kind == OutputKind::Range,
        None => (passes_rows_on(plan) || is_window_of_ranges(plan)) && is_ranges(plan.children()[0]),
    }
}
