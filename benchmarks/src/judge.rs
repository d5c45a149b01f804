//! Judges answers by those of plain DataFusion. Rows with equal sort keys may come in any order, and a LIMIT may
//! leave out any of them. DuckDB can be a second judge.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::oracle::{Expected, expected};
use hwacha_workloads::suite::Suite;

use crate::Result;
use crate::duckdb::Duckdb;

/// Plain DataFusion in this process over a suite's tables. It runs each query once and keeps the allowed answers.
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

    /// A judge that has already run all queries, so that it does not disturb the measurements.
    pub(crate) async fn prepared(suite: &Suite, likeness: Likeness) -> Result<Self> {
        let mut judge = Self::new(suite, likeness).await?;
        for number in suite.queries.keys() {
            judge.ask(*number).await?;
        }
        Ok(judge)
    }

    /// The difference between an answer to the query and the allowed answers, if there is one.
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

/// Plain DataFusion and, if a Python for it was given, DuckDB.
pub(crate) struct Judges {
    plain: Judge,
    duckdb: Option<Duckdb>,
    /// Queries for which all judges have allowed an answer.
    agreed: BTreeSet<usize>,
}

impl Judges {
    pub(crate) fn new(plain: Judge, duckdb: Option<Duckdb>) -> Self {
        Self { plain, duckdb, agreed: BTreeSet::new() }
    }

    /// Returns the judges that reject the answer to the query, and the differences that they found.
    ///
    /// Answers that plain DataFusion allows differ only in ties and last digits. So DuckDB does not judge further
    /// allowed answers to a query once it has allowed one. It judges every answer that plain DataFusion rejects.
    pub(crate) async fn wrong(&mut self, number: usize, rows: &[RecordBatch]) -> Result<Option<String>> {
        let plain = self.plain.wrong(number, rows).await?;
        let duckdb = match &mut self.duckdb {
            Some(duckdb) if plain.is_some() || !self.agreed.contains(&number) => duckdb.wrong(number, rows).await?,
            _ => None,
        };
        if plain.is_none() && duckdb.is_none() {
            self.agreed.insert(number);
        }
        let told = [("plain DataFusion", plain), ("DuckDB", duckdb)];
        let told: Vec<_> =
            told.into_iter().filter_map(|(judge, what)| Some(format!("by {judge}: {}", what?))).collect();
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    pub(crate) fn duckdb(&self) -> Option<&Duckdb> {
        self.duckdb.as_ref()
    }
}
