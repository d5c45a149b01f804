//! For benchmarks: moves batches from the store of one executor over a socket to the reader of another, without
//! tasks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use hwacha_model::{ExecutorId, OutputKind, QueryId, StageId, TaskId, TaskIndex};
use hwacha_operators::exchange::Slice;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::reader::remote_rows;
use super::{BoundProducer, Budget, ExchangeServer, ExchangeStore, Peers};

/// An output that is held and served as by an executor, and the reader of another executor.
pub struct ExchangeProbe {
    producer: BoundProducer,
    peers: Arc<Peers>,
    _store: Arc<ExchangeStore>,
    _server: JoinSet<()>,
}

impl ExchangeProbe {
    /// Holds the batches as the only partition of an output and serves them on loopback.
    pub async fn start(batches: &[RecordBatch]) -> Result<Self> {
        let executor = ExecutorId(0);
        let runtime = RuntimeEnv::default();
        let store = ExchangeStore::new(executor, Budget::new(runtime.memory_pool, runtime.disk_manager, usize::MAX));
        let attempt = TaskId { query: QueryId(0), stage: StageId(0), task: TaskIndex(0), attempt: 0 };
        let output = store.create(attempt, OutputKind::Gather, 1, Arc::default());
        batches.iter().try_for_each(|batch| output.append(0, batch.clone()))?;
        output.complete();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let service = ExchangeServer::new(Arc::clone(&store));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // If the server fails, the reader gets an error.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        let peers = Arc::new(Peers::new(address.clone(), Handle::current()));
        let producer = BoundProducer { attempt, executor, address };
        Ok(Self { producer, peers, _store: store, _server: server })
    }

    /// Reads the output once and returns its row count.
    pub async fn read(&self) -> Result<usize> {
        self.rows().await?.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await
    }

    async fn rows(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let received = Arc::new(AtomicU64::new(0));
        remote_rows(Arc::clone(&self.peers), self.producer.clone(), Slice::whole(0..1), false, received).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    const ROWS: usize = 1 << 20;

    #[tokio::test]
    async fn streams_that_nobody_reads_hold_up_no_others() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("a batch");
        let probe = ExchangeProbe::start(&[batch]).await.expect("loopback is there");
        let mut unread = vec![];
        for _ in 0..40 {
            let mut rows = probe.rows().await.expect("it is served");
            rows.try_next().await.expect("it is served").expect("there are rows");
            unread.push(rows);
        }
        let read = tokio::time::timeout(Duration::from_secs(60), probe.read()).await;
        assert_eq!(read.expect("it gets its turn").expect("it is served"), ROWS);
    }
}
