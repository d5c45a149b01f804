//! Tests joins and aggregations by keys that cluster the files: rows that can stay do not move, and the answers are the
//! same.

use std::path::Path;

use datafusion::prelude::SessionContext;
use hwacha_client::Connection;
use hwacha_tests::{answers_like, plain_datafusion, rows, spread, stage_graph, start_cluster, tpch_data};

/// Files: table, rows of a row group, key, and source. The files are sorted by the key, except `mixed`.
/// - `lines`: a row group may start with the last key of the previous row group.
/// - `halves`: each of the two files has keys of the whole range.
/// - `dated`: the dates rise with the keys.
/// - `swapped` and `priced`: the columns in the file have another order or other types than those of the table.
const TABLES: [(&str, usize, &str, &str); 10] = [
    ("lines", 2000, "l_orderkey", "lineitem"),
    ("bills", 1000, "o_orderkey", "orders"),
    ("people", 150, "c_custkey", "(SELECT *, DATE '2000-01-01' + CAST(c_custkey AS INT) AS c_day FROM customer)"),
    ("halves/even", 1000, "l_orderkey", "lineitem WHERE l_orderkey % 2 = 0"),
    ("halves/odd", 1000, "l_orderkey", "lineitem WHERE l_orderkey % 2 = 1"),
    ("mixed", 2000, "l_tax", "lineitem ORDER BY md5(l_comment)"),
    ("recent", 50, "o_orderkey", "orders WHERE o_orderkey > 54000"),
    ("swapped", 1000, "v", "(SELECT i * 7919 % 1000 AS k, i AS v FROM generate_series(1, 20000) AS t(i))"),
    ("priced", 1000, "k", "(SELECT i AS v, CAST(i AS DECIMAL(15, 2)) AS k FROM generate_series(1, 20000) AS t(i))"),
    (
        "dated",
        1000,
        "d_key",
        "(SELECT CAST(row_number() OVER (ORDER BY o_orderdate, o_orderkey) AS BIGINT) AS d_key, o_orderdate AS d_date,
           o_custkey AS d_custkey FROM orders)",
    ),
];

/// Tables, and their declared columns. If these are empty, the columns come from the file.
const NAMES: [(&str, &str); 9] = [
    ("lines", ""),
    ("bills", ""),
    ("people", ""),
    ("halves", ""),
    ("mixed", ""),
    ("dated", ""),
    ("recent", ""),
    ("swapped", "(v BIGINT, k BIGINT)"),
    ("priced", "(k BIGINT, v BIGINT)"),
];

