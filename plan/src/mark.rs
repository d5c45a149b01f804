//! Marks that rules leave in a plan for the splitter.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use hwacha_operators::key_ranges::KeyRanges;
use hwacha_operators::pass_through::{PassThrough, PassThroughExec};

/// How the splitter cuts the marked part of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// Parts with the same number are equal. The splitter makes one stage of all of them.
    Shared(usize),
    /// The repartition below sends each row to the partition of its key's range instead of hashing it. All inputs
    /// that must have equal keys in the same partition use the same ranges.
    ByRanges(KeyRanges),
}

/// An operator that carries a mark. Filters and limits are not pushed down through it.
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

/// Removes all marks from `plan`, for a subtree that is not cut.
pub(crate) fn without_marks(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| match node.downcast_ref::<MarkExec>() {
        Some(marked) => Ok(Transformed::yes(Arc::clone(marked.input()))),
        None => Ok(Transformed::no(node)),
    })
    .data()
}
