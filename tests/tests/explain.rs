//! Snapshots of the stages of queries on two executors. `INSTA_UPDATE=always` updates the snapshots.

use arrow::array::AsArray;
use hwacha_tests::{rows, spread_cluster, stage_graph, tpch_data, tpch_tables};
use hwacha_workloads::tpch;

/// A query that reads a common table expression three times, twice through the same window.
const SHARED: &str =
    "WITH t AS (SELECT o_custkey AS c, o_orderdate AS d, sum(o_totalprice) AS s FROM orders GROUP BY 1, 2),
     v AS (SELECT c, d, s, row_number() OVER (PARTITION BY c ORDER BY d) AS n FROM t)
SELECT a.c, a.s - b.s FROM v a, v b, t WHERE a.c = b.c AND a.n = b.n + 1 AND t.c = a.c AND t.d = a.d";

#[tokio::test(flavor = "multi_thread")]
async fn stage_graphs() {
    let data = tpch_data();
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    let names = (1..).map(|number| format!("tpch_q{number:02}"));
    let queries = names.zip(tpch::QUERIES).chain([("shared_subplans".to_owned(), SHARED)]);
    for (name, sql) in queries {
        let batches = rows(&connection, &format!("EXPLAIN {sql}")).await.expect("it is explained");
        let texts = batches.iter().flat_map(|batch| {
            let (kinds, plans) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            kinds.iter().zip(plans).collect::<Vec<_>>()
        });
        let stages: Vec<_> =
            texts.filter(|(kind, _)| *kind == Some("stage_graph")).filter_map(|(_, plan)| plan).collect();
        let directory = data.path().display().to_string();
        let directory = directory.trim_start_matches('/');
        let shown = stages.join("\n").replace(directory, "data");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, shown);
        });
    }
    cluster.shutdown().await;
}

/// Both joins read the same row of `nation`, so these stages are equal.
const EQUAL_STAGES: &str = "SELECT count(*) AS n FROM supplier JOIN nation ON s_nationkey = n_nationkey WHERE n_name = 'FRANCE'
    UNION ALL SELECT count(*) FROM customer JOIN nation ON c_nationkey = n_nationkey WHERE n_name = 'FRANCE' ORDER BY n";

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_are_equal_run_once() {
    let data = tpch_data();
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    let mut answers = vec![];
    for (shared, scans) in [(true, 1), (false, 2)] {
        rows(&connection, &format!("SET hwacha.optimizer.shared_subplans = {shared}")).await.expect("a setting");
        answers.push(rows(&connection, EQUAL_STAGES).await.expect("it runs"));
        let explained = rows(&connection, &format!("EXPLAIN {EQUAL_STAGES}")).await.expect("it is explained");
        let stages = explained[0].column(1).as_string::<i32>().iter().flatten().last().expect("a plan").to_owned();
        assert_eq!(stages.matches("nation.parquet").count(), scans, "{stages}");
    }
    assert_eq!(answers[0], answers[1]);
    cluster.shutdown().await;
}

/// Queries, and whether a stage is varying: another attempt may write other rows. The reason is mostly that sums of
/// floats differ in their last digits.
const SUMS_OF_FLOATS: [(&str, bool); 9] = [
    (
        "SELECT k, count(*) FROM (SELECT l_suppkey, CAST(avg(l_orderkey) AS BIGINT) AS k FROM lineitem GROUP BY l_suppkey)
         GROUP BY k",
        true,
    ),
    ("SELECT l_suppkey FROM lineitem GROUP BY l_suppkey HAVING avg(l_orderkey) > 100", true),
    ("SELECT l_suppkey, CAST(avg(l_orderkey) AS BIGINT) FROM lineitem GROUP BY l_suppkey", false),
    (
        "SELECT l_suppkey, sum(CAST(l_quantity AS DOUBLE)) FROM lineitem WHERE CAST(l_quantity AS DOUBLE) > 1.5
         GROUP BY l_suppkey",
        false,
    ),
    ("SELECT l_suppkey FROM lineitem GROUP BY l_suppkey HAVING sum(l_quantity) > 100", false),
    ("SELECT l_suppkey FROM lineitem WHERE l_orderkey > (SELECT avg(l_orderkey) FROM lineitem)", true),
    ("SELECT l_suppkey FROM lineitem WHERE l_quantity > (SELECT avg(l_quantity) FROM lineitem)", false),
    (
        "SELECT l_returnflag, count(*) AS n FROM (SELECT l_returnflag, l_suppkey, avg(l_orderkey) AS a FROM lineitem
         GROUP BY l_returnflag, l_suppkey) GROUP BY l_returnflag HAVING count(DISTINCT a) > 1",
        true,
    ),
    // Varying without floats: the LIMIT takes the values that come first.
    ("SELECT DISTINCT l_suppkey FROM lineitem LIMIT 3", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn stages_vary_where_last_digits_of_floats_decide() {
    let data = tpch_data();
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    for (query, varies) in SUMS_OF_FLOATS {
        let stages = stage_graph(&connection, query).await;
        assert_eq!(stages.contains("varying"), varies, "{query}\n{stages}");
    }
    cluster.shutdown().await;
}
