//! Column types of tables that differ from the types that their files declare.
//!
//! Dictionaries in Parquet files get wide keys ([`wide`]). Dictionaries in Arrow files are read as their values
//! ([`plain`]). The declared types are kept for `arrow_typeof`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use hwacha_operators::scan::arrow_files::plain;
use hwacha_operators::scan::wide_dictionaries::wide;
use hwacha_operators::types::replaced_field;

/// Maps a type in the files to the type in the table; `None` if both are the same.
type Change = fn(&DataType) -> Option<DataType>;

/// The mapping of types for tables of a format; `None` if tables of the format have the types of their files.
pub(super) fn change_of(format: &Arc<dyn FileFormat>) -> Option<Change> {
    match format {
        format if format.is::<ParquetFormat>() => Some(wide),
        format if format.is::<ArrowFormat>() => Some(plain),
        _ => None,
    }
}

/// The types that the files of a table declare, by column, for columns whose type in the table differs.
#[derive(Debug, Default)]
pub(crate) struct TableTypes(Mutex<HashMap<String, DataType>>);

impl TableTypes {
    /// The schema of a table over files with `schema`. Remembers the declared types that it replaces.
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

    /// The type that the files declare for a column, if the table has another one.
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
