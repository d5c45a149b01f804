//! The Flight SQL service: one method per command, each a translation.

use std::pin::Pin;
use std::sync::Arc;

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
use serde::Deserialize;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::answers::{Answers, messages};
use super::metadata;
use super::prepared::{Prepared, PreparedStatements};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::event_loop::Engine;
use crate::plan_cache::PlanCache;
use crate::session::{Session, Sessions};
use crate::statement::{Answer, Executor, number_placeholders};

/// How often results that nobody fetches are looked for, as a part of their time to live.
const EXPIRY_PARTS: u32 = 10;

/// Asks how far a query has come; the body is `{"query": "NUMBER"}`.
const PROGRESS: &str = "hwacha.progress";
const CLOSE_SESSION: &str = "CloseSession";

/// The Flight SQL service of the scheduler.
pub(crate) struct FrontDoor {
    engine: Engine,
    catalog: Arc<Catalog>,
    sessions: Sessions,
    answers: Arc<Answers>,
    prepared: PreparedStatements,
    plans: Arc<PlanCache>,
    _expiry: JoinSet<()>,
}

impl FrontDoor {
    pub(crate) fn new(
        engine: Engine,
        catalog: Arc<Catalog>,
        sessions: Sessions,
        result_ttl: std::time::Duration,
    ) -> Self {
        let answers = Arc::new(Answers::new(result_ttl));
        let mut expiry = JoinSet::new();
        let expiring = Arc::clone(&answers);
        expiry.spawn(async move {
            let mut interval = tokio::time::interval(expiring.ttl() / EXPIRY_PARTS);
            loop {
                interval.tick().await;
                expiring.expire();
            }
        });
        let (prepared, plans) = (PreparedStatements::default(), Arc::default());
        Self { engine, catalog, sessions, answers, prepared, plans, _expiry: expiry }
    }

    /// The session that a request belongs to: that of its token, else that of its connection.
    fn session<T>(&self, request: &Request<T>) -> Arc<Session> {
        self.sessions.open(&session_name(request))
    }

    fn executor<T>(&self, request: &Request<T>) -> Executor {
        let session = self.session(request);
        Executor {
            engine: self.engine.clone(),
            catalog: Arc::clone(&self.catalog),
            snapshot: session.snapshot(),
            session,
            plans: Arc::clone(&self.plans),
        }
    }

    fn offer(
        &self,
        answer: Result<Answer, Error>,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        Ok(Response::new(self.answers.offer(answer?, descriptor)?))
    }

    /// Runs a prepared statement once per bound row of parameters; the answer has the rows of all.
    async fn run_prepared(&self, executor: &Executor, prepared: Prepared) -> Result<Answer, Error> {
        let Prepared { sql, parameters } = prepared;
        let mut rows = parameters.into_iter();
        let mut answer = executor.run(&sql, rows.next().unwrap_or_default()).await?;
        for row in rows {
            let next = executor.run(&sql, row).await?;
            answer.rows = answer.rows.chain(next.rows).boxed();
        }
        Ok(answer)
    }

    /// Runs to the end and drops rows. Returns how many rows a statement changed, which none does yet.
    async fn finish(answer: Answer) -> Result<i64, Status> {
        answer.rows.try_for_each(|_: RecordBatch| async { Ok(()) }).await?;
        Ok(0)
    }
}

fn session_name<T>(request: &Request<T>) -> String {
    let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    match (token.and_then(|value| value.strip_prefix("Bearer ")), request.remote_addr()) {
        (Some(token), _) => format!("token {token}"),
        (None, Some(address)) => format!("connection {address}"),
        (None, None) => "connection".to_owned(),
    }
}

#[derive(Deserialize)]
struct ProgressRequest {
    query: String,
}

#[tonic::async_trait]
impl FlightSqlService for FrontDoor {
    type FlightService = Self;

    /// Mints a session. There is no authentication, so any credentials will do.
    async fn do_handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        let token = uuid::Uuid::new_v4().simple().to_string();
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
        let answer = self.executor(&request).run(&query.query, vec![]).await;
        self.offer(answer, request.into_inner())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let prepared = self.prepared.find(&query.prepared_statement_handle)?;
        let answer = self.run_prepared(&self.executor(&request), prepared).await;
        self.offer(answer, request.into_inner())
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.offer(metadata::catalogs(query), request.into_inner())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.offer(metadata::schemas(query), request.into_inner())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let session = self.session(&request);
        let answer = metadata::tables(query, &self.catalog, session.context()).await;
        self.offer(answer, request.into_inner())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.offer(metadata::table_types(query), request.into_inner())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.offer(metadata::sql_info(query), request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(Response::new(messages(self.answers.take(&ticket.statement_handle)?)))
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
        Self::finish(self.executor(&request).run(&update.query, vec![]).await?).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = query.prepared_statement_handle;
        self.prepared.bind(&handle, parameters(request).await?)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        update: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let executor = self.executor(&request);
        let Prepared { sql, .. } = self.prepared.find(&update.prepared_statement_handle)?;
        let prepared = Prepared { sql, parameters: parameters(request).await? };
        Self::finish(self.run_prepared(&executor, prepared).await?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let sql = number_placeholders(&query.query);
        let described = self.executor(&request).describe(&sql).await?;
        let handle = self.prepared.add(sql)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema: described.schema.as_deref().map(encode_schema).transpose()?.unwrap_or_default(),
            parameter_schema: encode_schema(&described.parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        self.prepared.close(&query.prepared_statement_handle);
        Ok(())
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let body: Vec<u8> = match request.get_ref().r#type.as_str() {
            PROGRESS => self.progress(&request.get_ref().body).await?,
            CLOSE_SESSION => {
                self.sessions.close(&session_name(&request));
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
        let progress = self.engine.progress(QueryId(query)).await?;
        let progress =
            progress.ok_or_else(|| Status::not_found(format!("there is no query {query}, or it ended long ago")))?;
        serde_json::to_vec(&progress).map_err(|error| Status::internal(error.to_string()))
    }
}

/// The rows of parameters that a client sent, matched by position.
async fn parameters(request: Request<PeekableFlightDataStream>) -> Result<Vec<Vec<ScalarValue>>, Status> {
    let messages: BoxStream<'static, Result<FlightData, Status>> = request.into_inner().boxed();
    let batches: Vec<RecordBatch> =
        FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into)).try_collect().await?;
    let mut rows = vec![];
    for batch in batches {
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
