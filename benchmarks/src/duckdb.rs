//! DuckDB as the second judge. It finds wrong answers that plain DataFusion and Hwacha have in common.
//!
//! A process of `workloads/oracle/ask_duckdb.py` reads the same files and gives all rows of a query with their sort
//! keys. [`EXCEPTIONS`] lists the queries for which DuckDB has other semantics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use hwacha_workloads::answers::Likeness;
use hwacha_workloads::oracle::{Expected, Limit};
use hwacha_workloads::suite::Suite;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::Result;
use crate::parties::Process;
use crate::suites::SuiteName;

const SCRIPT: &str = include_str!("../../workloads/oracle/ask_duckdb.py");
/// Prefix of the names that the script gives to sort key columns.
const KEY: &str = "hwacha_key_";

/// A query whose text is changed for DuckDB, or that DuckDB does not run.
struct Exception {
    suite: SuiteName,
    query: usize,
    reason: &'static str,
    /// A part of the query's text and its replacement for DuckDB. `None` if DuckDB does not run the query.
    change: Option<[&'static str; 2]>,
}

static EXCEPTIONS: [Exception; 1] = [Exception {
    suite: SuiteName::H2o,
    query: 9,
    reason: "where a column is constant, DuckDB's correlation is NaN; DataFusion's and PostgreSQL's is NULL",
    change: Some(["CORR(v1, v2)", "nullif(CORR(v1, v2), 'NaN')"]),
}];

/// The exceptions of a suite, by the numbers of the queries.
fn exceptions(suite: SuiteName) -> BTreeMap<usize, &'static Exception> {
    let own = EXCEPTIONS.iter().filter(|exception| exception.suite == suite);
    own.map(|exception| (exception.query, exception)).collect()
}

/// The input of the script, as JSON.
#[derive(Serialize)]
struct Job<'a> {
    tables: &'a BTreeMap<String, PathBuf>,
    queries: &'a BTreeMap<usize, String>,
    changes: BTreeMap<usize, Vec<[&'static str; 2]>>,
}

/// DuckDB over a suite's tables.
pub(crate) struct Duckdb {
    process: Process,
    folder: TempDir,
    exceptions: BTreeMap<usize, &'static Exception>,
    counts: Counts,
}

/// The query numbers of a suite, by DuckDB's part in the judgment.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The queries that DuckDB judged.
    pub judged: BTreeSet<usize>,
    /// The judged queries whose text was changed for DuckDB.
    pub reworded: BTreeSet<usize>,
    /// The queries that DuckDB does not run because of an exception.
    pub left_out: BTreeSet<usize>,
}

impl Duckdb {
    /// Starts the script with a Python that has the packages of `tests/python/requirements.txt`.
    pub(crate) async fn start(python: &Path, name: SuiteName, suite: &Suite) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let exceptions = exceptions(name);
        let changes = exceptions.iter().filter_map(|(query, exception)| Some((*query, vec![exception.change?])));
        let job = Job { tables: &suite.tables, queries: &suite.queries, changes: changes.collect() };
        let (script, job_file) = (folder.path().join("ask_duckdb.py"), folder.path().join("job.json"));
        std::fs::write(&script, SCRIPT)?;
        std::fs::write(&job_file, serde_json::to_string(&job)?)?;
        let mut command = Command::new(python);
        command.arg(script).arg(job_file);
        let process = Process::spawn(command, "DuckDB").await?;
        Ok(Self { process, folder, exceptions, counts: Counts::default() })
    }

    /// Compares an answer to the query with DuckDB's rows and returns the difference. An error of DuckDB counts as a
    /// difference, too. `None` if there is no difference or DuckDB does not run the query.
    pub(crate) async fn wrong(&mut self, number: usize, rows: &[RecordBatch]) -> Result<Option<String>> {
        if !self.is_asked(number) {
            return Ok(None);
        }
        match self.process.query(number, self.folder.path()).await {
            Ok((_, allowed)) => Ok(expected(&allowed)?.difference(rows)?),
            Err(error) => Ok(Some(format!("no answer: {error}"))),
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether DuckDB judges a query. Counts the query, and prints the reason of an exception once.
    fn is_asked(&mut self, number: usize) -> bool {
        let exception = self.exceptions.get(&number);
        let is_asked = exception.is_none_or(|exception| exception.change.is_some());
        let is_new = match is_asked {
            true => self.counts.judged.insert(number),
            false => self.counts.left_out.insert(number),
        };
        if let Some(Exception { suite, reason, .. }) = exception
            && is_new
        {
            let what = if is_asked { "is asked in other words" } else { "is not asked" };
            println!("{} q{number}: DuckDB {what}: {reason}", suite.name());
            self.counts.reworded.extend(is_asked.then_some(number));
        }
        is_asked
    }
}

/// The answers that DuckDB allows. Its rows have the sort keys as their last columns, and the limit in the metadata of
/// their schema.
fn expected(batches: &[RecordBatch]) -> Result<Expected> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let keys = schema.fields().iter().filter(|field| field.name().starts_with(KEY)).count();
    let number = |name: &str| schema.metadata.get(name).map(|text| text.parse::<usize>()).transpose();
    let limit = Limit { skip: number("skip")?.unwrap_or(0), fetch: number("fetch")? };
    Ok(Expected::new(batches, keys, limit, Likeness::OtherTypes)?)
}
