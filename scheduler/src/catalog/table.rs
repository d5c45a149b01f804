//! A table of the catalog as DataFusion sees it: its files, with what the catalog knows beside them.
//!
//! ANALYZE TABLE leaves counts. Files say themselves how many rows they have, but seldom how many different values a column has, and of several files
//! nobody can tell how many values they share.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Constraints, Result, Statistics};
use datafusion::datasource::physical_plan::FileScanConfigBuilder;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hwacha_operators::scan::file_scan;
use serde::{Deserialize, Serialize};

use super::directory::TableDirectory;

/// What was counted when a table was analyzed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableStatistics {
    pub rows: u64,
    /// About how many different values each column has, by its name.
    pub distinct: BTreeMap<String, u64>,
}

/// A table with what the catalog knows of it.
#[derive(Debug)]
pub(crate) struct CatalogTable {
    pub table: Arc<dyn TableProvider>,
    /// What ANALYZE TABLE counted; its scans know of it.
    pub statistics: Option<TableStatistics>,
    /// The directory of a table that `CREATE TABLE` wrote: it is there for as long as a plan reads the table.
    pub _directory: Option<Arc<TableDirectory>>,
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.table.constraints()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.table.get_table_definition()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.table.get_column_default(column)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.informed(self.table.scan(state, projection, filters, limit).await?))
    }

    async fn scan_with_args<'a>(&self, state: &dyn Session, args: ScanArgs<'a>) -> Result<ScanResult> {
        Ok(self.informed(self.table.scan_with_args(state, args).await?.into_inner()).into())
    }
}

impl CatalogTable {
    /// A scan of files with what they do not say themselves.
    fn informed(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let (Some(scan), Some(counted)) = (file_scan(&plan), &self.statistics) else { return plan };
        let mut statistics = scan.statistics();
        if statistics.column_statistics.len() != self.schema().fields().len() {
            return plan;
        }
        counted.inform(&mut statistics, &self.schema());
        DataSourceExec::from_data_source(FileScanConfigBuilder::from(scan.clone()).with_statistics(statistics).build())
    }
}

impl TableStatistics {
    fn inform(&self, statistics: &mut Statistics, schema: &Schema) {
        if statistics.num_rows == Precision::Absent {
            statistics.num_rows = Precision::Inexact(self.rows as usize);
        }
        // Files that were pruned take their values with them.
        let most = statistics.num_rows.get_value().copied().unwrap_or(usize::MAX);
        for (field, column) in schema.fields().iter().zip(&mut statistics.column_statistics) {
            if let Some(distinct) = self.distinct.get(field.name())
                && !matches!(column.distinct_count, Precision::Exact(_))
            {
                column.distinct_count = Precision::Inexact((*distinct as usize).min(most));
            }
        }
    }
}
