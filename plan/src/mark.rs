//! Marks that rules leave in a plan for the splitter.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::key_ranges::KeyRanges;
use crate::tree::only_input;

/// What is said of a part of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// One stage is made of all parts that have the same number, which are equal.
    Shared(usize),
    /// Rows that are hashed here go to the tasks of their keys' ranges instead, as they do everywhere else that the plan
    /// counts on equal keys being in the same partition.
    ByRanges(KeyRanges),
}

/// Gives its input's rows. No filter and no limit from above passes it.
#[derive(Debug)]
pub(crate) struct MarkExec {
    input: Arc<dyn ExecutionPlan>,
    mark: Mark,
}

impl MarkExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, mark: Mark) -> Self {
        Self { input, mark }
    }

    pub(crate) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }
}

/// `plan` without marks, for where it is not cut.
pub(crate) fn without_marks(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| match node.downcast_ref::<MarkExec>() {
        Some(marked) => Ok(Transformed::yes(Arc::clone(marked.input()))),
        None => Ok(Transformed::no(node)),
    })
    .data()
}

impl DisplayAs for MarkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mark {
            Mark::Shared(number) => write!(f, "MarkExec: shared, number={number}"),
            Mark::ByRanges(ranges) => write!(f, "MarkExec: ranges of {}", ranges.key),
        }
    }
}

impl ExecutionPlan for MarkExec {
    fn name(&self) -> &str {
        "MarkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(only_input(&*self, children)?, self.mark.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
