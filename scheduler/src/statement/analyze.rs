//! ANALYZE TABLE: counts the rows of a table and estimates the distinct count of each column, for the planner.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, UInt64Type};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::Analyze;
use futures::TryStreamExt;

use super::{Answer, StatementRunner, command, local_name};
use crate::catalog::{Definition, TableStatistics};
use crate::error::Error;

/// Runs a counting query on the executors, and stores the counts in the catalog.
pub(super) async fn analyze_table(runner: &StatementRunner, analyze: Analyze) -> Result<Answer, Error> {
    if analyze.partitions.is_some() || analyze.for_columns || !analyze.columns.is_empty() || analyze.noscan {
        return Err(Error::unsupported("only whole tables are analyzed; write ANALYZE TABLE name"));
    }
    let Some(name) = analyze.table_name else {
        return Err(Error::invalid("ANALYZE needs a table; write ANALYZE TABLE name"));
    };
    let reference = object_name_to_table_reference(name, true)?;
    let name = local_name(&reference)?.to_owned();
    let definition = match runner.catalog.definition(&name) {
        Some(Definition::View { .. }) => {
            return Err(Error::invalid(format!("\"{name}\" is a view; analyze the tables that it reads")));
        }
        Some(definition) => definition,
        None => {
            return Err(Error::not_found(format!("table \"{name}\" does not exist; SHOW TABLES lists all tables")));
        }
    };
    let state = &runner.snapshot.state;
    let schema = runner.session.context().table_provider(reference).await?.schema();
    let columns: Vec<_> = countable(&schema).collect();
    let counts: String = columns.iter().map(|(_, count)| format!(", {count}")).collect();
    let plan = state.create_logical_plan(&format!("SELECT count(*){counts} FROM {}", quoted(&name))).await?;
    let rows: Vec<RecordBatch> = runner.query(plan).await?.rows.try_collect().await?;
    let mut values = values(&rows)?.into_iter();
    let rows = values.next().unwrap_or_default();
    let distinct: BTreeMap<_, _> = columns.into_iter().map(|(column, _)| column).zip(values).collect();
    runner.catalog.put_statistics(&name, &definition, TableStatistics { rows, distinct })?;
    Ok(command("ANALYZE TABLE"))
}

/// The columns that are not nested, each with the expression that counts its distinct values. Floats are counted as
/// text.
fn countable(schema: &Schema) -> impl Iterator<Item = (String, String)> {
    let fields = schema.fields().iter().filter(|field| !field.data_type().is_nested());
    fields.map(|field| {
        let column = quoted(field.name());
        let count = match field.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                format!("approx_distinct(CAST({column} AS VARCHAR))")
            }
            _ => format!("approx_distinct({column})"),
        };
        (field.name().clone(), count)
    })
}

/// The values of the single result row; empty if there is no row.
fn values(rows: &[RecordBatch]) -> Result<Vec<u64>, Error> {
    let Some(row) = rows.iter().find(|batch| batch.num_rows() > 0) else { return Ok(vec![]) };
    let value = |column: &arrow::array::ArrayRef| -> Result<u64, Error> {
        let numbers = cast(column, &DataType::UInt64).map_err(datafusion::error::DataFusionError::from)?;
        Ok(if numbers.is_null(0) { 0 } else { numbers.as_primitive::<UInt64Type>().value(0) })
    };
    row.columns().iter().map(value).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
