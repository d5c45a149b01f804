//! The form in which rows leave the cluster: one function decides it, for schemas that are announced and rows that follow.
//!
//! Many clients cannot read view types, so they leave as plain ones; dictionaries leave as their values. Names, metadata
//! and nullability are those of the logical plan.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::Result;

/// The schema in which rows of `schema` reach clients.
pub(crate) fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(wire_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn wire_field(field: &Arc<Field>) -> Arc<Field> {
    Arc::new(Field::clone(field).with_data_type(wire_type(field.data_type())))
}

fn wire_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => wire_type(values),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::List(item) | DataType::ListView(item) => DataType::List(wire_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(wire_field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(wire_field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(wire_field(entries), *sorted),
        plain => plain.clone(),
    }
}

/// The rows of `batch` in the form of `schema`, which came from [`wire_schema`].
pub(crate) fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        })
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, DictionaryArray, Int32Array, StringViewArray};
    use arrow::datatypes::Int32Type;

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
    fn rows_without_columns_are_counted() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let empty = Arc::new(Schema::empty());
        let batch = RecordBatch::try_new_with_options(Arc::clone(&empty), vec![], &options).expect("a batch");
        assert_eq!(to_wire(&batch, &wire_schema(&empty)).expect("nothing to cast").num_rows(), 7);
    }
}
