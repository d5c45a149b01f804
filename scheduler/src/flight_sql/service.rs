//! The methods of the Flight SQL service, one per command.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc,
    Ticket,
};
use datafusion::common::ScalarValue;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use hwacha_model::QueryId;
use hwacha_proto::{PROGRESS_ACTION, ProgressRequest};
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::answers::messages;
use super::clients::{Client, Clients, Identity};
use super::connections::Peer;
use super::handles::BoundStatement;
use super::metadata;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::event_loop::EventLoopHandle;
use crate::parsing::number_placeholders;
use crate::plan_cache::PlanCache;
use crate::statement::{Answer, StatementRunner};

/// Interval at which expired sessions and results are dropped (1 s).
const EXPIRY: Duration = Duration::from_secs(1);
/// Maximum bytes of parameters that are bound at once (64 MiB: the largest message that a client may send).
const MAX_PARAMETER_BYTES: usize = 64 << 20;
/// Maximum rows of parameters that are bound at once (10,000). The statement runs once for each row.
const MAX_PARAMETER_ROWS: usize = 10_000;

/// The action that ends the session of a client.
const CLOSE_SESSION: &str = "CloseSession";

/// The Flight SQL service of the scheduler.
pub(crate) struct FrontDoor {
    event_loop: EventLoopHandle,
    catalog: Arc<Catalog>,
    clients: Arc<Clients>,
    plans: Arc<PlanCache>,
    _expiry: JoinSet<()>,
}

impl FrontDoor {
    pub(crate) fn new(event_loop: EventLoopHandle, catalog: Arc<Catalog>, clients: Arc<Clients>) -> Self {
        let mut expiry = JoinSet::new();
        let expiring = Arc::clone(&clients);
        expiry.spawn(async move {
            let mut interval = tokio::time::interval(EXPIRY);
            loop {
                interval.tick().await;
                expiring.expire();
            }
        });
        Self { event_loop, catalog, clients, plans: Arc::default(), _expiry: expiry }
    }

    /// The client of a request: the client of its token, else the client of its connection.
    fn client<T>(&self, request: &Request<T>) -> Result<Arc<Client>, Error> {
        self.clients.find(identity(request)?)
    }

    fn runner(&self, client: &Arc<Client>) -> StatementRunner {
        StatementRunner {
            event_loop: self.event_loop.clone(),
            catalog: Arc::clone(&self.catalog),
            snapshot: client.session.snapshot(),
            session: Arc::clone(&client.session),
            plans: Arc::clone(&self.plans),
        }
    }

    /// Stores an answer until its client fetches it.
    fn offer(
        &self,
        client: &Client,
        answer: Result<Answer, Error>,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        Ok(Response::new(client.answers.offer(answer?, descriptor)?))
    }

    /// Runs a prepared statement once per bound row of parameters, one after the other. The answer has the rows of
    /// all runs. The first run starts at once, each later run when all rows before it were read.
    async fn run_prepared(&self, runner: &StatementRunner, statement: BoundStatement) -> Result<Answer, Error> {
        let BoundStatement { sql, parameters } = statement;
        let row = |number: usize| parameters.get(number).cloned().unwrap_or_default();
        let Answer { schema, rows, kind } = runner.run(&sql, row(0)).await?;
        let runner = runner.clone();
        let others = futures::stream::iter(1..parameters.len()).then(move |number| {
            let (runner, sql, row) = (runner.clone(), Arc::clone(&sql), parameters[number].clone());
            async move { runner.run(&sql, row).await.map(|answer| answer.rows) }
        });
        Ok(Answer { schema, rows: rows.chain(others.try_flatten()).boxed(), kind })
    }

    /// Reads an answer to its end and drops its rows. Returns the number of changed rows, which is always 0, because
    /// no supported statement changes rows.
    async fn finish(answer: Answer) -> Result<i64, Status> {
        answer.rows.try_for_each(|_: RecordBatch| async { Ok(()) }).await?;
        Ok(0)
    }
}

/// The identity of a request's client: its token, else its connection.
fn identity<T>(request: &Request<T>) -> Result<Identity, Error> {
    let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) {
        return Ok(Identity::Token(token.to_owned()));
    }
    let peer = request.extensions().get::<Peer>();
    peer.map(|peer| Identity::Connection(peer.connection)).ok_or(Error::Stopping)
}

#[tonic::async_trait]
impl FlightSqlService for FrontDoor {
    type FlightService = Self;

