//! A table of the catalog as DataFusion sees it: its files, with the counts of ANALYZE TABLE.
//!
//! Files store their row counts, but seldom the distinct counts of columns. The footers of several files cannot tell
//! how many values the files have in common.

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

/// The counts of ANALYZE TABLE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableStatistics {
    pub rows: u64,
    /// The estimated distinct count of each column, by column name.
    pub distinct: BTreeMap<String, u64>,
}

/// A table with its statistics and its directory.
#[derive(Debug)]
pub(crate) struct CatalogTable {
    pub table: Arc<dyn TableProvider>,
    /// The counts of ANALYZE TABLE. Scans of the table get them as statistics.
    pub statistics: Option<TableStatistics>,
    /// The directory of a table that `CREATE TABLE` wrote. It exists as long as a plan reads the table.
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
    /// Adds the counts of ANALYZE TABLE to the statistics of a file scan. Row counts and exact distinct counts of the
    /// files stay.
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
        // Pruning may leave fewer rows than the table has distinct values. Example: with 200,000 rows left, 1,500,000
        // distinct values become 200,000.
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
