//! How the TPC-H queries are cut into stages on two executors. `INSTA_UPDATE=always` writes the snapshots anew.

use arrow::array::AsArray;
use hwacha_tests::{rows, spread_cluster, tpch_data, tpch_tables};
use hwacha_workloads::tpch;

#[tokio::test(flavor = "multi_thread")]
async fn tpch_stage_graphs() {
    let data = tpch_data();
    let (cluster, connection) = spread_cluster(2).await;
    tpch_tables(&connection, data.path()).await;
    for (index, sql) in tpch::QUERIES.iter().enumerate() {
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
            insta::assert_snapshot!(format!("tpch_q{:02}", index + 1), shown);
        });
    }
    cluster.shutdown().await;
}
