//! Tables over files: those that a statement names by path, and those that `CREATE TABLE` wrote.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableConfigExt, ListingTableUrl,
};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::{StreamExt, TryStreamExt};
use hwacha_execution::failure::{FileError, classify, is_explained};
use hwacha_model::{Failure, FailureKind};
use hwacha_storage::{Stores, names_table_store};

use super::formats::NamingFormat;
use super::hive::{HiveTable, with_directories};
use super::table::CatalogTable;
use super::table_types::TableTypes;

/// A name in FROM with one of these endings means a file, a glob or a directory of files.
const ENDINGS: &[&str] =
    &[".parquet", ".csv", ".json", ".ndjson", ".jsonl", ".arrow", ".avro", ".gz", ".zst", ".bz2", ".xz", "/"];

/// Whether a table's name in a statement means files.
pub(crate) fn is_file_path(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
        || (name.contains('/') && name.contains('*'))
        || name.contains("://")
}

/// Fails if queries may not read `place`, a path or a URL.
fn check_allowed(state: &SessionState, place: &str) -> Result<()> {
    let stores = state.config().get_extension::<Stores>().expect("sessions have stores");
    stores.check(place).map_err(|failure| DataFusionError::External(Box::new(failure)))
}

/// A table over the files that `path` names: a file, a glob, or a directory (ending in `/`).
pub(crate) async fn open_files(state: &SessionState, path: &str) -> Result<Arc<dyn TableProvider>> {
    check_allowed(state, path)?;
    if names_table_store(path) {
        return plan_err!("{path} has a name before the bucket; leave out the part before @");
    }
    let url = listing_url(path)?;
    if !path.contains('*') && !path.contains("://") && !is_there(Path::new(path))? {
        return plan_err!("the file \"{path}\" does not exist");
    }
    let urls = with_odd_names(state, url).await?;
    for url in &urls {
        check_one_format(state, url, path).await?;
    }
    let config = ListingTableConfig::new_with_multi_paths(urls).infer_options(state).await;
    let config = match config {
        Ok(config) => config.infer_partitions_from_path(state).await?,
        Err(error) if is_explained(&error) || is_unavailable(classify(&error).kind) => return Err(error),
        Err(_) => return plan_err!("no file matches \"{path}\""),
    };
    let config = match config.infer_schema(state).await {
        Ok(config) => config,
        Err(error) => return Err(DataFusionError::External(Box::new(unreadable(&[path.to_owned()], &error)))),
    };
    with_directories(Arc::new(ListingTable::try_new(config)?), None)
}

fn is_unavailable(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Unavailable | FailureKind::StoreUnavailable)
}

/// Whether a location is a URL with a pattern, such as `s3://lake/*.parquet`.
pub(super) fn has_url_pattern(location: &str) -> bool {
    location.contains("://") && location.contains('*')
}

/// The URL of the files that `path` names. DataFusion expands patterns in local paths only.
///
/// DataFusion caches listings by table name and path without the bucket, so the bucket serves as the table name here.
pub(super) fn listing_url(path: &str) -> Result<ListingTableUrl> {
    let url = match path.find('*').filter(|_| has_url_pattern(path)) {
        None => ListingTableUrl::parse(path)?,
        Some(pattern) => {
            let (folder, pattern) = path.split_at(path[..pattern].rfind('/').map_or(0, |slash| slash + 1));
            ListingTableUrl::parse(folder)?.with_glob(pattern)?
        }
    };
    let bucket = TableReference::bare(url.object_store().as_str());
    Ok(url.with_table_ref(bucket))
}

/// Maximum number of files with `=` in their names that a pattern matches (1,000). The table fails beyond it.
const MAX_ODD_NAMES: usize = 1000;

/// `url`, and the URLs of the files that its pattern matches and that have `=` in their names. DataFusion takes such a
/// name for the directory of a partition, so no pattern matches it. Example: `s3://lake/*.parquet` and the file
/// `a=b.parquet`.
pub(super) async fn with_odd_names(state: &SessionState, url: ListingTableUrl) -> Result<Vec<ListingTableUrl>> {
    let Some(pattern) = url.get_glob().clone() else { return Ok(vec![url]) };
    let store = state.runtime_env().object_store(&url)?;
    let all = ListingTableUrl::try_new(url.get_url().clone(), None)?;
    let all = match url.get_table_ref() {
        Some(bucket) => all.with_table_ref(bucket.clone()),
        None => all,
    };
    let mut files = all.list_all_files(state, store.as_ref(), "").await?;
    let ignores_folders = state.config_options().execution.listing_table_ignore_subdirectory;
    let (mut odd, mut matches) = (vec![], false);
    while let Some(file) = files.try_next().await? {
        let name = file.location.filename().unwrap_or_default();
        if !name.contains('=') {
            matches |= url.contains(&file.location, ignores_folders);
            continue;
        }
        let Some(below) = all.strip_prefix(&file.location) else { continue };
        let folders: Vec<_> = below.filter(|part| !part.contains('=')).collect();
        if folders.is_empty() && pattern.matches(name) {
            let mut file_url = url.get_url().clone();
            match file_url.path_segments_mut() {
                Ok(mut path) => drop(path.clear().extend(file.location.parts().map(|part| part.as_ref().to_owned()))),
                Err(()) => continue,
            }
            odd.push(ListingTableUrl::try_new(file_url, None)?);
        }
        if odd.len() > MAX_ODD_NAMES {
            return plan_err!(
                "the pattern matches more than {MAX_ODD_NAMES} files with = in their names; read their directory \
                 without a pattern"
            );
        }
    }
    // DataFusion looks at the files of the first URL for the format and the partitions.
    let pattern = Some(url).filter(|_| matches || odd.is_empty());
    Ok(pattern.into_iter().chain(odd).collect())
}

