//! What plain DataFusion answers, by which answers are judged: rows that a query does not tell apart may come in any order,
//! and a limit may leave out any of them.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::oracle::{Expected, expected};
use hwacha_workloads::suite::Suite;

use crate::Result;

/// Plain DataFusion in this process over a suite's tables; it is asked for each query once.
pub(crate) struct Judge {
    context: SessionContext,
    queries: BTreeMap<usize, String>,
    likeness: Likeness,
    expected: BTreeMap<usize, Expected>,
}

impl Judge {
    pub(crate) async fn new(suite: &Suite, likeness: Likeness) -> Result<Self> {
        let context = SessionContext::new();
        for (table, path) in &suite.tables {
            context.register_parquet(table, path.display().to_string(), ParquetReadOptions::default()).await?;
        }
        Ok(Self { context, queries: suite.queries.clone(), likeness, expected: BTreeMap::new() })
    }

    /// One that has asked for all queries, before anything is measured.
    pub(crate) async fn prepared(suite: &Suite, likeness: Likeness) -> Result<Self> {
        let mut judge = Self::new(suite, likeness).await?;
        for number in suite.queries.keys() {
            judge.ask(*number).await?;
        }
        Ok(judge)
    }

    /// What is wrong with the answer to the query of that number, if anything.
    pub(crate) async fn wrong(&mut self, number: usize, rows: &[RecordBatch]) -> Result<Option<String>> {
        self.ask(number).await?;
        Ok(self.expected[&number].difference(rows)?)
    }

    async fn ask(&mut self, number: usize) -> Result<()> {
        if !self.expected.contains_key(&number) {
            let answer = expected(&self.context, &self.queries[&number], self.likeness).await?;
            self.expected.insert(number, answer);
        }
        Ok(())
    }
}
