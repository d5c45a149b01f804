//! Unions of segments. Each task unites its own partitions of the inputs, without an exchange for spread inputs.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_operators::tree::with_children;

use super::{Segment, Splitter, Spread};

impl Splitter {
    pub(super) fn union(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        let children = self.segments(plan)?;
        if children.iter().all(|child| child.spread == Spread::One) {
            return Ok(Some(Segment::single(with_children(plan, plans(children))?)));
        }
        // Only the first task reads the rows of an input that runs on one task.
        let children = children
            .into_iter()
            .map(|child| match child.spread {
                Spread::All => child.plan,
                Spread::One => self.first_task_only(child),
            })
            .collect();
        Ok(Some(Segment::spread(with_children(plan, children)?)))
    }

    pub(super) fn interleave(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        let children = self.segments(plan)?;
        let hashed = children.iter().all(|child| {
            child.spread == Spread::All && matches!(child.plan.output_partitioning(), Partitioning::Hash(..))
        });
        if !hashed {
            return Ok(None);
        }
        Ok(Some(Segment::spread(with_children(plan, plans(children))?)))
    }

    fn segments(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Segment>> {
        plan.children().into_iter().map(|child| self.segment(child)).collect()
    }
}

fn plans(segments: Vec<Segment>) -> Vec<Arc<dyn ExecutionPlan>> {
    segments.into_iter().map(|segment| segment.plan).collect()
}
