//! Opens external tables. DataFusion expands patterns in local paths only, and no pattern of it matches a file with `=` in
//! its name. So a table with a pattern in its location, such as `s3://lake/2026/*.parquet`, is opened in two steps:
//!
//! 1. DataFusion makes a table over the directory `s3://lake/2026/` without reading files. This checks the options of
//!    the statement and turns them into listing options.
//! 2. A second table with these listing options reads the files that match the pattern.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableProvider, TableProviderFactory};
use datafusion::common::{Result, ToDFSchema, plan_err};
use datafusion::datasource::listing::{ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::listing_table_factory::ListingTableFactory;
use datafusion::execution::SessionState;
use datafusion::logical_expr::CreateExternalTable;

use super::files::{listing_url, with_odd_names};

/// Opens the table of a CREATE EXTERNAL TABLE.
pub(crate) async fn open_external(
    state: &SessionState,
    command: &CreateExternalTable,
) -> Result<Arc<dyn TableProvider>> {
    let factory = ListingTableFactory::new();
    if !command.locations.iter().any(|location| location.contains('*')) {
        return factory.create(state, command).await;
    }
    let urls = urls(command)?;
    let has_columns = !command.schema.fields().is_empty();
    let directory = CreateExternalTable {
        locations: vec![urls[0].get_url().to_string()],
        schema: match has_columns {
            true => Arc::clone(&command.schema),
            false => Arc::new(unread_columns(&command.table_partition_cols).to_dfschema()?),
        },
        ..command.clone()
    };
    let table = factory.create(state, &directory).await?;
    let Some(table) = table.downcast_ref::<ListingTable>() else {
        return plan_err!("a table of type {} has no patterns in its locations", command.file_type);
    };
    let mut options = table.options().clone();
    options.file_extension.clear();
    let partitions = options.table_partition_cols.len();
    let mut all = vec![];
    for url in urls {
        all.extend(with_odd_names(state, url).await?);
    }
    let config = ListingTableConfig::new_with_multi_paths(all).with_listing_options(options);
    let config = match has_columns {
        true => {
            let of_files = table.schema().fields().len() - partitions;
            config.with_schema(Arc::new(table.schema().project(&(0..of_files).collect::<Vec<_>>())?))
        }
        false if partitions == 0 => config.infer_partitions_from_path(state).await?.infer_schema(state).await?,
        false => config.infer_schema(state).await?,
    };
    let table = ListingTable::try_new(config)?
        .with_cache(state.runtime_env().cache_manager.get_file_statistic_cache())
        .with_definition(command.definition.clone())
        .with_constraints(command.constraints.clone())
        .with_column_defaults(command.column_defaults.clone());
    Ok(Arc::new(table))
}

/// The URLs of the table's locations. They must be in one bucket, since DataFusion reads a table from one store.
fn urls(command: &CreateExternalTable) -> Result<Vec<ListingTableUrl>> {
    let url = |location: &String| Ok(listing_url(location)?.with_table_ref(command.name.clone()));
    let urls: Vec<_> = command.locations.iter().map(url).collect::<Result<_>>()?;
    let buckets: BTreeSet<_> = urls.iter().map(|url| url.object_store().as_str().to_owned()).collect();
    if buckets.len() > 1 {
        let buckets: Vec<_> = buckets.into_iter().collect();
        return plan_err!(
            "the locations of an external table must be in one bucket, not in {}; make one table for each, and a view of both",
            buckets.join(" and ")
        );
    }
    Ok(urls)
}

/// The columns of the table of step 1 if the statement lists none: one placeholder, so DataFusion reads no schema from
/// files, and the partition columns.
fn unread_columns(partitions: &[String]) -> Schema {
    let text = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
    let partitions = partitions.iter().map(|name| Field::new(name, text.clone(), true));
    let unread = Field::new("", DataType::Null, true);
    Schema::new(std::iter::once(unread).chain(partitions).collect::<Vec<_>>())
}