/// Maximum number of files whose endings are compared (10,000). Further files are not checked.
const MAX_FORMAT_FILES: usize = 10_000;

/// Fails if the files that `path` names have several formats. DataFusion would read the files of one format and skip
/// the others.
async fn check_one_format(state: &SessionState, url: &ListingTableUrl, path: &str) -> Result<()> {
    let store = state.runtime_env().object_store(url)?;
    let mut files = url.list_all_files(state, store.as_ref(), "").await?.take(MAX_FORMAT_FILES);
    let mut first: Option<String> = None;
    while let Some(file) = files.try_next().await? {
        let name = file.location.filename().unwrap_or_default();
        match &first {
            None => first = Some(name.to_owned()),
            Some(known) if ending(known) == ending(name) => {}
            Some(known) => {
                let mut names = [known.as_str(), name];
                names.sort_unstable();
                return plan_err!(
                    "\"{path}\" contains files of several formats, for example \"{}\" and \"{}\"; read the files of \
                     one format, for example \"{}*.{}\", or use CREATE EXTERNAL TABLE … STORED AS",
                    names[0],
                    names[1],
                    path.trim_end_matches('*'),
                    ending(names[0])
                );
            }
        }
    }
    Ok(())
}

/// The ending of a file's name, with the ending of a compression: `csv`, `csv.gz`. Empty for `a.gz`.
fn ending(name: &str) -> &str {
    const COMPRESSIONS: [&str; 4] = [".gz", ".bz2", ".xz", ".zst"];
    let plain = COMPRESSIONS.iter().find_map(|compression| name.strip_suffix(compression)).unwrap_or(name);
    plain.rfind('.').map_or("", |dot| &name[dot + 1..])
}

/// A table over the Parquet files of a directory.
pub(crate) async fn open_parquet_directory(state: &SessionState, directory: &Path) -> Result<Arc<dyn TableProvider>> {
    let url = ListingTableUrl::parse(format!("{}/", directory.display()))?;
    let options = ListingOptions::new(Arc::new(NamingFormat::new(Arc::new(ParquetFormat::default()))))
        .with_file_extension(".parquet");
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// The failure for files that could not be opened as a table. It names the damaged file if that is known, else the
/// locations. It is a user error unless a disk or a store failed or a resource ran out.
pub(crate) fn unreadable(locations: &[String], error: &DataFusionError) -> Failure {
    let Failure { kind, message } = classify(error);
    let kind = match kind {
        FailureKind::Unavailable | FailureKind::StoreUnavailable | FailureKind::ResourcesExhausted => kind,
        _ => FailureKind::UserError,
    };
    match FileError::is_in(error) || is_explained(error) {
        true => Failure { kind, message },
        false => Failure::new(kind, format!("cannot read \"{}\": {message}", locations.join("\", \""))),
    }
}

/// Whether a file or directory exists. Fails with `Unavailable` if the file system cannot tell.
fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| {
        let problem = format!("cannot check whether \"{}\" exists: {error}", path.display());
        DataFusionError::External(Box::new(Failure::new(FailureKind::Unavailable, problem)))
    })
}

/// The `ListingTable` inside the catalog's wrappers, if the table reads files.
pub(crate) fn listing_table(table: &Arc<dyn TableProvider>) -> Option<&ListingTable> {
    let table = table.downcast_ref::<CatalogTable>().map_or(table, |known| &known.table);
    match table.downcast_ref::<HiveTable>() {
        Some(hive) => Some(&hive.table),
        None => table.downcast_ref(),
    }
}

/// The column types that the files of a table declare, where the table has other types.
pub(crate) fn table_types(table: &Arc<dyn TableProvider>) -> Option<&TableTypes> {
    let format = &listing_table(table)?.options().format;
    format.downcast_ref::<NamingFormat>().map(|format| &format.types)
}

/// Fails if a local path of a table that `query` reads no longer exists. Without this check the listing would be
/// empty, and the table would have no rows.
pub(crate) fn check_presence(query: &LogicalPlan) -> Result<()> {
    query.apply_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
        let table = source_as_provider(&scan.source)?;
        let locations = listing_table(&table).into_iter().flat_map(ListingTable::table_paths);
        for path in locations.filter_map(|location| location.get_url().to_file_path().ok()) {
            if !is_there(&path)? {
                let (name, path) = (&scan.table_name, path.display());
                return plan_err!(
                    "the location \"{path}\" of table {name} no longer exists; restore its files, or drop the table"
                );
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Fails if a location may not be read, if it is a local path that does not exist, or if no columns were found
/// (`no_columns`). Without this check the external table would be empty or have no columns.
pub(crate) fn check_files(state: &SessionState, locations: &[String], no_columns: bool) -> Result<()> {
    for location in locations {
        check_allowed(state, location)?;
        let path = location.strip_prefix("file://").unwrap_or(location);
        if !path.contains('*') && !path.contains("://") && !is_there(Path::new(path))? {
            return plan_err!("the location \"{location}\" does not exist");
        }
    }
    match no_columns {
        true => {
            plan_err!(
                "the columns of the table are unknown, since there are no files at \"{}\"; list the columns after the \
                 table name",
                locations.join("\", \"")
            )
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::ending;

    #[test]
    fn an_ending_has_that_of_a_compression() {
        assert_eq!(["a.b.csv", "a.csv.gz", "a", "a.gz"].map(ending), ["csv", "csv.gz", "", ""]);
    }
}
