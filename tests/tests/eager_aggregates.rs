//! Tests aggregations below joins: rows are aggregated before they are joined, but only where that is correct.

use hwacha_tests::{answers_like, plain_datafusion, rows, spread_cluster, stage_graph, tpch_data, tpch_tables};

/// Queries whose rows are aggregated before they are joined.
const EAGER: [&str; 9] = [
    "SELECT c_name, sum(o_totalprice), avg(o_totalprice), min(o_orderdate), max(o_comment), count(*), stddev(o_orderkey)
     FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY c_name",
    // The join condition uses a column of `orders` beside the key.
    "SELECT c_name, c_address, c_phone, c_mktsegment, c_comment, count(*) FROM orders
       JOIN customer ON o_custkey = c_custkey AND c_acctbal > o_shippriority
     GROUP BY c_name, c_address, c_phone, c_mktsegment, c_comment",
    // Each row has several join partners.
    "SELECT s_name, sum(l_quantity), count(l_comment) FROM lineitem JOIN partsupp ON l_suppkey = ps_suppkey
       JOIN supplier ON ps_suppkey = s_suppkey GROUP BY s_name",
    "SELECT c_name, c_mktsegment, sum(o_totalprice), grouping(c_name) FROM orders JOIN customer ON o_custkey = c_custkey
     GROUP BY ROLLUP (c_mktsegment, c_name)",
    "SELECT c_name, sum(o_totalprice) FILTER (WHERE o_orderstatus = 'F'), count(*) FILTER (WHERE o_shippriority > 0)
     FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY c_name",
    "SELECT DISTINCT c_name, o_shippriority FROM orders JOIN customer ON o_custkey = c_custkey",
    "SELECT c_name, sum((o_totalprice - o_shippriority) / 4), sum(CASE WHEN o_shippriority = 0 THEN 1 ELSE 2 END)
     FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY c_name",
    "SELECT p_name, p_brand, sum(l_extendedprice * (1 - l_discount)) FROM lineitem JOIN part ON l_partkey = p_partkey
     WHERE p_partkey IN (SELECT ps_partkey FROM partsupp WHERE ps_availqty > 5000) GROUP BY p_name, p_brand",
    "SELECT avg(o_totalprice), count(*) FROM orders JOIN customer ON o_custkey = c_custkey
     GROUP BY c_name HAVING count(*) > 15",
];

/// Queries whose rows are not aggregated before they are joined.
const LATE: [&str; 8] = [
    // The argument of the sum uses columns of both sides.
    "SELECT c_name, sum(o_totalprice + c_acctbal) FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY c_name",
    // A division could fail for rows without a join partner.
    "SELECT c_name, sum(o_orderkey / (o_custkey - 1)) FROM orders JOIN customer ON o_custkey = c_custkey
     WHERE c_custkey > 1 GROUP BY c_name",
    "SELECT c_name, sum(CAST(substr(o_orderpriority, 1, 1) AS INT)) FROM orders JOIN customer ON o_custkey = c_custkey
     GROUP BY c_name",
    "SELECT c_name, count(DISTINCT o_orderstatus), count(DISTINCT o_clerk) FROM orders JOIN customer ON o_custkey = c_custkey
     GROUP BY c_name",
    "SELECT c_name, array_agg(o_orderkey ORDER BY o_orderkey) FROM orders JOIN customer ON o_custkey = c_custkey
     GROUP BY c_name",
    // The left join also emits customers without orders.
    "SELECT c_name, count(o_orderkey) FROM customer LEFT JOIN orders ON o_custkey = c_custkey GROUP BY c_name",
    // Each row would be a group of its own.
    "SELECT o_clerk, sum(l_quantity) FROM lineitem JOIN orders ON l_orderkey = o_orderkey GROUP BY o_clerk, l_linenumber",
    "SELECT c_name, sum(random()) > 0 FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY c_name",
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_aggregated_before_they_are_joined() {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    rows(&connection, "SET hwacha.optimizer.eager_aggregate_rows = 0").await.expect("a valid setting");
    for on in [true, false] {
        rows(&connection, &format!("SET hwacha.optimizer.eager_aggregates = {on}")).await.expect("a valid setting");
        for (sql, eager) in EAGER.map(|sql| (sql, true)).into_iter().chain(LATE.map(|sql| (sql, false))) {
            let stages = stage_graph(&connection, sql).await;
            let partial = stages.matches("mode=Partial, ").count();
            assert_eq!(partial, if on && eager { 2 } else { 1 }, "{sql}\n{stages}");
            answers_like(&plain, &connection, sql).await;
        }
    }
    cluster.shutdown().await;
}

/// Queries with answers that were wrong once, or that are easy to get wrong.
const DELICATE: [&str; 9] = [
    // Several columns have the same name.
    "SELECT count(*), sum(n), count(DISTINCT o_custkey) FROM
       (SELECT a.o_custkey, c_name, count(*) n FROM orders a JOIN orders b ON a.o_orderkey = b.o_custkey
          JOIN customer ON c_custkey = b.o_custkey WHERE c_acctbal < 2000 GROUP BY a.o_custkey, c_name)",
    // Without GROUP BY, the state of the aggregate has another form.
    "SELECT corr(o_orderkey, o_totalprice) FROM orders JOIN customer ON o_custkey = c_custkey",
    "SELECT stddev(o_orderkey), var_pop(o_totalprice), covar_samp(o_orderkey, o_totalprice), bit_xor(o_orderkey),
            bool_and(o_orderkey > 0), regr_slope(o_orderkey, o_totalprice), avg(o_totalprice), count(*)
     FROM orders JOIN customer ON o_custkey = c_custkey",
    // A grand total over no rows.
    "SELECT c_name, min(o_orderkey), max(o_orderkey), sum(o_totalprice), avg(o_totalprice), bit_and(o_orderkey),
            bool_and(o_orderkey > 0), count(*), var_pop(o_orderkey)
     FROM orders JOIN customer ON o_custkey = c_custkey WHERE c_name = 'none' GROUP BY ROLLUP (c_name)",
    "SELECT c_mktsegment, sum(o_totalprice) FILTER (WHERE o_orderstatus = 'none'), count(*)
     FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY CUBE (c_mktsegment)",
    "SELECT c_mktsegment, o_orderstatus, sum(o_shippriority), avg(o_totalprice)
     FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY GROUPING SETS ((c_mktsegment), (o_orderstatus), ())",
    // `random()` has another value for each row, so rows with equal columns may be in different groups.
    "SELECT count(*) FILTER (WHERE n > 500) > 0 FROM (SELECT count(*) n FROM orders JOIN customer ON o_custkey = c_custkey
       GROUP BY c_mktsegment, floor(random() * 5000))",
    "SELECT count(*), sum(o_totalprice) FROM orders JOIN customer ON o_custkey = c_custkey WHERE c_name = 'none'",
    "SELECT count(*) FROM (SELECT DISTINCT c_name, o_shippriority FROM orders JOIN customer ON o_custkey = c_custkey LIMIT 5)",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delicate_is_right() {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    rows(&connection, "SET hwacha.optimizer.eager_aggregate_rows = 0").await.expect("a valid setting");
    for on in [true, false] {
        rows(&connection, &format!("SET hwacha.optimizer.eager_aggregates = {on}")).await.expect("a valid setting");
        for sql in DELICATE {
            answers_like(&plain, &connection, sql).await;
        }
    }
    cluster.shutdown().await;
}
