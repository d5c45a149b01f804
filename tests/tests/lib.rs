//! What the cluster tests share: clusters in this process, and plain DataFusion as the judge.

use std::path::Path;

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hwacha_client::{Connection, Error};
use hwacha_local::{LocalCluster, LocalConfig};
use hwacha_workloads::tpch;

/// A cluster whose queries are spread over its executors however small they are, in batches of few rows.
pub async fn spread_cluster(executors: usize) -> (LocalCluster, Connection) {
    let config = LocalConfig { executors, cores: 2, ..LocalConfig::default() };
    let cluster = LocalCluster::start(config).await.expect("a cluster starts");
    let connection = Connection::connect(&cluster.url()).await.expect("the scheduler is there");
    for setting in [
        "SET hwacha.single_task_bytes = 0",
        "SET datafusion.execution.batch_size = 97",
        "SET datafusion.optimizer.repartition_file_min_size = 1",
    ] {
        rows(&connection, setting).await.expect("a valid setting");
    }
    (cluster, connection)
}

/// All rows of a statement's answer.
pub async fn rows(connection: &Connection, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    connection.query(sql).await?.collect().await
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
