//! Finds the changes that the scheduler may make to a stage once it knows the sizes of the stage's inputs. A change
//! is offered only if the answer is provably the same after it.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::physical_expr::Distribution;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use hwacha_model::{OutputKind, StageId};
use hwacha_operators::exchange::{ExchangeSourceExec, SourceSpec};

use crate::rules::emits_build_rows;

/// The vital inputs of a plan: if one of them has no rows, the plan has no rows. Example: an inner join of stages 1
/// and 2 has the vital inputs 1 and 2, a left join only 1, a full join none.
pub(super) fn vital_inputs(plan: &Arc<dyn ExecutionPlan>) -> BTreeSet<StageId> {
    if let Some(source) = plan.downcast_ref::<ExchangeSourceExec>() {
        return BTreeSet::from([source.spec().stage]);
    }
    let inputs: Vec<_> = plan.children().into_iter().map(vital_inputs).collect();
    match &inputs[..] {
        [input] if passes_rows_on(plan) => input.clone(),
        [left, right] => join_type(plan).map(|join| vital_sides(join, left, right)).unwrap_or_default(),
        [input, ..] if plan.is::<ScalarSubqueryExec>() => input.clone(),
        [first, rest @ ..] if plan.is::<UnionExec>() || plan.is::<InterleaveExec>() => {
            rest.iter().fold(first.clone(), |all, input| &all & input)
        }
        _ => BTreeSet::new(),
    }
}

/// Whether an operator has no rows when its only input has none.
fn passes_rows_on(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        // Without GROUP BY an aggregation of no rows gives one row. An empty grouping set may give one too.
        return !aggregate.group_expr().is_true_no_grouping() && !aggregate.group_expr().has_grouping_set();
    }
    plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<ScalarSubqueryExec>()
}

fn join_type(plan: &Arc<dyn ExecutionPlan>) -> Option<JoinType> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        Some(*join.join_type())
    } else if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
        Some(join.join_type())
    } else if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        Some(*join.join_type())
    } else {
        plan.is::<CrossJoinExec>().then_some(JoinType::Inner)
    }
}

fn vital_sides(join: JoinType, left: &BTreeSet<StageId>, right: &BTreeSet<StageId>) -> BTreeSet<StageId> {
    match join {
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => left | right,
        JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark => left.clone(),
        JoinType::Right | JoinType::RightAnti | JoinType::RightMark => right.clone(),
        JoinType::Full => left & right,
    }
}

/// Whether fewer tasks than planned may do a stage's work. The stage must read only exchanges, and at least one of
/// these exchanges must be partitioned: one task can then read the partitions of several planned tasks.
pub(super) fn is_shrinkable(plan: &Arc<dyn ExecutionPlan>, output: OutputKind) -> bool {
    let sources = sources(plan);
    let dealt_out = |spec: &SourceSpec| matches!(spec.kind, OutputKind::Hash | OutputKind::Forward | OutputKind::Range);
    // The consumer of a forward exchange relies on the producer task of each row.
    output != OutputKind::Forward
        && only_sources(plan)
        && sources.iter().any(|spec| dealt_out(spec))
        && sources.iter().all(|spec| dealt_out(spec) || spec.kind == OutputKind::Broadcast || spec.first_task_only)
}

/// Whether all leaves of a plan are exchange sources.
pub(super) fn only_sources(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.children()[..] {
        [] => plan.is::<ExchangeSourceExec>(),
        ref children => children.iter().all(|child| only_sources(child)),
    }
}

pub(super) fn sources(plan: &Arc<dyn ExecutionPlan>) -> Vec<&SourceSpec> {
    match plan.downcast_ref::<ExchangeSourceExec>() {
        Some(source) => vec![source.spec()],
        None => plan.children().into_iter().flat_map(sources).collect(),
    }
}

/// The stages of the build side and the probe side of a join over two hashed exchanges, if nothing above the join
/// depends on the hash. Every task may then read the whole build side, and the probe rows may stay where they are.
pub(super) fn free_join(sink: &Arc<dyn ExecutionPlan>, output: OutputKind) -> Option<(StageId, StageId)> {
    if output == OutputKind::Forward {
        return None;
    }
    let (build, probe) = highest_free_join(sink.children()[0])?;
    let sources = sources(sink);
    let read_once = |stage: StageId| sources.iter().filter(|spec| spec.stage == stage).count() == 1;
    (read_once(build) && read_once(probe)).then_some((build, probe))
}

/// The build and the probe stage of the topmost partitioned hash join, if no operator above it requires a partitioning,
/// both sides read hashed exchanges, and the join emits no build rows.
fn highest_free_join(plan: &Arc<dyn ExecutionPlan>) -> Option<(StageId, StageId)> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && *join.partition_mode() == PartitionMode::Partitioned
    {
        let legal = !emits_build_rows(*join.join_type()) && !join.null_aware;
        return if legal {
            Some((hashed_source(join.left(), true)?, hashed_source(join.right(), false)?))
        } else {
            None
        };
    }
    let requirements = plan.input_distribution_requirements();
    let children = plan.children().into_iter().zip(requirements.per_child_distributions());
    let free = children.filter(|(_, needs)| matches!(needs, Distribution::UnspecifiedDistribution));
    free.map(|(child, _)| child).find_map(highest_free_join)
}

/// The stage whose hashed exchange a side of a join reads. If `forwarded` is set, a forward exchange of rows that were
/// hashed earlier counts too.
fn hashed_source(plan: &Arc<dyn ExecutionPlan>, forwarded: bool) -> Option<StageId> {
    if let Some(source) = plan.downcast_ref::<ExchangeSourceExec>() {
        let spec = source.spec();
        let hashed = spec.kind == OutputKind::Hash || forwarded && spec.kind == OutputKind::Forward;
        return (hashed && spec.is_hashed()).then_some(spec.stage);
    }
    let passes = plan.is::<FilterExec>() || plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>();
    if passes { hashed_source(plan.children()[0], forwarded) } else { None }
}
