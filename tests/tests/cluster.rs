//! Tests queries on clusters in this process, with plain DataFusion as the judge.

mod adaptive;
mod eager_aggregates;
mod explain;
mod interleaved_scans;
mod join_filters;
mod key_ranges;
mod ranges;
mod shared_scans;
mod slt;
mod waves;
mod window_limits;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch};
use datafusion::prelude::SessionContext;
use hwacha_client::Connection;
use hwacha_tests::{plain_datafusion, rows, spread_cluster, start_cluster, tpch_data, tpch_tables};
use hwacha_workloads::answers::difference;
use hwacha_workloads::tpch;

/// Runs the 22 queries on a cluster. Checks that the rows equal plain DataFusion's, and how many queries have several
/// stages.
async fn tpch_equals_plain_datafusion(executors: usize) {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(executors).await;
    tpch_tables(&connection, data.path()).await;
    let mut spread = 0;
    for (index, sql) in tpch::QUERIES.iter().enumerate() {
        let name = format!("q{} on {executors} executors", index + 1);
        let query = connection.query(sql).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let id = query.id().expect("a query runs on executors").to_owned();
        let actual = query.collect().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = plain.sql(sql).await.expect("it plans").collect().await.expect("it runs");
        let difference = difference(&expected, &actual).expect("comparable");
        assert_eq!(difference, None, "{name}");
        let progress = connection.progress(&id).await.expect("the query is remembered");
        spread += usize::from(progress.stages > 1);
    }
    // On one executor, only q11 and q15 have several stages, because their equal subplans run once.
    assert_eq!(spread, if executors == 1 { 2 } else { 22 }, "queries of several stages on {executors} executors");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_on_one_executor() {
    tpch_equals_plain_datafusion(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_on_two_executors() {
    tpch_equals_plain_datafusion(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_on_four_executors() {
    tpch_equals_plain_datafusion(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_division_by_zero_fails_once_with_its_own_message() {
    let (cluster, connection) = spread_cluster(2).await;
    let error =
        rows(&connection, "SELECT 1 / (v - 1) FROM (VALUES (1), (2)) t(v)").await.expect_err("it divides by zero");
    assert_eq!((error.kind, error.message.as_str()), (hwacha_client::ErrorKind::Invalid, "Divide by zero error"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_named_with_the_nearest() {
    let (cluster, connection) = spread_cluster(1).await;
    rows(&connection, "CREATE VIEW orders AS SELECT 1 AS a").await.expect("a view");
    let error = rows(&connection, "SELECT * FROM order_s").await.expect_err("there is no such table");
    assert_eq!(error.message, "table \"order_s\" does not exist; did you mean \"orders\"?");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_a_wrong_type_is_named_with_those_that_there_are() {
    let (cluster, connection) = spread_cluster(1).await;
    for sql in ["SELECT sum('a')", "SELECT sum(a) OVER (ORDER BY a) FROM (VALUES ('x')) t(a)"] {
        let error = rows(&connection, sql).await.expect_err("there is no sum of text");
        assert_eq!(error.kind, hwacha_client::ErrorKind::Invalid);
        let named = error.message.starts_with("No function matches the given name and argument types 'sum(Utf8");
        assert!(named && error.message.contains("sum(Decimal)"), "{error}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_chains_run_or_are_refused() {
    let (cluster, connection) = spread_cluster(1).await;
    for operator in [" + ", " OR ", " AND "] {
        let value = if operator == " + " { "v" } else { "v > 0" };
        let chain =
            |length: usize| format!("SELECT {} FROM (VALUES (1), (2)) t(v)", vec![value; length].join(operator));
        rows(&connection, &chain(300)).await.expect("it is not too deep");
        let error = rows(&connection, &chain(10_000)).await.expect_err("it is too deep");
        assert!(error.message.contains("operators deep"), "{error}");
    }
    cluster.shutdown().await;
}

/// The first value of an answer, as text.
async fn value(connection: &Connection, sql: &str) -> String {
    let batches = rows(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    arrow::util::display::array_value_to_string(batches[0].column(0), 0).expect("it can be shown")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_query_sees_what_has_changed() {
    let data = tpch_data();
    let files = tempfile::tempdir().expect("a temporary directory");
    let add = |name: &str| {
        std::fs::copy(tpch::path(data.path(), "region"), files.path().join(name)).expect("it can be copied");
    };
    add("a.parquet");
    let (cluster, connection) = spread_cluster(2).await;
    let table = format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}/'", files.path().display());
    rows(&connection, &table).await.expect("a table");

    let count = "SELECT count(*) FROM t";
    assert_eq!([value(&connection, count).await, value(&connection, count).await], ["5", "5"]);
    add("b.parquet");
    assert_eq!([value(&connection, count).await, value(&connection, count).await], ["10", "10"]);
    std::fs::remove_file(files.path().join("a.parquet")).expect("it can be removed");
    assert_eq!(value(&connection, count).await, "5");

    for rate in ["1", "2"] {
        rows(&connection, &format!("CREATE OR REPLACE VIEW v AS SELECT {rate} AS a FROM t")).await.expect("a view");
        assert_eq!(value(&connection, "SELECT max(a) FROM v").await, rate);
    }
    let now = "SELECT now()";
    assert_ne!(value(&connection, now).await, value(&connection, now).await);
    for zeros in ["false", "true"] {
        rows(&connection, &format!("SET datafusion.sql_parser.parse_float_as_decimal = {zeros}"))
            .await
            .expect("a setting");
        let expected = if zeros == "true" { "Decimal128(2, 1)" } else { "Float64" };
        assert_eq!(value(&connection, "SELECT arrow_typeof(1.5)").await, expected);
    }
    files.close().expect("it can be removed");
    let error = rows(&connection, count).await.expect_err("there are no files any more");
    assert!(error.to_string().contains("of table t no longer exists"), "{error}");
    assert_eq!(error.kind, hwacha_client::ErrorKind::Invalid);
    rows(&connection, "DROP TABLE t").await.expect("it is dropped");
    let error = rows(&connection, count).await.expect_err("there is no table any more");
    assert_eq!(error.kind, hwacha_client::ErrorKind::Invalid);
    cluster.shutdown().await;
}

/// Writes a file with three numbers. All files of this function have the same size and modification time.
async fn write_numbers(path: &Path, [one, two, three]: [i64; 3]) {
    let numbers = format!("SELECT * FROM (VALUES ({one}), ({two}), ({three})) AS t(v)");
    let copy = format!("COPY ({numbers}) TO '{}' OPTIONS ('format.compression' 'uncompressed')", path.display());
    SessionContext::new().sql(&copy).await.expect("it plans").collect().await.expect("it is written");
    let file = File::options().write(true).open(path).expect("it is there");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("its time can be set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_place_of_another_of_its_size_and_time_is_another() {
    let (cluster, connection) = spread_cluster(1).await;
    for (table, location) in [("one", "a.parquet"), ("all", "")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [old, new] = ["a.parquet", "b.parquet"].map(|name| directory.path().join(name));
        write_numbers(&old, [10, 20, 30]).await;
        let location = directory.path().join(location);
        let create = format!("CREATE EXTERNAL TABLE {table}_file STORED AS PARQUET LOCATION '{}'", location.display());
        rows(&connection, &create).await.expect("a table");
        let most = format!("SELECT max(v) FROM {table}_file");
        let some = |condition: &str| format!("SELECT count(*) FROM {table}_file WHERE v {condition}");
        // After this query, the footer of the old file is cached.
        assert_eq!([value(&connection, &most).await, value(&connection, &some("< 25")).await], ["30", "2"]);

        write_numbers(&new, [40, 50, 60]).await;
        let size = |path: &Path| path.metadata().expect("it is there").len();
        assert_eq!(size(&old), size(&new));
        std::fs::rename(&new, &old).expect("it takes the other's place");
        assert_eq!([value(&connection, &most).await, value(&connection, &some("> 35")).await], ["60", "3"]);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_reads_stops_no_other_on_its_connection() {
    let cluster = start_cluster(2).await;
    let connection = Connection::connect(&cluster.url()).await.expect("the scheduler is there");
    let mut unread = connection.query("SELECT value, -value FROM range(0, 100000000)").await.expect("it runs");
    unread.next().await.expect("it has rows").expect("it runs");
    let read = rows(&connection, "SELECT value, -value FROM range(0, 2000000)");
    let read = tokio::time::timeout(Duration::from_secs(60), read).await.expect("it gets its turn").expect("it runs");
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 2_000_000);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyzed_table_tells_the_planner_what_its_files_do_not() {
    let (cluster, connection) = spread_cluster(2).await;
    let files = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(files.path().join("a.csv"), "k,v\n1,x\n2,x\n3,y\n1,z\n").expect("it can be written");
    let table = format!(
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}/' OPTIONS ('format.has_header' 'true')",
        files.path().display()
    );
    rows(&connection, &table).await.expect("a table");
    rows(&connection, "SET datafusion.explain.show_statistics = true").await.expect("a setting");
    let plan = async || {
        let batches = rows(&connection, "EXPLAIN SELECT k, v FROM t").await.expect("it is explained");
        let texts = batches.iter().flat_map(|batch| batch.column(1).as_string::<i32>().iter().flatten());
        texts.collect::<Vec<_>>().join("\n")
    };
    let before = plan().await;
    assert!(!before.contains("Distinct="), "{before}");
    rows(&connection, "ANALYZE TABLE t").await.expect("it is analyzed");
    let after = plan().await;
    assert!(after.contains("Rows=Inexact(4)") && after.contains("Distinct=Inexact(3)"), "{after}");
    assert_eq!(value(&connection, "SELECT count(DISTINCT k) FROM t").await, "3");
    cluster.shutdown().await;
}
