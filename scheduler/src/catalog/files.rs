//! Tables that are files: named directly in a statement, or written by `CREATE TABLE`.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableConfigExt, ListingTableUrl,
};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use hwacha_plan::failure::classify;
use hwacha_plan::file_error::FileError;

use super::analyzed::AnalyzedTable;
use super::formats::NamingFormat;

/// Endings by which a name in FROM is known to be a file, a glob or a directory of files.
const ENDINGS: &[&str] =
    &[".parquet", ".csv", ".json", ".ndjson", ".jsonl", ".arrow", ".avro", ".gz", ".zst", ".bz2", ".xz", "/"];

/// Whether a table's name in a statement means files.
pub(crate) fn is_file_path(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || (name.contains('/') && name.contains('*'))
}

/// A table over the files that `path` names: a file, a glob, or a directory (ending in `/`).
pub(crate) async fn open_files(state: &SessionState, path: &str) -> Result<Arc<dyn TableProvider>> {
    let url = ListingTableUrl::parse(path)?;
    if !path.contains('*') && !path.contains("://") && !Path::new(path).exists() {
        return plan_err!("the file \"{path}\" does not exist");
    }
    let config = ListingTableConfig::new(url).infer_options(state).await;
    let config = match config {
        Ok(config) => config.infer_partitions_from_path(state).await?,
        Err(_) => return plan_err!("no file matches \"{path}\""),
    };
    let config = match config.infer_schema(state).await {
        Ok(config) => config,
        Err(error) => return plan_err!("{}", unreadable(&[path.to_owned()], &error)),
    };
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// A table over the Parquet files of a directory.
pub(crate) async fn open_parquet_directory(state: &SessionState, directory: &Path) -> Result<Arc<dyn TableProvider>> {
    let url = ListingTableUrl::parse(format!("{}/", directory.display()))?;
    let options =
        ListingOptions::new(Arc::new(NamingFormat(Arc::new(ParquetFormat::default())))).with_file_extension(".parquet");
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// Why files could not be opened as a table: names the file that is to blame, else where the files are.
pub(crate) fn unreadable(locations: &[String], error: &DataFusionError) -> String {
    match FileError::is_in(error) {
        true => classify(error).to_string(),
        false => format!("cannot read \"{}\": {}", locations.join("\", \""), classify(error)),
    }
}

/// The table as one of files, if it is.
pub(crate) fn listing_table(table: &Arc<dyn TableProvider>) -> Option<&ListingTable> {
    table.downcast_ref::<AnalyzedTable>().map_or(table, |analyzed| &analyzed.table).downcast_ref()
}

/// Fails if there is nothing any more where a table that `query` reads has its files: listed, it has no rows.
pub(crate) fn check_presence(query: &LogicalPlan) -> Result<()> {
    query.apply_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
        let table = source_as_provider(&scan.source)?;
        let locations = listing_table(&table).into_iter().flat_map(ListingTable::table_paths);
        for path in locations.filter_map(|location| location.get_url().to_file_path().ok()) {
            if !path.exists() {
                let (name, path) = (&scan.table_name, path.display());
                return plan_err!("the files of table {name} are gone: there is nothing at \"{path}\" any more");
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// An external table over local paths where there is nothing would be an empty table without columns.
pub(crate) fn check_files(locations: &[String], no_columns: bool) -> Result<()> {
    for location in locations {
        let path = location.strip_prefix("file://").unwrap_or(location);
        if !path.contains('*') && !path.contains("://") && !Path::new(path).exists() {
            return plan_err!("the location \"{location}\" does not exist");
        }
    }
    match no_columns {
        true => {
            plan_err!("there are no files at \"{}\" to take columns from; name the columns", locations.join("\", \""))
        }
        false => Ok(()),
    }
}
