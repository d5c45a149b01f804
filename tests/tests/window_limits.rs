//! Tests limits on ranks: rows are dropped before the exchange, but only where that is correct.

use hwacha_tests::{answers_like, plain_datafusion, rows, spread_cluster, stage_graph, tpch_data, tpch_tables};

/// Queries, and the number of windows in their stages: two if ranks are also limited before the exchange.
const CASES: [(&str, usize); 7] = [
    (
        "SELECT o_orderkey, r FROM (SELECT o_orderkey, rank() OVER
           (PARTITION BY o_orderpriority ORDER BY o_totalprice DESC) AS r FROM orders) WHERE r <= 3",
        2,
    ),
    (
        "SELECT * FROM (SELECT o_orderkey, o_orderstatus, row_number() OVER
           (PARTITION BY o_orderstatus ORDER BY o_totalprice, o_orderkey) AS n FROM orders) WHERE n = 3 AND o_orderkey > 0",
        2,
    ),
    (
        "SELECT l_orderkey, l_linenumber, d FROM (SELECT *, dense_rank() OVER
           (PARTITION BY l_shipmode ORDER BY l_shipdate) AS d FROM lineitem) WHERE 3 > d",
        2,
    ),
    ("SELECT o_orderkey FROM (SELECT o_orderkey, rank() OVER (ORDER BY o_totalprice) AS r FROM orders) WHERE r < 10", 2),
    // Each group has about three rows, so the limit of two would drop too few rows before the exchange.
    (
        "SELECT o_orderkey FROM (SELECT o_orderkey, rank() OVER (PARTITION BY o_orderkey % 5000 ORDER BY o_totalprice)
           AS r FROM orders) WHERE r <= 2",
        1,
    ),
    // A sum needs all rows.
    (
        "SELECT o_orderkey, s FROM (SELECT o_orderkey, rank() OVER w AS r, sum(o_shippriority) OVER w AS s FROM orders
           WINDOW w AS (PARTITION BY o_orderpriority ORDER BY o_totalprice)) WHERE r <= 3",
        1,
    ),
    (
        "SELECT o_orderkey FROM (SELECT o_orderkey, rank() OVER (PARTITION BY o_orderpriority ORDER BY o_totalprice)
           AS r FROM orders) WHERE r > 2900",
        1,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn ranks_are_limited_before_rows_are_brought_together() {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    for on in [true, false] {
        rows(&connection, &format!("SET hwacha.optimizer.window_limits = {on}")).await.expect("a valid setting");
        for (sql, windows) in CASES {
            let stages = stage_graph(&connection, sql).await;
            let found = stages.matches("BoundedWindowAggExec:").count();
            assert_eq!(found, if on { windows } else { 1 }, "{sql}\n{stages}");
            let first = stages.split("Stage 0: ").last().expect("there is a first stage");
            assert_eq!(first.contains("BoundedWindowAggExec:"), on && windows == 2, "{sql}\n{stages}");
            answers_like(&plain, &connection, sql).await;
        }
    }
    cluster.shutdown().await;
}
