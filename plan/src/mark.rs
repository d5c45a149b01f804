//! Marks that rules leave in a plan for the splitter.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use hwacha_operators::key_ranges::KeyRanges;
use hwacha_operators::pass_through::{PassThrough, PassThroughExec};

/// What is said of a part of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// One stage is made of all parts that have the same number, which are equal.
    Shared(usize),
    /// Rows that are hashed here go to the tasks of their keys' ranges instead, as they do everywhere else that the plan
    /// counts on equal keys being in the same partition.
    ByRanges(KeyRanges),
}

/// An operator that carries a mark. No filter and no limit from above passes it.
pub(crate) type MarkExec = PassThroughExec<Mark>;

impl PassThrough for Mark {
    const NAME: &'static str = "MarkExec";

    fn details(&self) -> String {
        match self {
            Self::Shared(number) => format!(": shared, number={number}"),
            Self::ByRanges(ranges) => format!(": ranges of {}", ranges.key),
        }
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
