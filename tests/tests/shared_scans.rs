//! Aggregations of one table's rows under several conditions: they read it once, and give what each gives alone.

use arrow::array::AsArray;
use hwacha_tests::{plain_datafusion, rows, spread_cluster, tpch_data, tpch_tables};
use hwacha_workloads::answers::difference;

/// A query, how many scans it has when they are shared, and how many when they are not.
const CASES: [(&str, usize, usize); 8] = [
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
    // Nothing passes one of the tests.
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
    // Each skips what the other needs.
    (
        "SELECT (SELECT min(o_orderkey) FROM orders WHERE o_custkey > 9) AS a,
                (SELECT max(o_orderkey) FROM orders WHERE o_custkey < 9) AS b",
        2,
        2,
    ),
    // A computation may fail for rows that do not pass.
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
    // Groups are not shared.
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
            let explained = rows(&connection, &format!("EXPLAIN {sql}")).await.expect("it plans");
            let stages = explained.iter().flat_map(|batch| batch.column(1).as_string::<i32>().iter().flatten());
            let stages = stages.last().expect("the stages come last");
            let scans = stages.matches("DataSourceExec: file_groups").count();
            assert_eq!(scans, if on { shared } else { alone }, "{sql}\n{stages}");
            let actual = rows(&connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let expected = plain.sql(sql).await.expect("it plans").collect().await.expect("it runs");
            assert_eq!(difference(&expected, &actual).expect("comparable"), None, "{sql}");
        }
    }
    cluster.shutdown().await;
}
