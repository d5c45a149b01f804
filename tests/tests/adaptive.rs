//! Tests stages that change while queries run: the change happens, EXPLAIN ANALYZE shows it, and the answers stay the
//! same.

use hwacha_client::Connection;
use hwacha_tests::{
    analyze, answers_like, plain_datafusion, rows, spread_cluster, start_cluster, tpch_data, tpch_tables,
};
use hwacha_workloads::answers::difference;

/// Names, queries, and the texts that EXPLAIN ANALYZE shows for their stages.
const CASES: [(&str, &str, &[&str]); 3] = [
    (
        "little work is shared by fewer tasks",
        "SELECT o_orderpriority, count(*) FROM orders GROUP BY o_orderpriority",
        &["1 of 2 tasks, since its inputs have"],
    ),
    (
        // The planner has no statistics for the predicate, and assumes that a third of the rows pass.
        "a build side that proves small is read whole",
        "SELECT o_orderpriority, sum(l_quantity) FROM orders JOIN lineitem ON o_orderkey = l_orderkey
         WHERE o_orderkey % 1000 < 2 GROUP BY o_orderpriority",
        &[
            "each task reads the whole build side, since stage 0 has only",
            "rows are not hashed, since each task of stage 2 reads",
        ],
    ),
    (
        "a build side without rows spares the stages above it",
        "SELECT o_orderpriority, n FROM orders
         JOIN (SELECT l_orderkey, count(*) AS n FROM lineitem GROUP BY l_orderkey) ON o_orderkey = l_orderkey
         WHERE o_orderkey % 1000 > 2000 ORDER BY n LIMIT 7",
        &["not run, since stage 0 has no rows", "not run, since nothing reads it"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn stages_adapt_to_what_there_is() {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    for setting in ["SET hwacha.optimizer.broadcast_rows = 1000", "SET hwacha.optimizer.broadcast_bytes = 20000"] {
        rows(&connection, setting).await.expect("a valid setting");
    }
    for (name, sql, told) in CASES {
        answers_like(&plain, &connection, sql).await;
        let analyzed = analyze(&connection, sql).await;
        for told in told {
            assert!(analyzed.contains(told), "{name}: {analyzed}");
        }
    }
    rows(&connection, "SET hwacha.optimizer.adaptive = false").await.expect("a valid setting");
    for (name, sql, _) in CASES {
        let analyzed = analyze(&connection, sql).await;
        let unasked = ["since its inputs have", "reads the whole build side", "since stage 0 has no rows"];
        assert!(!unasked.iter().any(|told| analyzed.contains(told)), "{name}: {analyzed}");
    }
    cluster.shutdown().await;
}

/// Joins in which most rows of one side have the same key, and whether all tasks may share the heavy partition.
const SKEWED: [(&str, bool); 6] = [
    (
        "SELECT o_orderpriority, count(*), sum(l_quantity) FROM orders JOIN
           (SELECT CASE WHEN l_linenumber < 5 THEN 7 ELSE l_orderkey END AS k, l_quantity FROM lineitem)
           ON o_orderkey = k GROUP BY o_orderpriority",
        true,
    ),
    // Some keys match no row of `orders`.
    (
        "SELECT o_orderpriority, count(*), sum(l_quantity) FROM orders RIGHT JOIN
           (SELECT CASE WHEN l_linenumber < 5 THEN 5 ELSE l_orderkey + l_linenumber END AS k, l_quantity FROM lineitem)
           ON o_orderkey = k GROUP BY o_orderpriority",
        true,
    ),
    (
        "SELECT l_shipmode, count(*) FROM
           (SELECT CASE WHEN l_linenumber < 5 THEN 7 ELSE l_orderkey END AS k, l_shipmode FROM lineitem)
           WHERE k IN (SELECT o_orderkey + 0 FROM orders WHERE o_totalprice > 1000) GROUP BY l_shipmode",
        true,
    ),
    // Not shared: every task would emit the unmatched rows of `orders`.
    (
        "SELECT o_orderpriority, count(*), sum(l_quantity) FROM orders LEFT JOIN
           (SELECT CASE WHEN l_linenumber < 5 THEN 7 ELSE l_orderkey END AS k, l_quantity FROM lineitem)
           ON o_orderkey = k GROUP BY o_orderpriority",
        false,
    ),
    // Not shared: the rows are grouped by the join key, so one task needs all rows of a key.
    (
        "SELECT o_orderkey, count(*), sum(l_quantity) FROM orders JOIN
           (SELECT CASE WHEN l_linenumber < 5 THEN 7 ELSE l_orderkey END AS k, l_quantity FROM lineitem)
           ON o_orderkey = k GROUP BY o_orderkey",
        false,
    ),
    // Not shared: the client gets rows while the join runs, and waiting for both inputs would delay the first rows.
    (
        "SELECT o_orderpriority, l_quantity FROM orders JOIN
           (SELECT CASE WHEN l_linenumber < 5 THEN 7 ELSE l_orderkey END AS k, l_quantity FROM lineitem)
           ON o_orderkey = k",
        false,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn heavy_partitions_are_shared_where_that_is_right() {
    const TOLD: &str = "adapted: all tasks share 1 large partition of the probe side, which has";
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    for setting in ["broadcast_rows = 1000", "broadcast_bytes = 20000", "split_partition_bytes = 100000"] {
        rows(&connection, &format!("SET hwacha.optimizer.{setting}")).await.expect("a valid setting");
    }
    for on in [true, false] {
        rows(&connection, &format!("SET hwacha.optimizer.split_partitions = {on}")).await.expect("a valid setting");
        for (sql, may_split) in SKEWED {
            let analyzed = analyze(&connection, sql).await;
            assert_eq!(analyzed.contains(TOLD), on && may_split, "{sql}\n{analyzed}");
            answers_like(&plain, &connection, sql).await;
        }
    }
    cluster.shutdown().await;
}

/// Queries with small inputs and many intermediate rows.
const LARGER_THAN_THEY_LOOK: [(&str, &str); 3] = [
    (
        "a join of few keys",
        "SELECT a.l_linenumber, count(*), sum(a.l_quantity - b.l_quantity) FROM lineitem a
         JOIN lineitem b ON a.l_linenumber = b.l_linenumber WHERE a.l_orderkey % 10 = 0 GROUP BY a.l_linenumber",
    ),
    (
        "a join without equalities",
        "SELECT c_nationkey, count(*) FROM customer JOIN orders ON c_custkey * 7 % 1000 < o_orderkey % 1000
         GROUP BY c_nationkey",
    ),
    (
        "rows out of nothing",
        "SELECT x % 3 AS residue, count(*) FROM generate_series(1, 12000) AS a(x)
         CROSS JOIN generate_series(1, 12000) AS b(y) WHERE x * y % 7 = 1 GROUP BY x % 3",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_outgrows_one_executor_is_planned_anew_for_all() {
    const TOLD: &str = "Planned again for all executors, since the operators of the first plan returned more than";
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    let cluster = start_cluster(2).await;
    let connection = Connection::connect(&cluster.url()).await.expect("the scheduler is there");
    tpch_tables(&connection, data.path()).await;
    for (name, sql) in LARGER_THAN_THEY_LOOK {
        let analyzed = analyze(&connection, sql).await;
        assert!(analyzed.starts_with(TOLD), "{name}: {analyzed}");
        assert!(analyzed.contains("2 tasks"), "{name}: {analyzed}");
        let expected = plain.sql(sql).await.expect("it plans").collect().await.expect("it runs");
        // In the second run, the planner knows that the query is large.
        for _ in 0..2 {
            let actual = rows(&connection, sql).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(difference(&expected, &actual).expect("comparable"), None, "{name}");
        }
    }
    // The client already has rows of this query. They cannot be taken back, so the query is not planned again.
    let streamed = "SELECT a.l_orderkey FROM lineitem a JOIN lineitem b ON a.l_linenumber = b.l_linenumber
                    WHERE a.l_orderkey < 100";
    let analyzed = analyze(&connection, streamed).await;
    assert!(!analyzed.contains(TOLD), "{analyzed}");
    rows(&connection, "SET hwacha.optimizer.replan = false").await.expect("a valid setting");
    for (name, sql) in LARGER_THAN_THEY_LOOK {
        let analyzed = analyze(&connection, sql).await;
        assert!(!analyzed.contains(TOLD), "{name}: {analyzed}");
    }
    cluster.shutdown().await;
}
