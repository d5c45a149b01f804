//! Run-time filters that cross an exchange. The stage that writes a join's build side collects its keys. The stages
//! that test rows of the probe side by these keys start when this stage has finished.

use std::sync::Arc;

use datafusion::common::{NullEquality, Result};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use hwacha_model::{Determinism, OutputKind, StageId};
use hwacha_operators::determinism::determinism;
use hwacha_operators::exchange::ExchangeSourceExec;
use hwacha_operators::runtime_filter::{FilterTap, KeyRange, tests_rows};
use hwacha_operators::whole_numbers::is_whole_number;

use super::{Segment, Splitter, Spread, stage_of};
use crate::build_keys::{BuildKeys, Exprs, key_origin};
use crate::estimate::estimate;

impl Splitter {
    /// Lets the stage that writes the join's build side collect the keys, if other stages test rows by them. `build` is
    /// the build side after the cut.
    pub(super) fn tap(&mut self, join: &HashJoinExec, build: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let filter = join.dynamic_expressions_produced().first().and_then(|filter| filter.expression_id());
        let (Some(id), Some((producer, keys))) = (filter, self.tappable(join, build)?) else { return Ok(()) };
        let readers = self.readers(id)?;
        if readers.is_empty() || readers.iter().any(|reader| self.reads(producer, *reader)) {
            return Ok(());
        }
        let stage = &mut self.stages[producer];
        // Joins and filters after the exchange may drop keys, so the exchange may have more keys than the build side.
        let left_keys: Exprs = join.on().iter().map(|(left, _)| Arc::clone(left)).collect();
        let of_join;
        let (expected, exprs) = match &stage.expected {
            Some(expected) => (expected, &keys),
            None => {
                of_join = estimate(join.left())?;
                (&of_join, &left_keys)
            }
        };
        let expected_keys = expected.distinct(exprs) as u64;
        let ranges = left_keys.iter().zip(exprs).map(|(key, expr)| {
            let whole = is_whole_number(&key.data_type(&join.left().schema())?);
            let range = expected.range(expr).filter(|_| whole);
            Ok(range.and_then(|range| KeyRange::worth(range, expected.distinct([expr]) as u64)))
        });
        let ranges = ranges.collect::<Result<Vec<_>>>()?;
        let nulls_match = join.null_equality() == NullEquality::NullEqualsNull;
        stage.add_taps([FilterTap { id, keys, expected_keys, ranges, nulls_match }]);
        for reader in readers {
            self.stages[reader].after.insert(StageId(producer as u32));
        }
        Ok(())
    }

    /// Ends the build side of a join with a forward exchange, if it pays to collect the keys before the probe side is
    /// read. The rows stay in their partitions.
    pub(super) fn first(&mut self, join: &HashJoinExec, build: Segment) -> Result<Segment> {
        let filter = join.dynamic_expressions_produced().first().and_then(|filter| filter.expression_id());
        let Some(id) = filter.filter(|_| build.spread == Spread::All) else { return Ok(build) };
        let worthwhile = BuildKeys::of(join)?.first
            && !self.readers(id)?.is_empty()
            && determinism(&build.plan)? == Determinism::Reproducible
            && build.plan.properties().output_ordering().is_none();
        if !worthwhile {
            return Ok(build);
        }
        let source = self.forward(build)?;
        self.stages[stage_of(&source)].expected = Some(estimate(join.left())?);
        Ok(Segment::spread(source))
    }

    /// The stages that test rows by the run-time filter `id`.
    fn readers(&self, id: u64) -> Result<Vec<usize>> {
        let mut readers = vec![];
        for (stage, finished) in self.stages.iter().enumerate() {
            if tests_rows(&finished.plan, id)? {
                readers.push(stage);
            }
        }
        Ok(readers)
    }

    /// The stage that writes all keys of the build side, and the keys as expressions over its rows. `None` if a probe
    /// row with another key can affect the result, or if another attempt at the stage may write other keys.
    fn tappable(&self, join: &HashJoinExec, build: &Arc<dyn ExecutionPlan>) -> Result<Option<(usize, Exprs)>> {
        let same_types = join.on().iter().all(|(left, right)| {
            let left = left.data_type(&join.left().schema());
            let right = right.data_type(&join.right().schema());
            matches!((left, right), (Ok(left), Ok(right)) if left == right && !left.is_floating())
        });
        if join.null_aware || !same_types {
            return Ok(None);
        }
        let keys = join.on().iter().map(|(left, _)| Arc::clone(left)).collect();
        let Some((source, keys)) =
            key_origin(build, keys, join.null_equality(), |node| node.is::<ExchangeSourceExec>())
        else {
            return Ok(None);
        };
        let source = source.downcast_ref::<ExchangeSourceExec>().expect("only sources were looked for");
        let producer = source.spec().stage.0 as usize;
        let whole = matches!(source.spec().kind, OutputKind::Hash | OutputKind::Forward | OutputKind::Broadcast);
        Ok((whole && self.is_reproducible(producer)?).then_some((producer, keys)))
    }

    fn is_reproducible(&self, stage: usize) -> Result<bool> {
        let plan = &self.stages[stage].plan;
        if determinism(plan)? == Determinism::Varying {
            return Ok(false);
        }
        for input in inputs(plan) {
            if !self.is_reproducible(input)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether `stage` is `other` or reads it, directly or through other stages.
    fn reads(&self, stage: usize, other: usize) -> bool {
        stage == other || inputs(&self.stages[stage].plan).into_iter().any(|input| self.reads(input, other))
    }
}

/// The stages that a plan reads.
fn inputs(plan: &Arc<dyn ExecutionPlan>) -> Vec<usize> {
    match plan.downcast_ref::<ExchangeSourceExec>() {
        Some(source) => vec![source.spec().stage.0 as usize],
        None => plan.children().into_iter().flat_map(inputs).collect(),
    }
}
