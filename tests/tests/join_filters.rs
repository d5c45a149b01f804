//! Tests filters that joins, sorts and aggregations give to scans: they drop no needed row, even if columns of
//! different tables have the same name.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_client::Connection;
use hwacha_tests::{answers_like, rows, spread_cluster, stage_graph};
use hwacha_workloads::files;

/// Tables that share column names.
const TABLES: [(&str, &str); 4] = [
    (
        "facts",
        "SELECT value AS id, value % 1000 AS k, value % 100 AS g, CAST(value % 7 AS INT) AS h FROM generate_series(1, 20000)",
    ),
    ("parts", "SELECT value AS id, value % 50 + 1 AS g FROM generate_series(1, 10000)"),
    ("keys", "SELECT value AS k FROM generate_series(0, 999)"),
    ("few", "SELECT value AS g, value * 7 % 50 AS w, value * 3 AS k FROM generate_series(1, 50)"),
];

const QUERIES: [&str; 15] = [
    "SELECT count(*), sum(a.id), sum(a.g), max(b.g) FROM facts a JOIN parts b ON a.id = b.id JOIN keys c ON c.k = a.k
       JOIN few e ON e.g = b.g WHERE e.w < 3",
    "SELECT count(*), sum(a.id), sum(a.g), max(b.g) FROM facts a JOIN parts b ON a.id = b.id JOIN keys c ON c.k = a.k
     WHERE b.g IN (SELECT g FROM few WHERE w < 3)",
    "SELECT count(*), max(w) FROM few e WHERE EXISTS (SELECT 1 FROM facts a JOIN parts b ON a.id = b.id
       JOIN keys c ON c.k = a.k WHERE b.g = e.g AND a.g <> e.k) AND e.w < 3",
    "SELECT a.g, b.g AS other, a.id FROM facts a JOIN parts b ON a.id = b.id JOIN keys c ON c.k = a.k
     ORDER BY b.g DESC, a.id LIMIT 3",
    "SELECT min(b.g), max(b.g), min(a.g) FROM facts a JOIN parts b ON a.id = b.id JOIN keys c ON c.k = a.k",
    // Groups by columns with the same name.
    "SELECT ag, bg, n FROM (SELECT a.g AS ag, b.g AS bg, count(*) AS n FROM facts a JOIN parts b ON a.id = b.id
       GROUP BY a.g, b.g) JOIN few e ON e.g = bg WHERE e.w < 3",
    "SELECT ag, bg FROM (SELECT a.g AS ag, b.g AS bg FROM facts a JOIN parts b ON a.id = b.id) JOIN few e ON e.g = bg
     WHERE e.w < 3",
    "SELECT count(*), sum(n) FROM (SELECT a.g AS ag, b.g AS bg, count(*) AS n FROM facts a JOIN parts b ON a.id = b.id
       GROUP BY a.g, b.g) x JOIN few e ON e.g = x.ag + 1 AND e.g = x.bg",
    "SELECT count(*), sum(n) FROM (SELECT a.g AS ag, b.g AS bg, count(*) AS n FROM facts a JOIN parts b ON a.id = b.id
       GROUP BY a.g, b.g) x JOIN few e ON e.g = x.ag AND e.g = x.bg",
    "SELECT x.ag, x.bg, x.s FROM (SELECT a.g AS ag, b.g AS bg, nth_value(a.id, 2 ORDER BY a.id) AS s
       FROM facts a JOIN parts b ON a.id = b.id GROUP BY a.g, b.g) x JOIN few e ON e.g = x.bg WHERE e.w < 3",
    "SELECT x.ag, x.bg, x.s FROM (SELECT a.g AS ag, b.g AS bg, nth_value(a.id, 2 ORDER BY a.id) AS s
       FROM facts a JOIN parts b ON a.id = b.id GROUP BY a.g, b.g) x JOIN few e ON e.g = x.ag WHERE e.w < 3",
    // Columns with swapped names.
    "SELECT x.k, n, s FROM (SELECT k, count(*) AS n, sum(g) AS s FROM (SELECT g AS k, k AS g FROM facts) GROUP BY k) x
       JOIN few e ON x.k = e.g WHERE e.w < 3",
    "SELECT x.k, x.m, n FROM (SELECT k, m, count(*) AS n FROM (SELECT k, h AS m FROM facts) GROUP BY k, m) x
       JOIN few e ON x.k = e.k AND x.m = e.w WHERE e.w < 3",
    "SELECT count(*), sum(x.g) FROM (SELECT g AS k, k AS g, id FROM facts) x JOIN parts b ON x.id = b.id
       JOIN few e ON x.k = e.g WHERE e.w < 3",
    // Computed keys.
    "SELECT count(*), sum(x.g) FROM (SELECT g + 1 AS k, k AS g FROM facts) x JOIN few e ON x.k = e.g WHERE e.w < 3",
];

/// Queries that plain DataFusion answers wrongly with any settings, and the correct count.
const COUNTS: [(&str, i64); 5] = [
    ("SELECT count(*) FROM facts a RIGHT JOIN keys c ON a.g = c.k WHERE a.k IS NULL", 900),
    ("SELECT count(*) FROM keys c LEFT JOIN facts a ON a.g = c.k WHERE a.k IS NULL", 900),
    ("SELECT count(*) FROM few e RIGHT JOIN facts a ON a.g = e.g WHERE a.g < 5 OR e.g IS NULL", 20_000 - 200 * 46),
    // The first thousand rows have ten rows with each value of `g`.
    (
        "SELECT count(*) FROM (SELECT id, g FROM facts_in_order ORDER BY id LIMIT 1000) x JOIN few e ON x.g = e.g
         WHERE e.w = 3",
        10,
    ),
    (
        "SELECT count(*) FROM (SELECT id, g FROM facts_in_order ORDER BY id LIMIT 1000) x WHERE x.g IN
           (SELECT g FROM few WHERE w = 3)",
        10,
    ),
];

