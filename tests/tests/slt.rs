//! Runs the `.slt` files of `tests/slt`, and compares the statements of `tests/slt/oracle` with plain DataFusion.

use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use hwacha_client::{Connection, Error};
use hwacha_local::LocalCluster;
use hwacha_tests::{plain_datafusion, rows, spread, start_cluster, tpch_data, tpch_tables};
use hwacha_workloads::answers::difference;
use sqllogictest::{AsyncDB, ColumnType, DBOutput, Runner, default_validator, strict_column_validator};

/// A letter for the type of a column: see `tests/slt/README.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Letter(char);

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        "BDIPRT?".contains(value).then_some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

fn letter(data_type: &DataType) -> Letter {
    use DataType::{Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary};
    use DataType::{LargeUtf8, Time32, Time64, Timestamp, Utf8, Utf8View};
    Letter(match data_type {
        Dictionary(_, values) => return letter(values),
        Boolean => 'B',
        Date32 | Date64 | Time32(_) | Time64(_) => 'D',
        Timestamp(..) => 'P',
        Utf8 | LargeUtf8 | Utf8View => 'T',
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => 'R',
        other if other.is_integer() => 'I',
        other if other.is_floating() => 'R',
        _ => '?',
    })
}

struct Session(Connection);

#[async_trait]
impl AsyncDB for Session {
    type Error = Failed;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, Failed> {
        let query = self.0.query(sql).await?;
        let types: Vec<_> = query.schema().fields().iter().map(|field| letter(field.data_type())).collect();
        let batches = query.collect().await?;
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(batches.iter().map(|batch| batch.num_rows() as u64).sum()));
        }
        let mut rows = vec![];
        for batch in &batches {
            rows.extend(texts(batch)?);
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Query(#[from] Error),
    #[error(transparent)]
    Format(#[from] ArrowError),
}

fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let text = |formatter: &ArrayFormatter<'_>, row| match formatter.value(row).try_to_string()? {
        text if text.is_empty() => Ok("(empty)".to_owned()),
        text => Ok(text.replace('\n', "\\n")),
    };
    (0..batch.num_rows()).map(|row| formatters.iter().map(|formatter| text(formatter, row)).collect()).collect()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("slt")
}

/// The files of a folder with this extension, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

/// Runs all files on one cluster, each in its own session. All failures are reported together at the end.
async fn slt(executors: usize) {
    let cluster = start_cluster(executors).await;
    let mut failures = vec![];
    let files = files(&corpus(), "slt");
    for file in &files {
        let mut runner = Runner::new(|| async { Ok(Session(eager(&cluster).await)) });
        runner.set_var("SLT_DATA".into(), corpus().join("data").display().to_string());
        runner.with_validator(default_validator);
        runner.with_column_validator(strict_column_validator);
        if let Err(error) = runner.run_file_async(file).await {
            failures.push(error.display(false).to_string());
        }
    }
    assert!(!files.is_empty());
    assert!(failures.is_empty(), "on {executors} executors:\n{}", failures.join("\n"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slt_on_one_executor() {
    slt(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slt_on_two_executors() {
    slt(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slt_on_four_executors() {
    slt(4).await;
}

/// The statements of a file, each ended by `;` at the end of a line.
fn statements(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("the file is there");
    text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// A session that runs even small queries on all executors, and applies all techniques to small data.
async fn eager(cluster: &LocalCluster) -> Connection {
    let connection = spread(cluster).await;
    for setting in ["range_bytes = 1", "split_partition_bytes = 1000", "eager_aggregate_rows = 0"] {
        rows(&connection, &format!("SET hwacha.optimizer.{setting}")).await.expect("a valid setting");
    }
    connection
}

/// Settings and the values to try: each technique off, and no broadcasts. They include `replan` and `compression`,
/// which have no effect in these sessions within one process.
async fn variants(connection: &Connection) -> Vec<(String, String)> {
    let techniques = "SELECT name FROM information_schema.df_settings
        WHERE name LIKE 'hwacha.%' AND value = 'true' AND name <> 'hwacha.optimizer.distributed' ORDER BY name";
    let found = rows(connection, techniques).await.expect("a valid query");
    let names = found.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten());
    let mut variants: Vec<_> = names.map(|name| (name.to_owned(), "false".to_owned())).collect();
    assert!(!variants.is_empty());
    variants.push(("hwacha.optimizer.broadcast_rows".to_owned(), "0".to_owned()));
    variants
}

/// Compares the answers of all statements on a cluster with plain DataFusion's.
async fn oracle(executors: usize) {
    let data = tpch_data();
    let folder = corpus().join("oracle");
    let setup = folder.join("setup.sql");
    let plain = plain_datafusion(data.path()).await;
    let cluster = start_cluster(executors).await;
    let connection = eager(&cluster).await;
    tpch_tables(&connection, data.path()).await;
    for statement in statements(&setup) {
        rows(&connection, &statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        plain.sql(&statement).await.expect("it plans").collect().await.expect("it runs");
    }
    let variants = variants(&connection).await;
    let mut failures = vec![];
    for file in files(&folder, "sql").into_iter().filter(|file| *file != setup) {
        for (index, statement) in statements(&file).into_iter().enumerate() {
            let expected = plain.sql(&statement).await.expect("it plans").collect().await.expect("it runs");
            // Each statement runs with default settings and with one setting changed. The changed setting differs
            // between the numbers of executors.
            let (key, value) = &variants[(index + executors) % variants.len()];
            for setting in [format!("RESET {key}"), format!("SET {key} = {value}")] {
                rows(&connection, &setting).await.expect("a valid setting");
                let judged = rows(&connection, &statement).await.map(|actual| difference(&expected, &actual));
                let what = match judged {
                    Ok(difference) => difference.expect("comparable"),
                    Err(error) => Some(error.to_string()),
                };
                failures.extend(what.map(|what| format!("{setting}; {statement}\n  {what}")));
            }
            rows(&connection, &format!("RESET {key}")).await.expect("a valid setting");
        }
    }
    assert!(failures.is_empty(), "on {executors} executors:\n{}", failures.join("\n"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_equal_plain_datafusion_on_one_executor() {
    oracle(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_equal_plain_datafusion_on_two_executors() {
    oracle(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_equal_plain_datafusion_on_four_executors() {
    oracle(4).await;
}