/// Queries, the number of exchanges by key ranges, and the number of hash exchanges.
const CASES: [(&str, usize, usize); 27] = [
    ("SELECT o_orderpriority, count(*), sum(l_quantity) FROM bills JOIN lines ON o_orderkey = l_orderkey GROUP BY 1", 0, 1),
    ("SELECT l_orderkey, count(*), sum(l_quantity) FROM lines GROUP BY l_orderkey", 0, 0),
    ("SELECT l_orderkey, l_suppkey % 3, count(DISTINCT l_partkey) FROM lines GROUP BY 1, 2", 0, 0),
    ("SELECT c_day, max(c_acctbal) FROM people GROUP BY c_day", 0, 0),
    ("SELECT l_orderkey, count(*), sum(l_quantity) FROM halves GROUP BY l_orderkey", 0, 0),
    // The rollup has a grouping set without the key. Its groups have rows on all executors, so they are hashed.
    (
        "SELECT l_orderkey, count(*) FROM (SELECT l_orderkey, l_suppkey FROM lines GROUP BY l_orderkey, l_suppkey)
           GROUP BY ROLLUP(l_orderkey)",
        0,
        1,
    ),
    // Some keys are in only one of the tables.
    (
        "SELECT o_orderkey, l_linenumber FROM (SELECT * FROM bills WHERE o_orderkey % 3 = 0) FULL JOIN
           (SELECT * FROM lines WHERE l_orderkey % 2 = 0) ON o_orderkey = l_orderkey",
        0,
        0,
    ),
    ("SELECT count(*), sum(o_totalprice) FROM bills LEFT JOIN lines ON o_orderkey = l_orderkey AND l_tax > 0.07", 0, 0),
    ("SELECT count(*) FROM lines WHERE l_orderkey IN (SELECT o_orderkey FROM bills WHERE o_totalprice > 100000)", 0, 0),
    ("SELECT count(*) FROM bills WHERE o_orderkey NOT IN (SELECT l_orderkey FROM lines WHERE l_tax > 0.01)", 0, 0),
    (
        "SELECT o_orderkey FROM bills WHERE NOT EXISTS
           (SELECT * FROM lines WHERE l_orderkey = o_orderkey AND l_suppkey % 7 = 0)",
        0,
        0,
    ),
    // The clustered key is one of several join keys or group keys.
    (
        "SELECT count(*), sum(a.l_tax - b.l_tax) FROM lines a JOIN lines b
           ON a.l_linenumber = b.l_linenumber AND a.l_orderkey = b.l_orderkey",
        0,
        0,
    ),
    (
        "SELECT l_orderkey, o_orderdate, sum(l_tax) FROM bills JOIN lines ON o_orderkey = l_orderkey
           GROUP BY l_orderkey, o_orderdate HAVING sum(l_tax) > 0.3 ORDER BY 3 DESC, 1 LIMIT 10",
        0,
        0,
    ),
    // The rows of `mixed` move by the key ranges of the other side. Some of their keys are NULL or in no row group.
    (
        "SELECT o_orderpriority, count(*) FROM bills RIGHT JOIN (SELECT CASE WHEN l_linenumber < 3 THEN l_orderkey * 2 - 5000
           WHEN l_linenumber < 6 THEN l_orderkey END AS k FROM mixed WHERE l_suppkey < 30) ON o_orderkey = k GROUP BY 1",
        1,
        1,
    ),
    (
        "SELECT count(*), sum(b.l_tax) FROM lines a JOIN (SELECT * FROM mixed WHERE l_suppkey < 5) b
           ON a.l_orderkey = b.l_orderkey",
        1,
        0,
    ),
    (
        "SELECT l_orderkey, l_linenumber, rank() OVER (PARTITION BY l_orderkey ORDER BY l_extendedprice) FROM lines",
        0,
        0,
    ),
    // Most rows would move to other key ranges anyway, so both sides are hashed.
    ("SELECT count(*), sum(l_tax) FROM people JOIN mixed ON c_custkey = l_suppkey * 10", 0, 2),
    ("SELECT l_orderkey, count(*) FROM mixed GROUP BY l_orderkey", 0, 1),
    // The dates rise with the keys, so one executor would have all rows of the year.
    ("SELECT d_key, count(*) FROM dated WHERE d_date < DATE '1993-01-01' GROUP BY d_key", 0, 1),
    (
        "SELECT a.d_key, b.d_custkey FROM dated a JOIN dated b ON a.d_key = b.d_key WHERE a.d_date < DATE '1993-01-01'",
        0,
        2,
    ),
    // The key is computed, not clustered, or stored with another type. Only `v` of `swapped` is a clustered key.
    ("SELECT l_orderkey + 1, count(*) FROM lines GROUP BY 1", 0, 1),
    ("SELECT k, count(*) FROM swapped GROUP BY k", 0, 1),
    ("SELECT k, count(*) FROM priced GROUP BY k", 0, 1),
    ("SELECT v, count(*) FROM swapped GROUP BY v", 0, 0),
    // Order keys reach 60,000. Keys above 30,000 are shared by all executors, each with a range of keys. Keys above
    // 58,000 lie in so few row groups that most executors would read none, so the rows are hashed instead.
    ("SELECT o_orderkey, count(*) FROM bills WHERE o_orderkey > 30000 GROUP BY o_orderkey", 0, 0),
    ("SELECT o_orderkey, count(*) FROM bills WHERE o_orderkey > 58000 GROUP BY o_orderkey", 0, 1),
    // Most rows that would move have other keys than the rows that stay.
    (
        "SELECT o_orderkey, sum(l_tax) FROM recent JOIN (SELECT * FROM mixed WHERE l_suppkey < 5) ON o_orderkey = l_orderkey
           GROUP BY o_orderkey",
        0,
        2,
    ),
];

