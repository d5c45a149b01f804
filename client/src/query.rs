//! A statement's answer, in batches of rows.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo};
use futures::TryStreamExt;
use prost::Message;
use serde::Deserialize;
use std::sync::Arc;
use tonic::Status;

use crate::connection::Connection;
use crate::error::Error;

/// The metadata that the server sends with the schema of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Description {
    query: Option<String>,
    command: Option<String>,
}

/// A statement's answer. Dropping it before its end cancels the query.
pub struct Query {
    schema: SchemaRef,
    description: Description,
    rows: FlightRecordBatchStream,
    connection: Connection,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("description", &self.description).finish()
    }
}

impl Connection {
    /// Runs one statement. The returned [`Query`] has the rows of a query. Any other statement has been carried out
    /// when this function returns.
    pub async fn query(&self, sql: &str) -> Result<Query, Error> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let info = self.client().get_flight_info(self.request(descriptor)).await;
        Query::open(self, info.map_err(|status| self.error(status))?.into_inner()).await
    }
}

impl Query {
    async fn open(connection: &Connection, info: FlightInfo) -> Result<Self, Error> {
        let description = serde_json::from_slice(&info.app_metadata).unwrap_or_default();
        let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
        let ticket = ticket.ok_or_else(|| Status::internal("the server's answer has no ticket"))?;
        let schema = Schema::try_from(info).map_err(Error::internal)?;
        let messages = connection.client().do_get(connection.request(ticket)).await;
        let messages = messages.map_err(|status| connection.error(status))?.into_inner();
        let rows = FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into));
        Ok(Self { schema: Arc::new(schema), description, rows, connection: connection.clone() })
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The id of the query, if the query runs on executors.
    pub fn id(&self) -> Option<&str> {
        self.description.query.as_deref()
    }

    /// The name of the statement, if it is a command without rows. The command has already been carried out.
    pub fn command(&self) -> Option<&str> {
        self.description.command.as_deref()
    }

    /// The next batch of rows; `None` after the last batch.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.rows.try_next().await.map_err(|error| match error {
            FlightError::Tonic(status) => self.connection.error(*status),
            other => Error::internal(other),
        })
    }

    /// All remaining rows.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = vec![];
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }
}
