//! What plain DataFusion answers, by which answers are judged: rows that a query does not tell apart may come in any order,
//! and a limit may leave out any of them. DuckDB may judge beside it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::oracle::{Expected, expected};
use hwacha_workloads::suite::Suite;

use crate::Result;
use crate::duckdb::Duckdb;

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

/// Plain DataFusion and, where it can be started, DuckDB.
pub(crate) struct Judges {
    plain: Judge,
    duckdb: Option<Duckdb>,
    /// Queries with an answer that both allow.
    agreed: BTreeSet<usize>,
}

impl Judges {
    pub(crate) fn new(plain: Judge, duckdb: Option<Duckdb>) -> Self {
        Self { plain, duckdb, agreed: BTreeSet::new() }
    }

    /// Says by which judges the answer to the query of that number is wrong, and in what.
    ///
    /// Answers that plain DataFusion allows differ in ties and last digits only. So DuckDB judges them until it allows one,
    /// and every answer that plain DataFusion does not allow.
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