/// Creates tables from the rows of queries, in plain DataFusion and on the clusters.
async fn create(tables: &[(&str, &str)], directory: &Path, plain: &SessionContext, clusters: &[&Connection]) {
    for (table, sql) in tables {
        let path = directory.join(format!("{table}.parquet"));
        let copied = plain.sql(&format!("COPY ({sql}) TO '{}'", path.display())).await.expect("it plans");
        copied.collect().await.expect("it is written");
        let path = path.to_str().expect("a path of plain letters");
        plain.register_parquet(*table, path, ParquetReadOptions::default()).await.expect("a table");
        for connection in clusters {
            rows(connection, &files::create_external_table(table, path.as_ref())).await.expect("a table");
        }
    }
    // With dynamic filters, plain DataFusion drops needed rows.
    let off = plain.sql("SET datafusion.optimizer.enable_dynamic_filter_pushdown = false").await.expect("it plans");
    off.collect().await.expect("a valid setting");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_one_name_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = SessionContext::new();
    let (few, many) = (spread_cluster(1).await, spread_cluster(2).await);
    create(&TABLES, directory.path(), &plain, &[&few.1, &many.1]).await;
    for (_, connection) in [&few, &many] {
        for order in [true, false] {
            rows(connection, &format!("SET hwacha.optimizer.join_order = {order}")).await.expect("a valid setting");
            for sql in QUERIES {
                answers_like(&plain, connection, sql).await;
            }
        }
    }
    let facts = directory.path().join("facts.parquet");
    let in_order = format!(
        "CREATE EXTERNAL TABLE facts_in_order (id BIGINT, k BIGINT, g BIGINT, h INT) STORED AS PARQUET WITH ORDER (id)
         LOCATION '{}'",
        facts.display()
    );
    for (_, connection) in [&few, &many] {
        rows(connection, &in_order).await.expect("a table");
        for pushdown in [false, true] {
            let setting = format!("SET datafusion.execution.parquet.pushdown_filters = {pushdown}");
            rows(connection, &setting).await.expect("a valid setting");
            for (sql, count) in COUNTS {
                let given = rows(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                assert_eq!(given[0].column(0).as_primitive::<Int64Type>().value(0), count, "{pushdown}: {sql}");
            }
        }
    }
    few.0.shutdown().await;
    many.0.shutdown().await;
}

/// A large and a small table with NULLs. The large table is sorted by `id`.
const SPARSE: [(&str, &str); 2] = [
    (
        "sparse",
        "SELECT value AS id, CASE WHEN value % 7 = 0 THEN NULL ELSE value % 1000 END AS k,
           CASE WHEN value % 5 = 0 THEN NULL ELSE concat('w', value % 30) END AS w FROM generate_series(1, 20000)",
    ),
    (
        "few_sparse",
        "SELECT value * 100 AS id, CASE WHEN value % 3 = 0 THEN NULL ELSE value END AS k,
           CASE WHEN value % 4 = 0 THEN NULL ELSE concat('w', value % 3) END AS w FROM generate_series(1, 60)",
    ),
];

/// Joins in which the keys of the small side filter the large side. Some keys have few values, some are NULL.
const TESTED: [&str; 10] = [
    "SELECT count(*), sum(a.id) FROM sparse a JOIN few_sparse b ON a.id = b.id WHERE b.w = 'w1'",
    "SELECT count(*), sum(a.id) FROM sparse a JOIN few_sparse b ON a.id = b.id",
    "SELECT count(*), sum(a.id) FROM sparse a JOIN few_sparse b ON a.w = b.w",
    "SELECT count(*), sum(a.id) FROM sparse a WHERE a.w IN (SELECT w FROM few_sparse)",
    // NULLs match each other.
    "SELECT k, w FROM few_sparse INTERSECT SELECT k, w FROM sparse",
    "SELECT k, w FROM few_sparse EXCEPT SELECT k, w FROM sparse",
    "SELECT count(*), count(a.k), sum(a.id) FROM sparse a JOIN few_sparse b ON a.k IS NOT DISTINCT FROM b.k",
    "SELECT count(*), count(a.w), sum(a.id) FROM (SELECT w, sum(id) AS id FROM sparse GROUP BY w) a
     JOIN (SELECT * FROM few_sparse WHERE w IS NULL) b ON a.w IS NOT DISTINCT FROM b.w",
    "SELECT count(*), count(a.w), sum(a.id) FROM (SELECT w, sum(id) AS id FROM sparse GROUP BY w) a
     JOIN (SELECT * FROM few_sparse WHERE w = 'w2') b ON a.w IS NOT DISTINCT FROM b.w",
    // The NULLs come from the left join below.
    "SELECT c.k FROM few_sparse b LEFT JOIN (SELECT k FROM few_sparse WHERE id < 2000) c ON b.k = c.k
     INTERSECT SELECT k FROM sparse",
];

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_few_values_and_nulls_that_match_let_the_right_rows_pass() {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = SessionContext::new();
    let (cluster, connection) = spread_cluster(2).await;
    create(&SPARSE, directory.path(), &plain, &[&connection]).await;
    rows(&connection, "SET hwacha.optimizer.broadcast_bytes = 0").await.expect("a valid setting");
    for sql in TESTED {
        answers_like(&plain, &connection, sql).await;
        let planned = stage_graph(&connection, sql).await;
        assert!(planned.contains("filter=["), "{sql}\n{planned}");
    }
    cluster.shutdown().await;
}
