//! Answers requests of clients for facts about the server: catalogs, schemas, tables and capabilities.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, SqlInfo,
};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::catalog::{CATALOG, Catalog, SCHEMA};
use crate::error::Error;
use crate::statement::{Answer, AnswerKind};
use crate::wire_schema::wire_schema;

static SQL_INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut builder = SqlInfoDataBuilder::new();
    builder.append(SqlInfo::FlightSqlServerName, "Hwacha");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, "59");
    builder.append(SqlInfo::FlightSqlServerReadOnly, false);
    builder.append(SqlInfo::FlightSqlServerSql, true);
    builder.append(SqlInfo::FlightSqlServerSubstrait, false);
    builder.append(SqlInfo::FlightSqlServerTransaction, 0i32);
    builder.append(SqlInfo::FlightSqlServerCancel, false);
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    builder.append(SqlInfo::SqlDdlTable, true);
    builder.build().expect("the values are of the kinds that Flight SQL names")
});

fn answer(batch: Result<RecordBatch, arrow_flight::error::FlightError>) -> Result<Answer, Error> {
    let batch = batch.map_err(|error| Error::invalid(error.to_string()))?;
    let rows = futures::stream::iter([Ok(batch.clone())]).boxed();
    Ok(Answer { schema: batch.schema(), rows, kind: AnswerKind::Local })
}

pub(super) fn catalogs(command: CommandGetCatalogs) -> Result<Answer, Error> {
    let mut builder = command.into_builder();
    builder.append(CATALOG);
    answer(builder.build())
}

pub(super) fn schemas(command: CommandGetDbSchemas) -> Result<Answer, Error> {
    let mut builder = command.into_builder();
    for schema in ["information_schema", SCHEMA] {
        builder.append(CATALOG, schema);
    }
    answer(builder.build())
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<Answer, Error> {
    let mut builder = command.into_builder();
    for table_type in ["TABLE", "VIEW"] {
        builder.append(table_type);
    }
    answer(builder.build())
}

pub(super) fn sql_info(command: CommandGetSqlInfo) -> Result<Answer, Error> {
    answer(command.into_builder(&SQL_INFO).build())
}

/// Tables with their columns. A table that cannot be opened is listed without columns, so the other tables are still
/// listed.
pub(super) async fn tables(
    command: CommandGetTables,
    catalog: &Catalog,
    context: &SessionContext,
) -> Result<Answer, Error> {
    let with_columns = command.include_schema;
    let mut builder = command.into_builder();
    for name in catalog.names() {
        let Some(definition) = catalog.definition(&name) else { continue };
        let schema = match with_columns {
            true => match context.table_provider(datafusion::common::TableReference::bare(name.as_str())).await {
                Ok(table) => wire_schema(&table.schema()),
                Err(error) => {
                    tracing::warn!(name, %error, "a table cannot be opened");
                    Arc::new(Schema::empty())
                }
            },
            false => Arc::new(Schema::empty()),
        };
        let kind = definition.noun().to_uppercase();
        builder.append(CATALOG, SCHEMA, &name, kind, &schema).map_err(|error| Error::invalid(error.to_string()))?;
    }
    answer(builder.build())
}
