//! Joins of two segments. Either both sides are partitioned by the join keys, or every task reads the whole left side.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_operators::tree::with_children;

use super::{Segment, Splitter, Spread, stage_of};
use crate::estimate::estimate;

impl Splitter {
    /// A join whose sides are both partitioned by the join keys.
    pub(super) fn partitioned_join(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        let (mut left, right) = self.both(plan)?;
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            left = self.first(join, left)?;
        }
        let aligned =
            left.plan.output_partitioning().partition_count() == right.plan.output_partitioning().partition_count();
        if left.spread != right.spread || !aligned {
            return Ok(None);
        }
        Ok(Some(Segment::new(with_children(plan, vec![left.plan, right.plan])?, left.spread)))
    }

    /// A join that collects its left side. If `whole_right` is set, one task must read all rows of the right side.
    pub(super) fn collected_join(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        whole_right: bool,
    ) -> Result<Option<Segment>> {
        let (left, mut right) = self.both(plan)?;
        if whole_right && right.spread == Spread::All {
            right = self.gather(right, None)?;
        }
        let left = match (left.spread, right.spread) {
            (Spread::One, Spread::One) => left.plan,
            (Spread::All, Spread::One) => self.gather(left, None)?.plan,
            (_, Spread::All) => {
                let source = self.broadcast(left);
                self.stages[stage_of(&source)].expected = Some(estimate(plan.children()[0])?);
                source
            }
        };
        Ok(Some(Segment::new(with_children(plan, vec![left, right.plan])?, right.spread)))
    }

    fn both(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<(Segment, Segment)> {
        match plan.children()[..] {
            [left, right] => Ok((self.segment(left)?, self.segment(right)?)),
            _ => internal_err!("{} is a join without two inputs", plan.name()),
        }
    }
}
