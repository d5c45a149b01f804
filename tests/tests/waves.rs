//! Joins whose build side does not fit into memory: tasks work through their partitions in waves.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use hwacha_client::Connection;
use hwacha_local::{LocalCluster, LocalConfig};
use hwacha_tests::rows;

const ROWS: i64 = 3_000_000;
/// The build side has more than 20 MiB on each of two executors.
const MEMORY_BYTES: usize = 20 << 20;
/// Every row has one partner. Keys lie in no order.
const JOIN: &str = "SELECT count(*), sum(a.m), sum(a.m - b.m) FROM numbers a JOIN numbers b ON a.n = b.n";

#[tokio::test(flavor = "multi_thread")]
async fn a_build_side_larger_than_memory_is_joined_in_waves() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("numbers.parquet").display().to_string();
    let numbers = format!("SELECT value * 7919 % 3000017 AS n, value AS m FROM range(0, {ROWS})");
    let copy = format!("COPY ({numbers}) TO '{file}'");
    SessionContext::new().sql(&copy).await.expect("it plans").collect().await.expect("it runs");
    let config =
        LocalConfig { executors: 2, cores: 1, memory_limit_bytes: Some(MEMORY_BYTES), ..LocalConfig::default() };
    let cluster = LocalCluster::start(config).await.expect("a cluster starts");
    let connection = Connection::connect(&cluster.url()).await.expect("the scheduler is there");
    for statement in [
        "SET hwacha.optimizer.broadcast_bytes = 0",
        &format!("CREATE EXTERNAL TABLE numbers STORED AS PARQUET LOCATION '{file}'"),
    ] {
        rows(&connection, statement).await.expect("it is carried out");
    }
    let answer = rows(&connection, JOIN).await.expect("there are enough waves");
    let value = |column: usize| answer[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!((value(0), value(1), value(2)), (ROWS, ROWS * (ROWS - 1) / 2, 0));
    // With one task there is nothing to work through in waves, and no room for all.
    rows(&connection, "SET hwacha.optimizer.distributed = false").await.expect("a setting");
    let error = rows(&connection, JOIN).await.expect_err("there is not enough memory").to_string();
    assert!(error.contains("memory"), "{error}");
    cluster.shutdown().await;
}
