//! Scans of which only one part of a file has rows that are asked for.

use std::ops::RangeInclusive;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use hwacha_tests::{rows, spread_cluster};

const ROWS: usize = 400_000;
/// A quarter of the file's first half.
const ASKED: &str = "SELECT count(*), sum(n) FROM numbers WHERE n < 50000";

#[tokio::test(flavor = "multi_thread")]
async fn both_executors_scan_what_is_asked_for() {
    // Each executor has some of many row groups, or some rows of the only one.
    spread(5_000, 20_000..=25_000).await;
    spread(ROWS, 15_000..=25_000).await;
}

/// Asks for the file's first rows, of which each executor should have `shares`.
async fn spread(row_group: usize, shares: RangeInclusive<usize>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("numbers.parquet").display().to_string();
    let plain = SessionContext::new();
    for statement in [
        "SET datafusion.execution.target_partitions = 1".to_owned(),
        format!("SET datafusion.execution.parquet.max_row_group_size = {row_group}"),
        "SET datafusion.execution.parquet.allow_single_file_parallelism = false".to_owned(),
        // The writer does not see that they are in order.
        format!("COPY (SELECT CASE WHEN value >= 0 THEN value END AS n FROM range(0, {ROWS})) TO '{file}'"),
    ] {
        plain.sql(&statement).await.expect("it plans").collect().await.expect("it runs");
    }
    let (cluster, connection) = spread_cluster(2).await;
    rows(&connection, &format!("CREATE EXTERNAL TABLE numbers STORED AS PARQUET LOCATION '{file}'"))
        .await
        .expect("the file is there");
    for (interleaved, shares) in [(true, shares), (false, 0..=0)] {
        rows(&connection, &format!("SET hwacha.optimizer.interleaved_scans = {interleaved}")).await.expect("a setting");
        let answer = rows(&connection, ASKED).await.expect("it runs");
        assert_eq!(answer[0].column(0).as_primitive::<Int64Type>().value(0), 50_000);
        assert_eq!(answer[0].column(1).as_primitive::<Int64Type>().value(0), 49_999 * 25_000);
        let analyzed = rows(&connection, &format!("EXPLAIN ANALYZE {ASKED}")).await.expect("it runs");
        let plan = analyzed[0].column(1).as_string::<i32>().value(0).to_owned();
        let scanned = plan.lines().find(|line| line.contains("FilterExec")).expect("rows are tested");
        let least = scanned.split_once("rows 50000 (").and_then(|(_, spread)| spread.split_once('/')?.0.parse().ok());
        let least: usize = least.unwrap_or_else(|| panic!("the rows of two tasks are told: {plan}"));
        assert!(shares.contains(&least), "{plan}");
    }
    cluster.shutdown().await;
}