/// As `CASES`, for joins with broadcast build sides.
const COLLECTED: [(&str, usize, usize); 4] = [
    // The build side `t` is no longer partitioned by its key, and no operator above needs that.
    (
        "SELECT count(*), sum(o_totalprice) FROM bills JOIN (
           SELECT a.k, t.n FROM (SELECT c_nationkey, count(*) AS n FROM people GROUP BY ROLLUP(c_nationkey)) t RIGHT JOIN
             (SELECT l_orderkey AS k, count(*) AS c FROM lines GROUP BY l_orderkey) a ON t.n = a.c) s ON o_orderkey = s.k",
        0,
        1,
    ),
    // The join leaves only one short range of the keys, so one executor would have all rows.
    (
        "SELECT a.d_key, count(*) FROM dated a JOIN (SELECT d_key FROM dated WHERE d_date < DATE '1992-01-08') b
           ON a.d_key = b.d_key GROUP BY a.d_key",
        0,
        1,
    ),
    // The left join keeps all keys of `a`, also keys that `b` does not have.
    (
        "SELECT a.d_key, count(b.d_key) FROM dated a LEFT JOIN
           (SELECT d_key FROM dated WHERE d_date < DATE '1992-02-01') b ON a.d_key = b.d_key GROUP BY a.d_key",
        0,
        0,
    ),
    ("SELECT l_orderkey, count(*) FROM lines JOIN people ON l_suppkey = c_custkey GROUP BY l_orderkey", 0, 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_stay_where_their_keys_are() {
    let (data, files) = (tpch_data(), tempfile::tempdir().expect("a temporary directory"));
    let plain = plain_datafusion(data.path()).await;
    for setting in ["allow_single_file_parallelism = false", "data_page_row_count_limit = 100"] {
        plain_rows(&plain, &format!("SET datafusion.execution.parquet.{setting}")).await;
    }
    plain_rows(&plain, "SET datafusion.execution.target_partitions = 1").await;
    for (table, row_group, key, rows) in TABLES {
        plain_rows(&plain, &format!("SET datafusion.execution.parquet.max_row_group_size = {row_group}")).await;
        let file = file(files.path(), table);
        // The CASE hides from DataFusion that the rows are in order.
        let key = format!("* EXCEPT ({key}), CASE WHEN {key} >= 0 THEN {key} END AS {key}");
        plain_rows(&plain, &format!("COPY (SELECT {key} FROM {rows}) TO '{file}'")).await;
    }
    let declared = NAMES.map(|(table, columns)| {
        let location = file(files.path(), table);
        format!("CREATE EXTERNAL TABLE {table} {columns} STORED AS PARQUET LOCATION '{location}'")
    });
    for table in &declared {
        plain_rows(&plain, table).await;
    }
    for executors in [2, 3] {
        let cluster = start_cluster(executors).await;
        let connection = spread(&cluster).await;
        for table in &declared {
            run(&connection, table).await;
        }
        // These techniques are off, because they would replace the exchanges that are counted here.
        for setting in ["broadcast_rows = 0", "broadcast_bytes = 0", "eager_aggregates = false", "adaptive = false"] {
            run(&connection, &format!("SET hwacha.optimizer.{setting}")).await;
        }
        for case in CASES {
            exchanges_and_answers(&plain, &connection, case, executors).await;
        }
        for setting in ["hwacha.optimizer.adaptive = true", "datafusion.execution.parquet.pushdown_filters = true"] {
            run(&connection, &format!("SET {setting}")).await;
            for (sql, ..) in CASES {
                answers_like(&plain, &connection, sql).await;
            }
        }
        for setting in ["broadcast_rows = 1000000", "broadcast_bytes = 33554432"] {
            run(&connection, &format!("SET hwacha.optimizer.{setting}")).await;
        }
        for case in COLLECTED {
            exchanges_and_answers(&plain, &connection, case, executors).await;
        }
        for (sql, ..) in CASES {
            answers_like(&plain, &connection, sql).await;
        }
        run(&connection, "SET hwacha.optimizer.broadcast_rows = 0").await;
        run(&connection, "SET hwacha.optimizer.key_ranges = false").await;
        let (sql, ..) = CASES[0];
        assert_eq!(stage_graph(&connection, sql).await.matches("ExchangeSinkExec: hash(").count(), 3);
        cluster.shutdown().await;
    }
}

/// Checks the exchanges and the answer of a query.
async fn exchanges_and_answers(
    plain: &SessionContext,
    connection: &Connection,
    (sql, by_ranges, hashed): (&str, usize, usize),
    executors: usize,
) {
    let stages = stage_graph(connection, sql).await;
    let count = |kind: &str| stages.matches(&format!("ExchangeSinkExec: {kind}(")).count();
    assert!(stages.contains(&format!("{executors} tasks")), "{sql}\n{stages}");
    assert_eq!((count("ranges"), count("hash")), (by_ranges, hashed), "{sql}\n{stages}");
    answers_like(plain, connection, sql).await;
}

/// The file of a table, or the directory of its files.
fn file(directory: &Path, table: &str) -> String {
    let name = if table == "halves" { "halves/".to_owned() } else { format!("{table}.parquet") };
    directory.join(name).display().to_string()
}

async fn plain_rows(plain: &SessionContext, sql: &str) {
    plain.sql(sql).await.expect("it plans").collect().await.expect("it runs");
}

async fn run(connection: &Connection, sql: &str) {
    rows(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
