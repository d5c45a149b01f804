//! Keeps the build sides of joins from growing with every join below them.
//!
//! A column of string views holds on to the buffers that its values lie in. Gathering a build side joins the lists of
//! all its batches, and every batch that the join gives has the whole list: ten joins, each the build side of the next,
//! would multiply ten times. So batches with long lists get buffers of their own on their way into a build side.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, Schema, StringViewType};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use crate::tree::with_children;

/// A column with at most so many buffers is left as it is.
const FEW_BUFFERS: usize = 8;

/// `plan` with compact batches where the result of one join is gathered for another.
pub fn compact_build_sides(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if !is_join(&node) {
            return Ok(Transformed::no(node));
        }
        let [build, probe] = node.children()[..] else {
            return internal_err!("{} is a join without two inputs", node.name());
        };
        if !has_views(&build.schema()) || !build.exists(|below| Ok(is_join(below)))? {
            return Ok(Transformed::no(node));
        }
        let compact = Arc::new(CompactViewsExec { input: Arc::clone(build) });
        with_children(&node, vec![compact, Arc::clone(probe)]).map(Transformed::yes)
    })
    .data()
}

fn is_join(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<HashJoinExec>() || node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>()
}

fn has_views(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| matches!(field.data_type(), DataType::Utf8View | DataType::BinaryView))
}

/// Gives its input's rows; columns of views that lie in many buffers are copied into few.
#[derive(Debug)]
struct CompactViewsExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for CompactViewsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompactViewsExec")
    }
}

impl ExecutionPlan for CompactViewsExec {
    fn name(&self) -> &str {
        "CompactViewsExec"
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

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop().filter(|_| children.is_empty()) else {
            return internal_err!("CompactViewsExec has exactly one input");
        };
        Ok(Arc::new(Self { input }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?.map(|batch| compact(batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, columns, rows) = batch.into_parts();
    let columns = columns.into_iter().map(|column| match column.data_type() {
        DataType::Utf8View => compact_column::<StringViewType>(column),
        DataType::BinaryView => compact_column::<BinaryViewType>(column),
        _ => column,
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns.collect(), &options)?)
}

fn compact_column<T: ByteViewType>(column: ArrayRef) -> ArrayRef {
    let views = column.as_byte_view::<T>();
    if views.data_buffers().len() <= FEW_BUFFERS { column } else { Arc::new(views.gc()) }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;
    use arrow::compute::concat;

    use super::*;

    #[test]
    fn values_in_many_buffers_come_to_lie_in_few() {
        let part =
            |number: usize| StringViewArray::from_iter_values([format!("a text of more than 12 bytes, {number}")]);
        let parts: Vec<StringViewArray> = (0..100).map(part).collect();
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part as &dyn Array).collect();
        let column = concat(&parts).expect("the same types");
        let batch = RecordBatch::try_from_iter([("t", column)]).expect("a batch");
        assert_eq!(batch.column(0).as_string_view().data_buffers().len(), 100);
        let compacted = compact(batch.clone()).expect("a batch");
        assert_eq!(compacted.column(0).as_string_view().data_buffers().len(), 1);
        assert_eq!(compacted, batch);
    }
}
