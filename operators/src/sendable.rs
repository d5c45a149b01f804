//! The form in which rows go through Arrow IPC: between executors, into spill files, and to clients.
//!
//! arrow-ipc 59 carries all rows as they are, with two exceptions:
//!
//! - It refuses a dictionary whose values are a dictionary. Such a dictionary is sent as its inner dictionary, and
//!   the receiver makes the outer dictionary again.
//! - In a slice of a batch, the first list may begin in the middle of the array of list elements. If the elements are
//!   unions, arrow-ipc writes elements from the beginning of that array instead. So a column with a union is copied. In
//!   the copy, the first list begins at the first element.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::common::Result;

use crate::types::{converted, holds, replaced, replaced_field};

/// The schema that rows with the schema `schema` have in IPC.
pub fn sendable_schema(schema: &SchemaRef) -> SchemaRef {
    if !schema.fields().iter().any(|field| is_twofold(field.data_type())) {
        return Arc::clone(schema);
    }
    let fields: Fields = schema.fields().iter().map(|field| replaced_field(field, &inner_dictionary)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The rows in the form that IPC can carry.
///
/// # Errors
///
/// None is known: every type can be copied and flattened.
pub fn sendable(batch: RecordBatch) -> Result<RecordBatch> {
    let needs_care = |column: &ArrayRef| is_twofold(column.data_type()) || has_union(column.data_type());
    if !batch.columns().iter().any(needs_care) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(sendable_column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(sendable_schema(&batch.schema()), columns, &options)?)
}

/// The rows that were given to [`sendable`]. `schema` is their schema.
///
/// # Errors
///
/// The rows are of another schema.
pub fn received(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if !schema.fields().iter().any(|field| is_twofold(field.data_type())) {
        return Ok(batch);
    }
    let columns =
        batch.columns().iter().zip(schema.fields()).map(|(column, field)| converted(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<_>>()?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn sendable_column(column: &ArrayRef) -> Result<ArrayRef> {
    let column = converted(column, &replaced(column.data_type(), &inner_dictionary))?;
    if !has_union(column.data_type()) {
        return Ok(column);
    }
    let rows = UInt64Array::from_iter_values(0..column.len() as u64);
    Ok(take(&column, &rows, None)?)
}

/// The values of a dictionary, if they are a dictionary.
fn inner_dictionary(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, values) if matches!(**values, DataType::Dictionary(..)) => {
            Some(DataType::clone(values))
        }
        _ => None,
    }
}

/// Whether a dictionary within `data_type` has a dictionary for its values.
fn is_twofold(data_type: &DataType) -> bool {
    holds(data_type, &|part| inner_dictionary(part).is_some())
}

fn has_union(data_type: &DataType) -> bool {
    holds(data_type, &|part| matches!(part, DataType::Union(..)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int8Array, Int32Array, ListArray, StringArray, StructArray, UnionArray};
    use arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Field, Int8Type, UnionFields};
    use arrow::ipc::reader::StreamReader;
    use arrow::ipc::writer::StreamWriter;

    use super::*;

    /// The batch after its way through IPC.
    fn sent(batch: &RecordBatch) -> RecordBatch {
        let ready = sendable(batch.clone()).expect("it can be sent");
        assert_eq!(ready.schema(), sendable_schema(&batch.schema()));
        let mut bytes = vec![];
        let mut writer = StreamWriter::try_new(&mut bytes, &ready.schema()).expect("a schema that can be sent");
        writer.write(&ready).expect("memory");
        writer.finish().expect("memory");
        drop(writer);
        let read = StreamReader::try_new(bytes.as_slice(), None).expect("a stream").next();
        received(read.expect("one batch").expect("a batch"), &batch.schema()).expect("what was sent")
    }

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("c", column, true)]).expect("a batch")
    }

    /// The rows `v0, NULL, v2, v3`, in a dictionary whose values are a dictionary.
    fn twofold() -> ArrayRef {
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..4).map(|n| format!("v{n}"))));
        let inner: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(vec![3, 2, 1, 0]), words));
        let outer = Int8Array::from(vec![Some(3), None, Some(1), Some(0)]);
        Arc::new(DictionaryArray::<Int8Type>::new(outer, inner))
    }

    /// Four lists, each with two rows of a union of numbers and words.
    fn lists_of_unions(is_dense: bool) -> ArrayRef {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..8));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..8).map(|n| n.to_string())));
        let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let fields: UnionFields = [(0, field("n", &numbers)), (1, field("w", &words))].into_iter().collect();
        let ids = ScalarBuffer::from((0..8).map(|row| row % 2).collect::<Vec<i8>>());
        let places = is_dense.then(|| ScalarBuffer::from((0..8).rev().collect::<Vec<i32>>()));
        let unions: ArrayRef =
            Arc::new(UnionArray::try_new(fields, ids, places, vec![numbers, words]).expect("a union"));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 4, 6, 8]));
        Arc::new(ListArray::try_new(field("item", &unions), offsets, unions, None).expect("lists"))
    }

    #[test]
    fn dictionaries_of_dictionaries_arrive_at_every_depth() {
        let structs: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("d", twofold().data_type().clone(), true)),
            twofold(),
        )]));
        for column in [twofold(), structs] {
            let batch = batch(column);
            let sent = sent(&batch);
            assert_eq!(sent.schema(), batch.schema());
            let shown = |batch: &RecordBatch| {
                arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).expect("text").to_string()
            };
            assert_eq!(shown(&sent), shown(&batch));
        }
    }

    #[test]
    fn dictionaries_in_structs_arrive() {
        let words: DictionaryArray<Int8Type> = ["a", "b", "a", "c"].into_iter().collect();
        let field = Arc::new(Field::new("d", words.data_type().clone(), true));
        let batch = batch(Arc::new(StructArray::from(vec![(field, Arc::new(words) as ArrayRef)])));
        assert_eq!(sent(&batch), batch);
        assert_eq!(sent(&batch.slice(2, 2)), batch.slice(2, 2));
    }

    #[test]
    fn unions_in_lists_arrive_from_where_the_lists_begin() {
        for is_dense in [false, true] {
            let batch = batch(lists_of_unions(is_dense));
            let halves = [sent(&batch.slice(0, 2)), sent(&batch.slice(2, 2))];
            assert_eq!(concat_batches(&batch.schema(), &halves).expect("one schema"), batch, "dense: {is_dense}");
        }
    }

    #[test]
    fn other_rows_are_sent_as_they_are() {
        let batch = batch(Arc::new(Int32Array::from(vec![1, 2])));
        let ready = sendable(batch.clone()).expect("it can be sent");
        assert_eq!(ready.column(0).to_data().buffers()[0].as_ptr(), batch.column(0).to_data().buffers()[0].as_ptr());
    }
}
