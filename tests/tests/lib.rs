//! Functions for the cluster tests: clusters in this process, and plain DataFusion as the judge.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_client::{Connection, Error};
use hwacha_local::{LocalCluster, LocalConfig};
use hwacha_workloads::answers::difference;
use hwacha_workloads::tpch;
use tempfile::TempDir;

const SCALE: f64 = 0.01;

/// A cluster of executors with two cores each, so tasks have two partitions.
pub async fn start_cluster(executors: usize) -> LocalCluster {
    let config = LocalConfig { executors, cores: 2, ..LocalConfig::default() };
    LocalCluster::start(config).await.expect("a cluster starts")
}

/// A session that runs even small queries on all executors, in batches of 97 rows.
pub async fn spread(cluster: &LocalCluster) -> Connection {
    let connection = Connection::connect(&cluster.url()).await.expect("the scheduler is there");
    for setting in [
        "SET hwacha.optimizer.single_task_bytes = 0",
        "SET hwacha.optimizer.shared_subplan_bytes = 0",
        "SET hwacha.optimizer.adaptive_task_bytes = 4096",
        "SET datafusion.execution.batch_size = 97",
        "SET datafusion.optimizer.repartition_file_min_size = 1",
    ] {
        rows(&connection, setting).await.expect("a valid setting");
    }
    connection
}

/// A cluster, and a session that runs even small queries on all executors.
pub async fn spread_cluster(executors: usize) -> (LocalCluster, Connection) {
    let cluster = start_cluster(executors).await;
    let connection = spread(&cluster).await;
    (cluster, connection)
}

/// All rows of a statement's answer.
pub async fn rows(connection: &Connection, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    connection.query(sql).await?.collect().await
}

/// Fails if a query's rows differ from plain DataFusion's.
pub async fn answers_like(plain: &SessionContext, connection: &Connection, sql: &str) {
    let actual = rows(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let expected = plain.sql(sql).await.expect("it plans").collect().await.expect("it runs");
    assert_eq!(difference(&expected, &actual).expect("comparable"), None, "{sql}");
}

/// The stage graph that EXPLAIN shows.
pub async fn stage_graph(connection: &Connection, sql: &str) -> String {
    let explained = rows(connection, &format!("EXPLAIN {sql}")).await.expect("it plans");
    let plans = explained.iter().flat_map(|batch| batch.column(1).as_string::<i32>().iter().flatten());
    plans.last().expect("the stages come last").to_owned()
}

/// The text that EXPLAIN ANALYZE shows for a query.
pub async fn analyze(connection: &Connection, sql: &str) -> String {
    let batches = rows(connection, &format!("EXPLAIN ANALYZE {sql}")).await.expect("it runs");
    batches.iter().flat_map(|batch| batch.column(1).as_string::<i32>().iter().flatten()).collect()
}

/// Generates the TPC-H tables at scale 0.01.
pub fn tpch_data() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tpch::generate(directory.path(), SCALE, |_| {}).expect("data is generated");
    directory
}

/// Creates the TPC-H tables of a directory on a cluster.
pub async fn tpch_tables(connection: &Connection, directory: &Path) {
    for table in tpch::TABLES {
        rows(connection, &tpch::create_table(directory, table)).await.expect("the file is there");
    }
}

/// Plain DataFusion over the TPC-H tables of a directory.
pub async fn plain_datafusion(directory: &Path) -> SessionContext {
    let context = SessionContext::new();
    for table in tpch::TABLES {
        let path = tpch::path(directory, table).display().to_string();
        context.register_parquet(table, path, ParquetReadOptions::default()).await.expect("the file is Parquet");
    }
    context
}
