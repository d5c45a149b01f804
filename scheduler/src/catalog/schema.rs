//! The catalog as DataFusion sees it: one catalog with the schemas `public` and `information_schema`. A table is
//! opened when a statement first names it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableType};
use hwacha_corrections::{count_copies, keep_zones};
use hwacha_execution::failure::classify;
use hwacha_execution::planning_budget::check_size;
use hwacha_execution::session::built;
use hwacha_model::{Failure, FailureKind};

use super::constraints::reliable_constraints;
use super::external::open_external;
use super::hive::with_directories;
use super::{Catalog, CatalogTable, Definition, check_files, is_file_path, open_files, open_parquet_directory};
use crate::parsing::reopen;

pub(crate) const CATALOG: &str = "hwacha";
pub(crate) const SCHEMA: &str = "public";

/// Maximum depth of views that read views (32). A view that reads itself through other views exceeds it too.
const VIEW_DEPTH: usize = 32;

/// The tables of the server, and files that a statement names directly.
#[derive(Clone, Debug)]
pub(crate) struct PublicSchema {
    catalog: Arc<Catalog>,
    /// The session that definitions are opened with. It has the default settings, not those of a user's session.
    state: SessionState,
    depth: usize,
    /// The table or view that is being opened. A lookup of its name finds nothing, so its definition cannot read
    /// itself.
    opening: Option<String>,
}

/// A catalog list whose schema `public` holds the tables of `catalog`.
pub(crate) fn catalog_list(catalog: &Arc<Catalog>, state: &SessionState) -> Arc<dyn CatalogProviderList> {
    list_of(PublicSchema { catalog: Arc::clone(catalog), state: state.clone(), depth: 0, opening: None })
}

fn list_of(schema: PublicSchema) -> Arc<dyn CatalogProviderList> {
    let functions = schema.state.table_functions().clone();
    let described = list_with([(SCHEMA, Arc::new(ReadableTables(schema.clone())) as _)]);
    let described = InformationSchemaProvider::new(described).with_table_functions(functions);
    list_with([(SCHEMA, Arc::new(schema) as _), (INFORMATION_SCHEMA, Arc::new(described) as _)])
}

fn list_with<const N: usize>(schemas: [(&str, Arc<dyn SchemaProvider>); N]) -> Arc<dyn CatalogProviderList> {
    let provider = MemoryCatalogProvider::new();
    for (name, schema) in schemas {
        provider.register_schema(name, schema).expect("a memory catalog takes schemas");
    }
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), Arc::new(provider));
    Arc::new(list)
}

/// The tables for `information_schema`. A table that cannot be opened is left out, so the others are still listed.
#[derive(Debug)]
struct ReadableTables(PublicSchema);

#[async_trait]
impl SchemaProvider for ReadableTables {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.0.table(name).await.unwrap_or_else(|error| {
            tracing::warn!(name, %error, "a table cannot be opened");
            None
        }))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.0.table_type(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        self.catalog.names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.opening.as_deref() == Some(name) {
            return Ok(None);
        }
        if let Some(provider) = self.catalog.provider(name) {
            return Ok(Some(provider));
        }
        let Some((definition, directory)) = self.catalog.find(name) else {
            return match is_file_path(name) {
                true => open_files(&self.state, name).await.map(Some),
                // The planner reports a missing table. The name may also belong to a table function.
                false => Ok(None),
            };
        };
        let provider = match self.open(name, &definition).await {
            Ok(provider) => provider,
            Err(error) => {
                let is_too_deep =
                    matches!(error.find_root(), DataFusionError::External(cause) if cause.is::<TooDeep>());
                let Failure { kind, message } = match is_too_deep {
                    // The error names only the outermost view.
                    true if self.depth > 0 => return Err(error),
                    true => Failure::new(FailureKind::UserError, TooDeep.to_string()),
                    false => classify(&error),
                };
                let message = format!("{} \"{name}\" cannot be opened: {message}", definition.noun());
                return Err(DataFusionError::External(Box::new(Failure { kind, message })));
            }
        };
        let statistics = self.catalog.statistics(name).unwrap_or_else(|error| {
            // Without statistics the query is correct; only its plan may be worse.
            tracing::warn!(table = name, %error, "the statistics of ANALYZE TABLE cannot be read");
            None
        });
        let provider: Arc<dyn TableProvider> = match (&statistics, &directory) {
            (None, None) => provider,
            _ => Arc::new(CatalogTable { table: provider, statistics, _directory: directory }),
        };
        if !matches!(definition, Definition::View { .. }) {
            self.catalog.keep(name, &definition, &provider);
        }
        Ok(Some(provider))
    }

    /// Reads only the definition, so listing the tables opens none of them.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.catalog.definition(name).map(|definition| match definition {
            Definition::View { .. } => TableType::View,
            Definition::External { .. } | Definition::Table { .. } | Definition::Damaged { .. } => TableType::Base,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.definition(name).is_some()
    }
}

/// The error for views that are nested too deep.
#[derive(Debug, thiserror::Error)]
#[error(
    "views are nested more than {VIEW_DEPTH} levels deep, or a view reads itself; define one of them over tables instead"
)]
struct TooDeep;

impl PublicSchema {
    async fn open(&self, name: &str, definition: &Definition) -> Result<Arc<dyn TableProvider>> {
        match definition {
            Definition::Table { directory } => {
                open_parquet_directory(&self.state, &self.catalog.table_path(directory)).await
            }
            Definition::Damaged { reason } => plan_err!("{reason}"),
            Definition::External { sql, .. } | Definition::View { sql } => self.open_statement(name, sql).await,
        }
    }

    /// Opens a table or view by planning the statement that made it. The tables that the statement names are opened
    /// one level deeper.
    async fn open_statement(&self, name: &str, sql: &str) -> Result<Arc<dyn TableProvider>> {
        if self.depth == VIEW_DEPTH {
            return Err(DataFusionError::External(Box::new(TooDeep)));
        }
        let below = Self {
            catalog: Arc::clone(&self.catalog),
            state: self.state.clone(),
            depth: self.depth + 1,
            opening: Some(name.to_owned()),
        };
        let builder = SessionStateBuilder::new_from_existing(self.state.clone()).with_catalog_list(list_of(below));
        let state = built(builder)?;
        let statement = match reopen(sql) {
            Ok(statement) => statement,
            Err(error) => return plan_err!("{error}"),
        };
        match state.statement_to_plan(statement).await? {
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut command)) => {
                command.constraints = reliable_constraints(&command);
                let table = open_external(&state, &command).await?;
                check_files(&state, &command.locations, table.schema().fields().is_empty())?;
                with_directories(table, state.runtime_env().cache_manager.get_file_statistic_cache())
            }
            LogicalPlan::Ddl(DdlStatement::CreateView(view)) => {
                let plan = view.input.as_ref().clone();
                check_size(&plan)?;
                let plan = count_copies(plan)?;
                // The plan is analyzed to get its final types: before analysis a UNION has the types of its first
                // branch.
                let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
                Ok(Arc::new(ViewTable::new(keep_zones(plan)?, view.definition)))
            }
            other => plan_err!("the definition \"{}\" makes no table", other.display()),
        }
    }
}
