//! Plain Arrow Flight: arrow-flight's own encoder and decoder, and tonic's default settings.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::Result;

/// A server of batches, and a client of it.
pub(crate) struct PlainFlight {
    client: FlightServiceClient<Channel>,
    _server: JoinSet<()>,
}

impl PlainFlight {
    /// Serves the batches on loopback.
    pub(crate) async fn start(batches: &[RecordBatch]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let service = FlightServiceServer::new(Batches(batches.to_vec().into()));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // If the server fails, the client gets an error.
            let _ = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Self { client: FlightServiceClient::new(channel), _server: server })
    }

    /// Reads all batches once and returns the row count.
    pub(crate) async fn read(&self) -> Result<usize> {
        let messages = self.client.clone().do_get(Ticket::new("")).await?.into_inner().map_err(Into::into);
        let rows = FlightRecordBatchStream::new_from_flight_data(messages);
        Ok(rows.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await?)
    }
}

struct Batches(Arc<[RecordBatch]>);

fn unsupported() -> Status {
    Status::unimplemented("only DoGet is served")
}

#[tonic::async_trait]
impl FlightService for Batches {
    type HandshakeStream = BoxStream<'static, std::result::Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, std::result::Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, std::result::Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, std::result::Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, std::result::Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, std::result::Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, std::result::Result<FlightData, Status>>;

    async fn do_get(&self, _: Request<Ticket>) -> std::result::Result<Response<Self::DoGetStream>, Status> {
        let batches = self.0.to_vec();
        let messages = FlightDataEncoderBuilder::new().build(stream::iter(batches.into_iter().map(Ok)));
        Ok(Response::new(messages.map_err(Into::into).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> std::result::Result<Response<Self::HandshakeStream>, Status> {
        Err(unsupported())
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> std::result::Result<Response<Self::ListFlightsStream>, Status> {
        Err(unsupported())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> std::result::Result<Response<FlightInfo>, Status> {
        Err(unsupported())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> std::result::Result<Response<PollInfo>, Status> {
        Err(unsupported())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> std::result::Result<Response<SchemaResult>, Status> {
        Err(unsupported())
    }

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> std::result::Result<Response<Self::DoPutStream>, Status> {
        Err(unsupported())
    }

    async fn do_action(&self, _: Request<Action>) -> std::result::Result<Response<Self::DoActionStream>, Status> {
        Err(unsupported())
    }

    async fn list_actions(&self, _: Request<Empty>) -> std::result::Result<Response<Self::ListActionsStream>, Status> {
        Err(unsupported())
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> std::result::Result<Response<Self::DoExchangeStream>, Status> {
        Err(unsupported())
    }
}
