//! Serves outputs to other executors and to the scheduler: Flight `DoGet` by ticket. The only other ticket asks for
//! bytes that measure the network.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use hwacha_operators::exchange::Slice;
use hwacha_proto::convert::ExchangeRead;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::encode::Encoder;
use super::peers::{MEASURE, pieces};
use super::reader::local_rows;
use super::store::ExchangeStore;
use super::wire;

/// The Flight service of one executor.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeServer {
    store: Arc<ExchangeStore>,
}

impl ExchangeServer {
    pub(crate) fn new(store: Arc<ExchangeStore>) -> Self {
        Self { store }
    }

    async fn read(self, request: Request<Body>) -> Result<BoxStream<'static, Result<Vec<Bytes>, Status>>, Status> {
        let ticket = wire::ticket(request).await?;
        if ticket == MEASURE {
            return Ok(pieces().boxed());
        }
        let read = ExchangeRead::from_ticket(&ticket)
            .map_err(|_| Status::invalid_argument("the ticket is not one of Hwacha's exchange"))?;
        if read.executor != self.store.executor() {
            return Err(Status::not_found("the output was held by an executor that is gone"));
        }
        let output = self
            .store
            .find(read.producer)
            .await
            .ok_or_else(|| Status::not_found(format!("there is no output of task {}", read.producer)))?;
        let partitions = read.partitions.start as usize..read.partitions.end as usize;
        let batches = read.batches.start as usize..read.batches.end as usize;
        let rows =
            local_rows(output, vec![Slice { partitions, batches }]).map_err(|error| Status::aborted(error.to_string()));
        Ok(messages(rows, read.compressed).boxed())
    }
}

impl NamedService for ExchangeServer {
    const NAME: &'static str = wire::SERVICE;
}

impl Service<Request<Body>> for ExchangeServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let read = self.clone().read(request);
        async { Ok(read.await.map_or_else(Status::into_http, wire::response)) }.boxed()
    }
}

/// The rows as messages, after a message with their schema. Without rows there is no message at all.
fn messages(
    rows: impl Stream<Item = Result<RecordBatch, Status>> + Send,
    compressed: bool,
) -> impl Stream<Item = Result<Vec<Bytes>, Status>> + Send {
    let mut encoder = None;
    let mut encode = move |batch: RecordBatch| -> datafusion::common::Result<Vec<Bytes>> {
        let encoder = match &mut encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new(&batch.schema(), compressed)?),
        };
        encoder.encode(&batch)
    };
    rows.and_then(move |batch| future::ready(encode(batch).map_err(|error| Status::internal(error.to_string()))))
}
