//! Tests scans of files in which only some row groups have rows that the query selects.

use std::ops::RangeInclusive;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use hwacha_client::Connection;
use hwacha_local::LocalCluster;
use hwacha_tests::{analyze, rows, spread_cluster};
use tempfile::TempDir;

const ROWS: usize = 400_000;
/// Selects 50,000 of the 400,000 rows, all in the first half of the file.
const ASKED: &str = "SELECT count(*), sum(n) FROM numbers WHERE n < 50000";

#[tokio::test(flavor = "multi_thread")]
async fn both_executors_scan_what_is_asked_for() {
    // Each executor scans some of many row groups, or a part of the only row group.
    spread(5_000, 20_000..=25_000).await;
    spread(ROWS, 15_000..=25_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topk_skips_row_groups_where_some_are_shared() {
    let (_directory, cluster, connection) = numbers(44_000).await;
    let query = "SELECT n FROM numbers ORDER BY n LIMIT 10";
    let answer = rows(&connection, query).await.expect("it runs");
    let values = answer.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    assert_eq!(values.collect::<Vec<_>>(), Vec::from_iter(0..10));
    let plan = analyze(&connection, query).await;
    let scanned = plan.lines().find(|line| line.contains("DataSourceExec"));
    let scanned = scanned.unwrap_or_else(|| panic!("rows are scanned: {plan}"));
    let scanned = scanned.split_once("[rows ").and_then(|(_, rows)| rows.split_once([' ', ','])?.0.parse().ok());
    let scanned: usize = scanned.unwrap_or_else(|| panic!("the rows that are scanned are told: {plan}"));
    // After one row group, each executor knows that its other row groups have none of the first rows. A shared row
    // group may already be open by then.
    assert!(scanned <= 3 * 44_000, "{plan}");
    cluster.shutdown().await;
}

/// Starts two executors with a table `numbers`. Its column `n` is sorted, and each row group has `row_group` rows.
async fn numbers(row_group: usize) -> (TempDir, LocalCluster, Connection) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("numbers.parquet").display().to_string();
    let plain = SessionContext::new();
    for statement in [
        "SET datafusion.execution.target_partitions = 1".to_owned(),
        format!("SET datafusion.execution.parquet.max_row_group_size = {row_group}"),
        "SET datafusion.execution.parquet.allow_single_file_parallelism = false".to_owned(),
        // The CASE hides from DataFusion that the rows are in order.
        format!("COPY (SELECT CASE WHEN value >= 0 THEN value END AS n FROM range(0, {ROWS})) TO '{file}'"),
    ] {
        plain.sql(&statement).await.expect("it plans").collect().await.expect("it runs");
    }
    let (cluster, connection) = spread_cluster(2).await;
    rows(&connection, &format!("CREATE EXTERNAL TABLE numbers STORED AS PARQUET LOCATION '{file}'"))
        .await
        .expect("the file is there");
    (directory, cluster, connection)
}

/// Selects the first rows of the file. Checks that the executor with the smaller part scans a number of them in
/// `shares`, and none of them without interleaved scans.
async fn spread(row_group: usize, shares: RangeInclusive<usize>) {
    let (_directory, cluster, connection) = numbers(row_group).await;
    for (interleaved, shares) in [(true, shares), (false, 0..=0)] {
        rows(&connection, &format!("SET hwacha.optimizer.interleaved_scans = {interleaved}")).await.expect("a setting");
        let answer = rows(&connection, ASKED).await.expect("it runs");
        assert_eq!(answer[0].column(0).as_primitive::<Int64Type>().value(0), 50_000);
        assert_eq!(answer[0].column(1).as_primitive::<Int64Type>().value(0), 49_999 * 25_000);
        let plan = analyze(&connection, ASKED).await;
        let scanned = plan.lines().find(|line| line.contains("FilterExec")).expect("rows are tested");
        let least = scanned.split_once("rows 50000 (").and_then(|(_, spread)| spread.split_once('/')?.0.parse().ok());
        let least: usize = least.unwrap_or_else(|| panic!("the rows of two tasks are told: {plan}"));
        assert!(shares.contains(&least), "{plan}");
    }
    cluster.shutdown().await;
}
