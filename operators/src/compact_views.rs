//! Copies string views into buffers of their own, so a batch does not keep buffers of other rows in memory.
//!
//! A column of string views has a list of the buffers that hold its values. A join concatenates the batches of its
//! build side and their buffer lists. Each output batch of the join then has the whole list. If the join is the build
//! side of another join, the next list has the whole list once per batch, and so on in a chain of joins. So batches
//! with long lists are copied before they enter a build side:
//!
//! ```text
//! HashJoin 2                       HashJoin 2
//!   HashJoin 1 (build side)   ->     CompactViewsExec
//!   scan                               HashJoin 1 (build side)
//!                                    scan
//! ```

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryViewArray, RecordBatch, RecordBatchOptions, StringViewArray, make_array,
};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, Schema, StringViewType};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use crate::pass_through::{PassThrough, PassThroughExec};
use crate::tree::with_children;

/// Most buffers with which a column of views enters a build side without a copy.
const FEW_BUFFERS: usize = 8;

/// Most bytes that a column may hold, as a multiple of the bytes that it uses. Above it, [`without_waste`] copies the
/// column.
const MAX_WASTE: f64 = 1.25;

/// `plan` with a `CompactViewsExec` on each build side that has columns of views and contains a join.
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
        let compact = Arc::new(PassThroughExec::new(Arc::clone(build), CompactViews));
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

/// Gives its input's rows. Columns of views with many buffers are copied into few buffers.
#[derive(Clone, Debug)]
struct CompactViews;

impl PassThrough for CompactViews {
    const NAME: &'static str = "CompactViewsExec";

    fn rows(&self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = rows.schema();
        let rows = rows.map(|batch| compact(batch?, |views| views.buffers > FEW_BUFFERS));
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

/// The same rows, without the text of other rows. A batch is sent or kept with the whole buffers of its views, so a
/// column is copied if its buffers hold much more than its rows use.
pub fn without_waste(batch: RecordBatch) -> Result<RecordBatch> {
    compact(batch, |views| views.held_bytes as f64 > MAX_WASTE * views.used_bytes as f64)
}

/// The same rows. View arrays at any depth are copied, so the batch keeps no buffers of other rows. Use it for rows
/// that were gathered with `take`, which does not copy the buffers of views.
///
/// # Errors
///
/// None is known.
pub fn without_any_waste(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, columns, rows) = batch.into_parts();
    let columns = columns.into_iter().map(|column| Ok(make_array(compact_parts(column.to_data())?)));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns.collect::<Result<_>>()?, &options)?)
}

/// Dictionaries are not compacted: all rows share the values of a dictionary.
fn compact_parts(part: ArrayData) -> Result<ArrayData> {
    match part.data_type() {
        DataType::Utf8View => Ok(StringViewArray::from(part).gc().into_data()),
        DataType::BinaryView => Ok(BinaryViewArray::from(part).gc().into_data()),
        DataType::Dictionary(..) => Ok(part),
        _ => {
            let children = part.child_data().iter().cloned().map(compact_parts).collect::<Result<_>>()?;
            Ok(part.into_builder().child_data(children).build()?)
        }
    }
}

/// The buffers of a column of views.
struct Views {
    buffers: usize,
    /// Capacity of the buffers, used or not.
    held_bytes: usize,
    used_bytes: usize,
}

fn compact(batch: RecordBatch, is_due: impl Fn(Views) -> bool) -> Result<RecordBatch> {
    let (schema, columns, rows) = batch.into_parts();
    let columns = columns.into_iter().map(|column| match column.data_type() {
        DataType::Utf8View => compact_column::<StringViewType>(column, &is_due),
        DataType::BinaryView => compact_column::<BinaryViewType>(column, &is_due),
        _ => column,
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns.collect(), &options)?)
}

fn compact_column<T: ByteViewType>(column: ArrayRef, is_due: impl Fn(Views) -> bool) -> ArrayRef {
    let views = column.as_byte_view::<T>();
    let buffers = views.data_buffers();
    let held_bytes = buffers.iter().map(|buffer| buffer.capacity()).sum();
    let used_bytes = || views.total_buffer_bytes_used();
    match held_bytes > 0 && is_due(Views { buffers: buffers.len(), held_bytes, used_bytes: used_bytes() }) {
        true => Arc::new(views.gc()),
        false => column,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringViewBuilder, UInt64Array};
    use arrow::compute::{concat, take_record_batch};

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
        let compacted = compact(batch.clone(), |views| views.buffers > FEW_BUFFERS).expect("a batch");
        assert_eq!(compacted.column(0).as_string_view().data_buffers().len(), 1);
        assert_eq!(compacted, batch);
    }

    #[test]
    fn rows_of_lists_do_not_keep_the_text_of_others() {
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        for row in 0..100 {
            lists.append_value((0..10).map(|value| Some(format!("{value} of row {row} has more than 12 bytes"))));
        }
        let batch = RecordBatch::try_from_iter([("l", Arc::new(lists.finish()) as ArrayRef)]).expect("a batch");
        let row = take_record_batch(&batch, &UInt64Array::from(vec![7])).expect("there are so many");
        let compacted = without_any_waste(row.clone()).expect("a batch");
        assert_eq!(compacted, row);
        let (held, of_all) = (compacted.get_array_memory_size(), row.get_array_memory_size());
        assert!(held < of_all / 10, "{held} of {of_all} bytes");
    }

    #[test]
    fn a_part_does_not_keep_the_whole() {
        let texts =
            StringViewArray::from_iter_values((0..100).map(|number| format!("{number} has more than 12 bytes")));
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).expect("a batch");
        let held = |batch: &RecordBatch| batch.column(0).as_string_view().data_buffers()[0].len();
        let whole = held(&batch);
        assert_eq!(held(&without_waste(batch.clone()).expect("a batch")), whole);
        let half = without_waste(batch.slice(0, 50)).expect("a batch");
        assert!(held(&half) * 2 <= whole + 100, "{} of {whole} bytes", held(&half));
        assert_eq!(half, batch.slice(0, 50));
    }
}