    /// Opens a session and returns its token. There is no authentication, so any credentials are accepted.
    async fn do_handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        let token = self.clients.handshake()?;
        let answer = HandshakeResponse { protocol_version: 0, payload: token.clone().into() };
        let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed() as _);
        let header = MetadataValue::try_from(format!("Bearer {token}")).expect("hexadecimal digits make a header");
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        let answer = self.runner(&client).run(&query.query, vec![]).await;
        self.offer(&client, answer, request.into_inner())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        let prepared = client.handles.find(&query.prepared_statement_handle)?;
        let answer = self.run_prepared(&self.runner(&client), prepared).await;
        self.offer(&client, answer, request.into_inner())
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        self.offer(&client, metadata::catalogs(query), request.into_inner())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        self.offer(&client, metadata::schemas(query), request.into_inner())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        let answer = metadata::tables(query, &self.catalog, client.session.context()).await;
        self.offer(&client, answer, request.into_inner())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        self.offer(&client, metadata::table_types(query), request.into_inner())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let client = self.client(&request)?;
        self.offer(&client, metadata::sql_info(query), request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let client = self.client(&request)?;
        let messages = messages(client.answers.take(&ticket.statement_handle)?);
        // The stream holds the client until the last message, so the client does not expire meanwhile.
        let held = messages.map(move |message| {
            let _ = &client;
            message
        });
        Ok(Response::new(held.boxed()))
    }

    async fn do_get_fallback(
        &self,
        _: Request<Ticket>,
        _: Any,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Err(Status::invalid_argument("the ticket is not one that this server gave out"))
    }

    async fn do_put_statement_update(
        &self,
        update: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let client = self.client(&request)?;
        Self::finish(self.runner(&client).run(&update.query, vec![]).await?).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let (client, handle) = (self.client(&request)?, query.prepared_statement_handle);
        client.handles.bind(&handle, parameters(request).await?)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        update: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let client = self.client(&request)?;
        let BoundStatement { sql, .. } = client.handles.find(&update.prepared_statement_handle)?;
        let prepared = BoundStatement { sql, parameters: parameters(request).await?.into() };
        Self::finish(self.run_prepared(&self.runner(&client), prepared).await?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let (client, sql) = (self.client(&request)?, number_placeholders(&query.query));
        let described = self.runner(&client).describe(&sql).await?;
        let handle = client.handles.add(sql)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema: described.schema.as_deref().map(encode_schema).transpose()?.unwrap_or_default(),
            parameter_schema: encode_schema(&described.parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        self.client(&request)?.handles.close(&query.prepared_statement_handle);
        Ok(())
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let body: Vec<u8> = match request.get_ref().r#type.as_str() {
            PROGRESS_ACTION => self.progress(&request.get_ref().body).await?,
            CLOSE_SESSION => {
                self.clients.close(&identity(&request)?);
                // The message CloseSessionResult with its field `status` set to CLOSED.
                vec![0x08, 0x01]
            }
            other => return Err(Status::unimplemented(format!("there is no action \"{other}\""))),
        };
        let result = arrow_flight::Result { body: body.into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

impl FrontDoor {
    async fn progress(&self, body: &[u8]) -> Result<Vec<u8>, Status> {
        let query = serde_json::from_slice::<ProgressRequest>(body).ok().and_then(|asked| asked.query.parse().ok());
        let Some(query) = query else {
            return Err(Status::invalid_argument("the body of hwacha.progress is {\"query\": \"NUMBER\"}"));
        };
        let progress = self.event_loop.progress(QueryId(query)).await?;
        let progress =
            progress.ok_or_else(|| Status::not_found(format!("there is no query {query}, or it ended long ago")))?;
        serde_json::to_vec(&progress).map_err(|error| Status::internal(error.to_string()))
    }
}

/// The rows of parameters that a client sent, matched by position.
async fn parameters(request: Request<PeekableFlightDataStream>) -> Result<Vec<Vec<ScalarValue>>, Status> {
    let messages: BoxStream<'static, Result<FlightData, Status>> = request.into_inner().boxed();
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into));
    let (mut rows, mut bytes) = (vec![], 0);
    while let Some(batch) = batches.try_next().await? {
        bytes += batch.get_array_memory_size();
        if bytes > MAX_PARAMETER_BYTES || rows.len() + batch.num_rows() > MAX_PARAMETER_ROWS {
            return Err(Status::resource_exhausted(format!(
                "a statement takes at most {MAX_PARAMETER_ROWS} rows of parameters, and {MAX_PARAMETER_BYTES} bytes of them; bind fewer, or load data from files"
            )));
        }
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            rows.push(values.collect::<Result<_, _>>().map_err(Error::from)?);
        }
    }
    Ok(rows)
}

fn encode_schema(schema: &Schema) -> Result<bytes::Bytes, Status> {
    let options = Default::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|message| message.0).map_err(|error| Status::internal(error.to_string()))
}
