//! The form in which rows leave the cluster. One function decides it, for announced schemas and for the rows that
//! follow.
//!
//! Many clients cannot read views of texts and lists, so views leave as plain texts and lists. Dictionaries and
//! run-end encoded columns leave as their values. This applies at every depth. Names, metadata and nullability are
//! those of the logical plan.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::common::Result;
use hwacha_operators::types::{converted, replaced_field};

/// The schema in which rows of `schema` reach clients.
pub(crate) fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(|field| replaced_field(field, &plain_type)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The type in which values of `data_type` leave the cluster, if not every client can read `data_type`.
fn plain_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        DataType::Dictionary(_, values) => Some(DataType::clone(values)),
        DataType::RunEndEncoded(_, values) => Some(values.data_type().clone()),
        DataType::ListView(item) => Some(DataType::List(Arc::clone(item))),
        DataType::LargeListView(item) => Some(DataType::LargeList(Arc::clone(item))),
        _ => None,
    }
}

/// The rows of `batch` in the form of `schema`, which came from [`wire_schema`].
pub(crate) fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| converted(column, field.data_type())).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Array, ArrayRef, AsArray, DictionaryArray, Int8Array, Int32Array, StringViewArray, StructArray,
    };
    use arrow::datatypes::{Field, Int8Type, Int32Type};

    use super::*;

    #[test]
    fn views_and_dictionaries_leave_as_plain_values() {
        let views = StringViewArray::from(vec![Some("a string that is longer than twelve bytes"), None]);
        let words: DictionaryArray<Int32Type> = ["x", "y"].into_iter().collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("v", Arc::new(views) as _, true),
            ("d", Arc::new(words) as _, false),
            ("n", Arc::new(Int32Array::from(vec![1, 2])) as _, false),
        ])
        .expect("a batch");
        let schema = wire_schema(&batch.schema());
        let wire = to_wire(&batch, &schema).expect("castable");
        let types: Vec<_> =
            schema.fields().iter().map(|field| (field.data_type().clone(), field.is_nullable())).collect();
        assert_eq!(types, [(DataType::Utf8, true), (DataType::Utf8, false), (DataType::Int32, false)]);
        assert_eq!(wire.schema(), schema);
        assert!(wire.column(0).is_null(1));
    }

    #[test]
    fn names_and_metadata_of_parts_stay() {
        let unit = [("unit".to_owned(), "ms".to_owned())].into();
        let item = Arc::new(Field::new("element", DataType::Utf8View, false).with_metadata(unit));
        let schema = Schema::new(vec![Field::new("l", DataType::LargeListView(Arc::clone(&item)), true)]);
        let expected = Arc::new(Field::clone(&item).with_data_type(DataType::Utf8));
        assert_eq!(wire_schema(&schema).field(0).data_type(), &DataType::LargeList(expected));
    }

    #[test]
    fn structs_with_two_fields_of_one_name_leave() {
        let [some, other]: [ArrayRef; 2] =
            [["a", "b"], ["c", "d"]].map(|it| Arc::new(StringViewArray::from_iter_values(it)) as _);
        let field = || Arc::new(Field::new("x", DataType::Utf8View, true));
        let structs = StructArray::from(vec![(field(), some), (field(), other)]);
        let batch = RecordBatch::try_from_iter([("s", Arc::new(structs) as ArrayRef)]).expect("a batch");
        let wire = to_wire(&batch, &wire_schema(&batch.schema())).expect("castable");
        let second = Arc::clone(wire.column(0).as_struct().column(1));
        assert_eq!(second.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["c", "d"]);
    }

    #[test]
    fn null_among_the_values_of_a_dictionary_leaves_as_null() {
        let values: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let words = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![0, 1]), values);
        let batch =
            RecordBatch::try_from_iter_with_nullable([("d", Arc::new(words) as ArrayRef, true)]).expect("a batch");
        let wire = to_wire(&batch, &wire_schema(&batch.schema())).expect("castable");
        assert_eq!(wire.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None]);
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let empty = Arc::new(Schema::empty());
        let batch = RecordBatch::try_new_with_options(Arc::clone(&empty), vec![], &options).expect("a batch");
        assert_eq!(to_wire(&batch, &wire_schema(&empty)).expect("nothing to cast").num_rows(), 7);
    }
}
