//! Serves outputs to other executors and to the scheduler: Flight `DoGet` by ticket, and nothing else but the bytes that
//! they measure the network by.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use hwacha_proto::convert::ExchangeRead;
use tonic::{Request, Response, Status, Streaming};

use super::encode::Encoder;
use super::peers::{MEASURE, pieces};
use hwacha_plan::exchange::Slice;

use super::reader::local_rows;
use super::store::ExchangeStore;

/// The Flight service of one executor.
#[derive(Debug)]
pub(crate) struct ExchangeServer {
    store: Arc<ExchangeStore>,
}

impl ExchangeServer {
    pub(crate) fn new(store: Arc<ExchangeStore>) -> Self {
        Self { store }
    }

    async fn read(&self, ticket: &Ticket) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let read = ExchangeRead::from_ticket(&ticket.ticket)
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

#[tonic::async_trait]
impl FlightService for ExchangeServer {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.read(request.get_ref()).await.map(Response::new)
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(only_exchange())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(only_exchange())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(only_exchange())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(only_exchange())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(only_exchange())
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(only_exchange())
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        match request.get_ref().r#type.as_str() {
            MEASURE => Ok(Response::new(pieces().boxed())),
            _ => Err(only_exchange()),
        }
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(only_exchange())
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(only_exchange())
    }
}

/// The rows as messages, opened by their schema. Nothing comes of no rows.
fn messages(
    rows: impl Stream<Item = Result<RecordBatch, Status>> + Send,
    compressed: bool,
) -> impl Stream<Item = Result<FlightData, Status>> + Send {
    let mut encoder = None;
    rows.map_ok(move |batch| {
        let mut first = None;
        let encoder = encoder.get_or_insert_with(|| {
            let (encoder, schema) = Encoder::new(&batch.schema(), compressed);
            first = Some(schema);
            encoder
        });
        match encoder.encode(&batch) {
            Ok(messages) => stream::iter(first.into_iter().chain(messages).map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(Status::internal(error.to_string()))]),
        }
    })
    .try_flatten()
}

fn only_exchange() -> Status {
    Status::unimplemented("this is an executor; connect to the scheduler")
}
