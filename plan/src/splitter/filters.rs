//! Run-time filters that must cross an exchange: the stage that writes a join's build side collects its keys, and the
//! stages that scan for the probe side start when it has finished.

use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use hwacha_model::{Determinism, OutputKind, StageId};

use super::Splitter;
use crate::determinism::determinism;
use crate::estimate::estimate;
use crate::exchange::{ExchangeSinkExec, ExchangeSourceExec};
use crate::runtime_filter::{FilterTap, tests_rows};

impl Splitter {
    /// Taps the stage behind `build`, the join's new build side, when scans in other stages test its keys.
    pub(super) fn tap(&mut self, join: &HashJoinExec, build: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let filter = join.dynamic_expressions_produced().first().and_then(|filter| filter.expression_id());
        let (Some(id), Some((producer, keys))) = (filter, self.tappable(join, build)?) else { return Ok(()) };
        let mut readers = vec![];
        for (stage, finished) in self.stages.iter().enumerate() {
            if tests_rows(&finished.plan, id)? {
                readers.push(stage);
            }
        }
        if readers.is_empty() || readers.iter().any(|reader| self.reads(producer, *reader)) {
            return Ok(());
        }
        let expected_keys = estimate(join.left())?.distinct(join.on().iter().map(|(left, _)| left)) as u64;
        let stage = &mut self.stages[producer];
        let sink = stage.plan.downcast_ref::<ExchangeSinkExec>().expect("every stage ends in a sink");
        let taps: Vec<_> = sink.taps().cloned().chain([FilterTap { id, keys, expected_keys }]).collect();
        let plain =
            ExchangeSinkExec::new(Arc::clone(sink.input()), sink.kind(), sink.partitions(), sink.keys().to_vec());
        stage.plan = Arc::new(plain.with_taps(taps));
        for reader in readers {
            self.stages[reader].after.insert(StageId(producer as u32));
        }
        Ok(())
    }

    /// The stage that writes all keys of the build side, with the keys over its rows, if they say which rows the join can
    /// match: also those of another attempt at it.
    fn tappable(&self, join: &HashJoinExec, build: &Arc<dyn ExecutionPlan>) -> Result<Option<(usize, Exprs)>> {
        let same_types = join.on().iter().all(|(left, right)| {
            let left = left.data_type(&join.left().schema());
            let right = right.data_type(&join.right().schema());
            matches!((left, right), (Ok(left), Ok(right)) if left == right && !left.is_floating())
        });
        if join.null_equality() != NullEquality::NullEqualsNothing || join.null_aware || !same_types {
            return Ok(None);
        }
        let Some((source, keys)) = origin(build, join.on().iter().map(|(left, _)| Arc::clone(left)).collect()) else {
            return Ok(None);
        };
        let producer = source.spec().stage.0 as usize;
        let whole = matches!(source.spec().kind, OutputKind::Hash | OutputKind::Forward | OutputKind::Broadcast);
        Ok((whole && self.is_reproducible(producer)?).then_some((producer, keys)))
    }

    fn is_reproducible(&self, stage: usize) -> Result<bool> {
        let plan = &self.stages[stage].plan;
        if determinism(plan)? == Determinism::Varying {
            return Ok(false);
        }
        for input in inputs(plan)? {
            if !self.is_reproducible(input)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether `stage` is `other` or reads it, directly or not.
    fn reads(&self, stage: usize, other: usize) -> bool {
        stage == other
            || inputs(&self.stages[stage].plan).is_ok_and(|all| all.into_iter().any(|input| self.reads(input, other)))
    }
}

type Exprs = Vec<Arc<dyn PhysicalExpr>>;

/// The source that `keys` over `plan` come from, and the keys over its rows: there may be more of them there.
fn origin(plan: &Arc<dyn ExecutionPlan>, keys: Exprs) -> Option<(&ExchangeSourceExec, Exprs)> {
    if let Some(source) = plan.downcast_ref::<ExchangeSourceExec>() {
        return Some((source, keys));
    }
    if plan.is::<CooperativeExec>() {
        return origin(plan.children()[0], keys);
    }
    let columns: Vec<usize> =
        keys.iter().map(|key| Some(key.downcast_ref::<Column>()?.index())).collect::<Option<_>>()?;
    let (input, columns) = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let column = |index: usize| Some(projection.expr()[index].expr.downcast_ref::<Column>()?.index());
        (projection.input(), columns.into_iter().map(column).collect::<Option<_>>()?)
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        (filter.input(), unprojected(columns, filter.projection().as_deref()))
    } else {
        joined_side(plan.downcast_ref::<HashJoinExec>()?, columns)?
    };
    let schema = input.schema();
    let column = |index: usize| Arc::new(Column::new(schema.field(index).name(), index)) as Arc<dyn PhysicalExpr>;
    origin(input, columns.into_iter().map(column).collect())
}

/// The side of a join that gives all of `columns`, and their positions there.
fn joined_side(join: &HashJoinExec, columns: Vec<usize>) -> Option<(&Arc<dyn ExecutionPlan>, Vec<usize>)> {
    let columns = unprojected(columns, join.projection.as_deref());
    let left_columns = match join.join_type() {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => join.left().schema().fields().len(),
        JoinType::LeftSemi | JoinType::LeftAnti => usize::MAX,
        JoinType::RightSemi | JoinType::RightAnti => 0,
        JoinType::LeftMark | JoinType::RightMark => return None,
    };
    if columns.iter().all(|column| *column < left_columns) {
        return Some((join.left(), columns));
    }
    let columns = columns.into_iter().map(|column| column.checked_sub(left_columns)).collect::<Option<_>>()?;
    Some((join.right(), columns))
}

fn unprojected(columns: Vec<usize>, projection: Option<&[usize]>) -> Vec<usize> {
    match projection {
        Some(projection) => columns.into_iter().map(|column| projection[column]).collect(),
        None => columns,
    }
}

/// The stages that a plan reads.
fn inputs(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<usize>> {
    let mut found = vec![];
    collect_inputs(plan, &mut found);
    Ok(found)
}

fn collect_inputs(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<usize>) {
    if let Some(source) = plan.downcast_ref::<ExchangeSourceExec>() {
        found.push(source.spec().stage.0 as usize);
    }
    plan.children().into_iter().for_each(|child| collect_inputs(child, found));
}
