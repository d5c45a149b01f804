//! Types that columns of tables have in place of those that their files declare.
//!
//! Dictionaries get wide keys where they come from Parquet ([`wide`]), and are read as their values where they come from
//! Arrow files ([`plain`]). What files declare is kept, because `arrow_typeof` says it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use hwacha_operators::scan::arrow_files::plain;
use hwacha_operators::scan::wide_dictionaries::wide;
use hwacha_operators::types::replaced_field;

/// What a table has in place of a type of its files.
type Change = fn(&DataType) -> Option<DataType>;

/// How tables of a format change types, if they do.
pub(super) fn change_of(format: &Arc<dyn FileFormat>) -> Option<Change> {
    match format {
        format if format.is::<ParquetFormat>() => Some(wide),
        format if format.is::<ArrowFormat>() => Some(plain),
        _ => None,
    }
}

/// The types that files of a table declare, by column, where the table has others.
#[derive(Debug, Default)]
pub(crate) struct TableTypes(Mutex<HashMap<String, DataType>>);

impl TableTypes {
    /// The schema that a table has for files of `schema`.
    pub(super) fn in_place_of(&self, schema: SchemaRef, format: &Arc<dyn FileFormat>) -> SchemaRef {
        let Some(change) = change_of(format) else { return schema };
        let mut declared = self.lock();
        let fields: Fields = schema
            .fields()
            .iter()
            .map(|field: &FieldRef| {
                let table_field = replaced_field(field, &change);
                if table_field != *field {
                    declared.entry(field.name().clone()).or_insert_with(|| field.data_type().clone());
                }
                table_field
            })
            .collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    /// What the files say that a column is, if the table says otherwise.
    pub(crate) fn declared(&self, column: &str) -> Option<DataType> {
        self.lock().get(column).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, DataType>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::datasource::file_format::csv::CsvFormat;

    use super::*;

    fn dictionary(keys: DataType) -> DataType {
        DataType::Dictionary(Box::new(keys), Box::new(DataType::Utf8))
    }

    fn schema(data_type: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("d", data_type, true), Field::new("n", DataType::Int8, true)]))
    }

    #[test]
    fn dictionaries_change_by_their_format_and_what_files_declare_is_known() {
        let formats: [(Arc<dyn FileFormat>, DataType); 3] = [
            (Arc::new(ParquetFormat::default()), dictionary(DataType::Int32)),
            (Arc::new(ArrowFormat), DataType::Utf8),
            (Arc::new(CsvFormat::default()), dictionary(DataType::UInt8)),
        ];
        for (format, expected) in formats {
            let types = TableTypes::default();
            assert_eq!(types.in_place_of(schema(dictionary(DataType::UInt8)), &format), schema(expected.clone()));
            let kept = (expected != dictionary(DataType::UInt8)).then(|| dictionary(DataType::UInt8));
            assert_eq!((types.declared("d"), types.declared("n")), (kept, None));
        }
    }
}
