//! Gives the dictionaries of tables keys of four bytes.
//!
//! Keys of one or two bytes have room for few values. Joins, sorts, aggregates and exchanges concatenate batches and
//! merge their dictionaries. Example: two batches have 100 different words each, with Int8 keys. A dictionary of 200
//! words does not fit, because Int8 has room for 128. Arrow then fails ("Dictionary key bigger than the key type",
//! apache/arrow-rs#10674). Its Parquet reader panics if a row group has more values than fit.

use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};

use crate::types::replaced_field;

/// For a dictionary with narrow keys (one or two bytes), the type with Int32 keys. `None` for other types.
pub fn wide(data_type: &DataType) -> Option<DataType> {
    use DataType::{Dictionary, Int8, Int16, Int32, UInt8, UInt16};
    match data_type {
        Dictionary(keys, values) if matches!(**keys, Int8 | Int16 | UInt8 | UInt16) => {
            Some(Dictionary(Box::new(Int32), values.clone()))
        }
        _ => None,
    }
}

/// `schema` with wide keys in all dictionaries, at every depth.
pub fn widened(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(|field| replaced_field(field, &wide)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// `footer` with wide dictionary keys in the Arrow schema that the writer stored beside the Parquet schema.
pub(super) fn with_wide_types(footer: Arc<ParquetMetaData>) -> ParquetResult<Arc<ParquetMetaData>> {
    let file = footer.file_metadata();
    let is_types = |entry: &KeyValue| entry.key == ARROW_SCHEMA_META_KEY;
    let Some(entries) = file.key_value_metadata().filter(|entries| entries.iter().any(is_types)) else {
        return Ok(footer);
    };
    let schema = parquet_to_arrow_schema(file.schema_descr(), Some(entries))?;
    let wide = widened(&schema);
    if *wide == schema {
        return Ok(footer);
    }
    let types = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&wide));
    let entries = entries.iter().map(|entry| if is_types(entry) { types.clone() } else { entry.clone() });
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        Some(entries.collect()),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let footer = ParquetMetaDataBuilder::new(file)
        .set_row_groups(footer.row_groups().to_vec())
        .set_column_index(footer.column_index().cloned())
        .set_offset_index(footer.offset_index().cloned());
    Ok(Arc::new(footer.build()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, RecordBatch};
    use arrow::compute::{cast, concat_batches};
    use arrow::datatypes::{Field, Int8Type};
    use bytes::Bytes;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    };

    use super::*;

    fn dictionary(keys: DataType) -> DataType {
        DataType::Dictionary(Box::new(keys), Box::new(DataType::Utf8))
    }

    fn words(from: usize) -> Vec<String> {
        (from..from + 100).map(|word| format!("w{word}")).collect()
    }

    /// A file with 200 words in one row group. Its schema declares a dictionary with keys of one byte.
    fn file() -> Bytes {
        let batch = |from: usize| {
            let words: DictionaryArray<Int8Type> = words(from).iter().map(|word| Some(word.as_str())).collect();
            RecordBatch::try_from_iter([("d", Arc::new(words) as ArrayRef)]).expect("a batch")
        };
        let mut bytes = vec![];
        let mut writer = ArrowWriter::try_new(&mut bytes, batch(0).schema(), None).expect("a writer");
        writer.write(&batch(0)).expect("memory");
        writer.write(&batch(100)).expect("memory");
        writer.close().expect("memory");
        bytes.into()
    }

    #[test]
    fn more_values_than_narrow_keys_have_room_for_are_read() {
        let read = ParquetRecordBatchReaderBuilder::try_new(file()).expect("a file");
        assert_eq!(read.schema().field(0).data_type(), &dictionary(DataType::Int8));
        let footer = with_wide_types(Arc::clone(read.metadata())).expect("types");
        let footer = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new()).expect("a footer");
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file(), footer).build().expect("a reader");
        let batches: Vec<_> = reader.map(|batch| batch.expect("rows")).collect();
        let rows = concat_batches(&batches[0].schema(), &batches).expect("one schema");
        assert_eq!(rows.column(0).data_type(), &dictionary(DataType::Int32));
        let texts = cast(rows.column(0), &DataType::Utf8).expect("texts");
        let texts: Vec<_> = texts.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        assert_eq!(texts, [words(0), words(100)].concat());
    }

    #[test]
    fn footers_without_narrow_keys_are_left_alone() {
        let read = ParquetRecordBatchReaderBuilder::try_new(file()).expect("a file");
        let wide = with_wide_types(Arc::clone(read.metadata())).expect("types");
        assert!(Arc::ptr_eq(&with_wide_types(Arc::clone(&wide)).expect("types"), &wide));
    }

    #[test]
    fn dictionaries_are_widened_at_every_depth() {
        let lists = |keys| DataType::List(Arc::new(Field::new("item", dictionary(keys), true)));
        let schema = |keys: DataType| {
            let nested = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(lists(keys.clone())));
            Schema::new(vec![Field::new("d", dictionary(keys), true), Field::new("n", nested, true)])
        };
        let wide = widened(&schema(DataType::Int8));
        assert_eq!(wide.field(0), schema(DataType::Int32).field(0));
        let expected = DataType::Dictionary(Box::new(DataType::Int32), Box::new(lists(DataType::Int32)));
        assert_eq!(wide.field(1).data_type(), &expected);
    }
}
