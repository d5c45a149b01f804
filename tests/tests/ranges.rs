//! Tests sorts and rankings of all rows that tasks share by key ranges: the rows and their order stay the same.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hwacha_tests::{plain_datafusion, rows, spread, stage_graph, start_cluster, tpch_data, tpch_tables};
use hwacha_workloads::answers::difference;

/// Queries whose answers have only one correct order, and the number of range exchanges in their plans.
const ORDERED: [(&str, usize); 18] = [
    ("SELECT l_orderkey, l_linenumber, l_comment FROM lineitem ORDER BY l_orderkey DESC, l_linenumber", 1),
    ("SELECT l_comment FROM lineitem WHERE l_quantity > 10 ORDER BY l_orderkey, l_linenumber", 1),
    ("SELECT l_shipmode FROM lineitem ORDER BY l_shipmode", 1),
    ("SELECT l_extendedprice FROM lineitem WHERE l_quantity > 1 ORDER BY l_extendedprice DESC", 1),
    (
        "SELECT n FROM (SELECT CASE WHEN l_linenumber > 2 THEN l_partkey END AS n FROM lineitem) ORDER BY n NULLS FIRST",
        1,
    ),
    ("SELECT l_orderkey FROM lineitem WHERE l_orderkey % 10 > 10 ORDER BY l_orderkey", 1),
    ("SELECT o_custkey, count(*) AS n FROM orders GROUP BY o_custkey ORDER BY n, o_custkey DESC", 1),
    (
        "SELECT o_orderkey FROM orders WHERE o_totalprice > (SELECT avg(o_totalprice) FROM orders) ORDER BY o_orderkey",
        1,
    ),
    ("SELECT o_orderkey, row_number() OVER (ORDER BY o_orderkey DESC) FROM orders ORDER BY o_orderkey DESC", 1),
    ("SELECT row_number() OVER (ORDER BY o_custkey, o_orderkey) AS n FROM orders ORDER BY n", 1),
    ("SELECT n FROM (SELECT o_orderkey, rank() OVER (ORDER BY o_custkey) AS n FROM orders) ORDER BY n", 1),
    (
        "SELECT o_orderkey, count(*) OVER (ORDER BY o_orderkey), sum(o_totalprice) OVER (ORDER BY o_orderkey),
           min(o_clerk) OVER (ORDER BY o_orderkey), row_number() OVER (ORDER BY o_orderkey),
           avg(o_totalprice) OVER (ORDER BY o_orderkey ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
         FROM orders ORDER BY o_orderkey",
        1,
    ),
    ("SELECT o_orderkey, row_number() OVER (ORDER BY o_custkey) > 0 FROM orders ORDER BY o_custkey, o_orderkey", 2),
    ("SELECT o_orderkey, rank() OVER (ORDER BY o_custkey) FROM orders ORDER BY o_custkey, o_orderkey", 2),
    // The sort key reads a scalar subquery, which ranges do not support.
    ("SELECT o_orderkey FROM orders ORDER BY o_orderkey * (SELECT max(r_regionkey) FROM region)", 0),
    // With a LIMIT, one task chooses the first rows.
    ("SELECT l_orderkey, l_linenumber FROM lineitem ORDER BY l_orderkey DESC, l_linenumber LIMIT 7 OFFSET 3", 0),
    // `region` has only 5 rows, so there is nothing to share.
    ("SELECT r_name FROM region ORDER BY r_name", 0),
    ("SELECT l_orderkey FROM lineitem ORDER BY [l_orderkey % 100], l_orderkey", 1),
];

/// Queries whose rows may come in any order, and the number of range exchanges in their plans.
const UNORDERED: [(&str, usize); 19] = [
    ("SELECT o_orderkey, rank() OVER (ORDER BY o_orderdate), row_number() OVER (ORDER BY o_orderkey) FROM orders", 2),
    (
        "SELECT o_orderkey, n FROM (SELECT *, row_number() OVER (ORDER BY o_orderkey) AS n FROM orders) WHERE n % 100 = 7",
        1,
    ),
    (
        "SELECT n % 10, count(*), min(o_orderkey) FROM
           (SELECT *, rank() OVER (ORDER BY o_orderdate DESC) AS n FROM orders) GROUP BY n % 10",
        1,
    ),
    ("SELECT max(n) FROM (SELECT rank() OVER (ORDER BY l_shipdate NULLS FIRST) AS n FROM lineitem)", 1),
    (
        "SELECT a.o_orderkey, b.n FROM orders a JOIN (SELECT o_orderkey, row_number() OVER (ORDER BY o_orderkey) AS n
           FROM orders) b ON a.o_orderkey = b.n",
        1,
    ),
    (
        "SELECT sum(o_orderkey) FROM (SELECT o_orderkey FROM (SELECT o_orderkey, row_number() OVER (ORDER BY o_orderkey) AS n
           FROM orders) ORDER BY n DESC LIMIT 50)",
        1,
    ),
    (
        "SELECT n FROM (SELECT rank() OVER (ORDER BY o_custkey) AS n FROM orders) UNION ALL
         SELECT c_custkey FROM customer",
        1,
    ),
    (
        "SELECT o_orderkey, sum(o_totalprice) OVER (ORDER BY o_orderdate), rank() OVER (ORDER BY o_orderdate),
           count(CASE WHEN o_orderkey % 3 = 0 THEN o_orderkey END) OVER (ORDER BY o_orderdate),
           max(CASE WHEN o_orderdate < DATE '1993-01-01' THEN NULL ELSE o_custkey END) OVER (ORDER BY o_orderdate)
         FROM orders",
        1,
    ),
    ("SELECT l_orderkey, stddev(l_quantity) OVER (ORDER BY l_shipdate, l_orderkey, l_linenumber) FROM lineitem", 1),
    ("SELECT o_orderkey, sum(o_totalprice) FILTER (WHERE o_orderkey % 2 = 0) OVER (ORDER BY o_orderdate) FROM orders", 1),
    (
        "SELECT o_orderkey, corr(o_totalprice, o_custkey) OVER w, covar_pop(o_totalprice, o_custkey) OVER w,
           regr_slope(o_totalprice, o_custkey) OVER w, bool_or(o_custkey < 0) OVER w
         FROM orders WINDOW w AS (ORDER BY o_orderdate)",
        1,
    ),
    // Not shared: the state of `median` is as large as its input, and `random()` differs in each attempt.
    ("SELECT o_orderkey, median(o_totalprice) OVER (ORDER BY o_orderkey) FROM orders WHERE o_orderkey < 2000", 0),
    ("SELECT o_orderkey, sum(random() * 0) OVER (ORDER BY o_orderkey) FROM orders", 0),
    // Not shared: these need more than an aggregate state over the rows before, or read a scalar subquery.
    ("SELECT o_orderkey, sum(o_totalprice) OVER (ORDER BY o_orderkey ROWS 5 PRECEDING) FROM orders", 0),
    ("SELECT o_orderkey, first_value(o_custkey) OVER (ORDER BY o_orderkey) FROM orders", 0),
    ("SELECT o_orderkey, sum(o_totalprice) OVER () FROM orders", 0),
    ("SELECT o_orderkey, sum(o_custkey * (SELECT max(r_regionkey) FROM region)) OVER (ORDER BY o_orderkey) FROM orders", 0),
    ("SELECT o_orderkey, dense_rank() OVER (ORDER BY o_orderdate) FROM orders", 0),
    ("SELECT o_orderkey, lag(o_custkey) OVER (ORDER BY o_orderkey) FROM orders", 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn tasks_share_sorts_and_rankings_of_all_rows() {
    let data = tpch_data();
    let plain = plain_datafusion(data.path()).await;
    for executors in [2, 3] {
        let cluster = start_cluster(executors).await;
        let connection = spread(&cluster).await;
        tpch_tables(&connection, data.path()).await;
        rows(&connection, "SET hwacha.optimizer.range_bytes = 1").await.expect("a valid setting");
        for (sql, ranges) in ORDERED.into_iter().chain(UNORDERED) {
            let actual = rows(&connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let expected = plain.sql(sql).await.expect("it plans").collect().await.expect("it runs");
            assert_eq!(difference(&expected, &actual).expect("comparable"), None, "{sql}");
            if ORDERED.contains(&(sql, ranges)) {
                assert_eq!(lines(&actual), lines(&expected), "{sql}");
            }
            let stages = stage_graph(&connection, sql).await;
            assert_eq!(stages.matches("ExchangeSinkExec: range(").count(), ranges, "{sql}\n{stages}");
        }
        rows(&connection, "SET hwacha.optimizer.ranges = false").await.expect("a valid setting");
        let (sql, _) = ORDERED[0];
        assert!(!stage_graph(&connection, sql).await.contains("range"));
        cluster.shutdown().await;
    }
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let line = |batch: &RecordBatch, row: usize| {
        let cell = |column: &ArrayRef| {
            ArrayFormatter::try_new(column, &options).expect("it can be shown").value(row).to_string()
        };
        batch.columns().iter().map(cell).collect::<Vec<_>>().join(" | ")
    };
    let line = &line;
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect()
}
