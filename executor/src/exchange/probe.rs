//! For measurements: the way of batches from one executor's store over a socket into another's source, and nothing else.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::RecordBatch;
use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use hwacha_model::{ExecutorId, OutputKind, QueryId, StageId, TaskId, TaskIndex};
use hwacha_plan::exchange::Slice;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;

use super::reader::remote_rows;
use super::{BoundProducer, Budget, ExchangeServer, ExchangeStore, Peers};
use crate::process::exchange_server;

/// An output that is held and served as an executor does, and the reader of another executor.
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
        let store = ExchangeStore::new(executor, Budget::new(&RuntimeEnv::default(), usize::MAX));
        let attempt = TaskId { query: QueryId(0), stage: StageId(0), task: TaskIndex(0), attempt: 0 };
        let output = store.create(attempt, OutputKind::Gather, 1);
        batches.iter().try_for_each(|batch| output.append(0, batch.clone()))?;
        output.complete();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let service = FlightServiceServer::new(ExchangeServer::new(Arc::clone(&store)));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // A server that fails shows as an error of the reader.
            let _ = exchange_server().add_service(service).serve_with_incoming(incoming).await;
        });
        let producer = BoundProducer { attempt, executor, address };
        Ok(Self { producer, peers: Arc::new(Peers::new(Handle::current())), _store: store, _server: server })
    }

    /// Reads all of it once: how many rows came.
    pub async fn read(&self) -> Result<usize> {
        let received = Arc::new(AtomicU64::new(0));
        let rows =
            remote_rows(Arc::clone(&self.peers), self.producer.clone(), Slice::whole(0..1), false, received).await?;
        rows.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await
    }
}
