//! What plain DataFusion answers, by which answers are judged: rows that a query does not tell apart may come in any order,
//! and a limit may leave out any of them.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::oracle::{Expected, expected};
use hwacha_workloads::suite::Suite;

use crate::Result;

/// The answers to all queries of a suite.
pub(crate) struct Judge {
    expected: BTreeMap<usize, Expected>,
}

impl Judge {
    /// Asks plain DataFusion in this process, which is done before anything is measured.
    pub(crate) async fn new(suite: &Suite, likeness: Likeness) -> Result<Self> {
        let context = SessionContext::new_with_config(SessionConfig::new());
        for (table, path) in &suite.tables {
            context.register_parquet(table, path.display().to_string(), ParquetReadOptions::default()).await?;
        }
        let mut answers = BTreeMap::new();
        for (number, sql) in &suite.queries {
            answers.insert(*number, expected(&context, sql, likeness).await?);
        }
        Ok(Self { expected: answers })
    }

    /// What is wrong with the answer to the query of that number, if anything.
    pub(crate) fn wrong(&self, number: usize, rows: &[RecordBatch]) -> Result<Option<String>> {
        Ok(self.expected[&number].difference(rows)?)
    }
}
