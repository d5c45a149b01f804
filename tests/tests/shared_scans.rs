//! Tests aggregations of one table under several conditions: they share one scan, and their values stay the same.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use hwacha_tests::{answers_like, plain_datafusion, rows, spread_cluster, stage_graph, tpch_data, tpch_tables};

/// Queries, the number of scans if they are shared, and the number of scans if they are not.
const CASES: [(&str, usize, usize); 11] = [
    (
        "SELECT (SELECT count(*) FROM lineitem WHERE l_quantity < 10) AS few,
                (SELECT avg(l_extendedprice) FROM lineitem WHERE l_quantity < 10) AS price,
                (SELECT sum(l_tax) FROM lineitem WHERE l_quantity > 40 AND l_discount > 0.05) AS tax",
        1,
        3,
    ),
    (
        "SELECT * FROM (SELECT avg(l_tax) a, count(l_tax) b, count(DISTINCT l_tax) c FROM lineitem WHERE l_quantity < 3) x,
                       (SELECT avg(l_tax) a, count(l_tax) b, count(DISTINCT l_tax) c FROM lineitem WHERE l_quantity > 9) y",
        1,
        2,
    ),
    // No row passes the first condition.
    (
        "SELECT 'none', count(*), sum(o_totalprice) FROM orders WHERE o_orderkey < 0
         UNION ALL SELECT 'some', count(*), sum(o_totalprice) FROM orders WHERE o_orderpriority = '1-URGENT'
         UNION ALL SELECT 'others', count(o_comment), min(o_totalprice) FROM orders WHERE o_orderpriority <> '1-URGENT'",
        1,
        3,
    ),
    // Two tables.
    (
        "SELECT (SELECT count(o_orderkey) FROM orders WHERE o_custkey > 9) AS a, (SELECT count(*) FROM customer
           WHERE c_nationkey = 3) AS b, (SELECT avg(o_orderkey) FROM orders WHERE o_custkey < 9) AS c",
        2,
        3,
    ),
    (
        "SELECT (SELECT min(o_orderkey) FROM orders WHERE o_custkey > 9) AS a,
                (SELECT max(o_orderkey) FROM orders WHERE o_custkey < 9) AS b",
        1,
        2,
    ),
    // Not shared: the division may fail for rows that do not pass its condition.
    (
        "SELECT (SELECT sum(1000 / o_custkey) FROM orders WHERE o_custkey > 9) AS a,
                (SELECT sum(o_custkey) FROM orders WHERE o_custkey < 9) AS b",
        2,
        2,
    ),
    (
        "SELECT (SELECT count(*) FROM orders WHERE o_custkey > 9 AND random() >= 0) AS a,
                (SELECT count(*) FROM orders WHERE o_custkey < 9) AS b",
        2,
        2,
    ),
    // Not shared: the cast in one condition may fail for rows that it would not see alone.
    (
        "SELECT (SELECT count(*) FROM orders WHERE CAST(substr(o_orderpriority, 1, 1) AS INT) > 2) AS a,
                (SELECT count(*) FROM orders WHERE o_custkey <= 9) AS b",
        2,
        2,
    ),
    // Both aggregates have the same column name, because DataFusion leaves casts out of names.
    (
        "SELECT (SELECT sum(o_shippriority) FROM orders WHERE o_custkey < 9) AS a,
                (SELECT sum(CAST(o_shippriority AS DOUBLE)) FROM orders WHERE o_custkey < 9) AS b",
        1,
        2,
    ),
    // Two table functions with the same name but different rows.
    (
        "SELECT (SELECT count(*) FROM generate_series(1, 100) WHERE value > 50) AS a,
                (SELECT sum(value) FROM generate_series(1, 10) WHERE value > 5) AS b",
        0,
        0,
    ),
    // Aggregations with GROUP BY are not shared.
    (
        "SELECT o_orderstatus, count(*) FROM orders WHERE o_custkey > 9 GROUP BY o_orderstatus
         UNION ALL SELECT o_orderstatus, count(*) FROM orders WHERE o_custkey < 9 GROUP BY o_orderstatus",
        2,
        2,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_once_for_several_conditions() {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    for on in [true, false] {
        rows(&connection, &format!("SET hwacha.optimizer.shared_scans = {on}")).await.expect("a valid setting");
        for (sql, shared, alone) in CASES {
            let stages = stage_graph(&connection, sql).await;
            let scans = stages.matches("DataSourceExec: layout").count();
            assert_eq!(scans, if on { shared } else { alone }, "{sql}\n{stages}");
            answers_like(&plain, &connection, sql).await;
        }
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_paths_are_tested_with_others() {
    let (cluster, connection) = spread_cluster(2).await;
    let plain = SessionContext::new();
    let directory = tempfile::tempdir().expect("a directory");
    for (part, range) in [("a", "generate_series(1, 100)"), ("b", "generate_series(51, 200)")] {
        let path = directory.path().join(format!("p={part}"));
        std::fs::create_dir(&path).expect("a directory");
        let copied = format!(
            "COPY (SELECT value AS x, value % 10 AS y, value % 3 AS __test_0 FROM {range}) TO '{}/1.parquet'",
            path.display()
        );
        plain.sql(&copied).await.expect("it plans").collect().await.expect("it is written");
    }
    let table = format!(
        "CREATE EXTERNAL TABLE parts (x BIGINT, y BIGINT, __test_0 BIGINT, p VARCHAR) STORED AS PARQUET PARTITIONED BY (p)
         LOCATION '{}/'",
        directory.path().display()
    );
    rows(&connection, &table).await.expect("a table");
    let sql = "SELECT (SELECT sum(x) FROM parts WHERE p = 'a' AND y > 5) AS a,
                      (SELECT count(*) FROM parts WHERE y < 5) AS b,
                      (SELECT sum(__test_0) FROM parts WHERE p = 'b') AS c";
    let given = rows(&connection, sql).await.expect("it runs");
    let value = |column: usize| given[0].column(column).as_primitive::<Int64Type>().value(0);
    let one = (1..=100).filter(|x| x % 10 > 5).sum::<i64>();
    let other = (51..=200).map(|x| x % 3).sum::<i64>();
    assert_eq!((value(0), value(1), value(2)), (one, 125, other));
    cluster.shutdown().await;
}
