//! Tests joins whose build side does not fit into memory. Tasks read their hash partitions in several waves. If the
//! plan has no hash partitions for waves, the query is planned again.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use hwacha_client::Connection;
use hwacha_local::{LocalCluster, LocalConfig};
use hwacha_tests::{analyze, rows, stage_graph};

const ROWS: i64 = 3_000_000;
/// Memory limit of each executor. The build side has more than 20 MiB on each of two executors.
const MEMORY_BYTES: usize = 20 << 20;
/// Each row has one join partner. The rows are not sorted by the key.
const JOIN: &str = "SELECT count(*), sum(a.m), sum(a.m - b.m) FROM numbers a JOIN numbers b ON a.n = b.n";
/// All rows pass this condition, but the planner expects few.
const MISJUDGED: &str =
    "WHERE a.n % 7 >= 0 AND a.n % 5 >= 0 AND a.n % 3 >= 0 AND a.m % 2 >= 0 AND a.m % 9 >= 0 AND a.m % 8 >= 0";
const PLANNED_AGAIN: &str = "Planned again with tasks that can run in waves, since a task ran out of memory";

#[tokio::test(flavor = "multi_thread")]
async fn a_build_side_larger_than_memory_is_joined_in_waves() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("numbers.parquet").display().to_string();
    let numbers = format!("SELECT value * 7919 % 3000017 AS n, value AS m FROM range(0, {ROWS})");
    let copy = format!("COPY ({numbers}) TO '{file}'");
    SessionContext::new().sql(&copy).await.expect("it plans").collect().await.expect("it runs");
    let table = format!("CREATE EXTERNAL TABLE numbers STORED AS PARQUET LOCATION '{file}'");

    let (cluster, connection) = small_cluster(2, 1, &table).await;
    rows(&connection, "SET hwacha.optimizer.broadcast_bytes = 0").await.expect("a setting");
    assert_joined(&connection, JOIN).await;
    let analyzed = analyze(&connection, JOIN).await;
    assert!(!analyzed.contains(PLANNED_AGAIN), "{analyzed}");
    // The first plan broadcasts the build side, because the planner expects few rows. The second plan hashes it.
    rows(&connection, "RESET hwacha.optimizer.broadcast_bytes").await.expect("a setting");
    let misjudged = format!("{JOIN} {MISJUDGED}");
    let planned = stage_graph(&connection, &misjudged).await;
    assert!(planned.contains("broadcast"), "{planned}");
    let analyzed = analyze(&connection, &misjudged).await;
    assert!(analyzed.starts_with(PLANNED_AGAIN) && !analyzed.contains("broadcast"), "{analyzed}");
    assert_joined(&connection, &misjudged).await;
    // A single task has no hash partitions for waves, and the build side does not fit into its memory.
    rows(&connection, "SET hwacha.optimizer.distributed = false").await.expect("a setting");
    let error = rows(&connection, JOIN).await.expect_err("there is not enough memory").to_string();
    assert!(error.contains("memory"), "{error}");
    cluster.shutdown().await;

    let (cluster, connection) = small_cluster(1, 2, &table).await;
    let analyzed = analyze(&connection, JOIN).await;
    assert!(analyzed.starts_with(PLANNED_AGAIN), "{analyzed}");
    assert_joined(&connection, JOIN).await;
    cluster.shutdown().await;
}

async fn small_cluster(executors: usize, cores: usize, table: &str) -> (LocalCluster, Connection) {
    let config = LocalConfig { executors, cores, memory_limit_bytes: Some(MEMORY_BYTES), ..LocalConfig::default() };
    let cluster = LocalCluster::start(config).await.expect("a cluster starts");
    let connection = Connection::connect(&cluster.url()).await.expect("the scheduler is there");
    rows(&connection, table).await.expect("a table");
    (cluster, connection)
}

async fn assert_joined(connection: &Connection, sql: &str) {
    let answer = rows(connection, sql).await.expect("there are enough waves");
    let value = |column: usize| answer[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!((value(0), value(1), value(2)), (ROWS, ROWS * (ROWS - 1) / 2, 0));
}
