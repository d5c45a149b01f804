//! The answers of one client that wait to be fetched, and the Flight messages that carry them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::Status;

use super::encode::Encoder;
use crate::error::Error;
use crate::statement::{Answer, AnswerKind};

/// Maximum answers of one client that wait to be fetched (256). Further answers are refused.
const MAX_WAITING: usize = 256;

/// Answers by ticket.
#[derive(Default)]
pub(crate) struct Answers(Mutex<HashMap<Vec<u8>, (Answer, Instant)>>);

impl Answers {
    /// Stores an answer under a new ticket, and describes it.
    pub(super) fn offer(&self, answer: Answer, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let handle = uuid::Uuid::new_v4().into_bytes().to_vec();
        let ticket = TicketStatementQuery { statement_handle: handle.clone().into() };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
        let info = info(&answer.schema)?
            .with_descriptor(descriptor)
            .with_endpoint(endpoint)
            .with_app_metadata(describe(&answer.kind));
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            return Err(Status::resource_exhausted(format!(
                "{MAX_WAITING} results of this session wait to be fetched, which is the limit; fetch them, or close the session"
            )));
        }
        waiting.insert(handle, (answer, Instant::now()));
        Ok(info)
    }

    /// Removes and returns the answer of a ticket. Each answer can be fetched once.
    pub(super) fn take(&self, handle: &[u8]) -> Result<Answer, Error> {
        match self.lock().remove(handle) {
            Some((answer, _)) => Ok(answer),
            None => Err(Error::not_found(
                "the result was fetched before, has expired, or is another session's; run the query again",
            )),
        }
    }

    /// Drops answers that were not fetched for `ttl`. Their queries are canceled.
    pub(super) fn expire(&self, ttl: Duration) {
        let expired: Vec<_> = self.lock().extract_if(|_, (_, since)| since.elapsed() >= ttl).collect();
        drop(expired);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, (Answer, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `FlightInfo` without endpoints.
pub(super) fn info(schema: &Schema) -> Result<FlightInfo, Status> {
    FlightInfo::new().try_with_schema(schema).map_err(|error| Status::internal(error.to_string()))
}

fn describe(kind: &AnswerKind) -> String {
    match kind {
        AnswerKind::Query(query) => format!("{{\"query\":\"{query}\"}}"),
        AnswerKind::Command(name) => format!("{{\"command\":\"{name}\"}}"),
        AnswerKind::Local => "{}".to_owned(),
    }
}

/// An answer as Flight messages: the schema, then the rows.
pub(super) fn messages(answer: Answer) -> BoxStream<'static, Result<FlightData, Status>> {
    let Answer { schema, rows, .. } = answer;
    let (mut encoder, schema) = Encoder::begin(&schema);
    let rows = rows.map(move |batch| {
        let messages = encoder.encode(&batch?)?;
        Ok::<_, Error>(stream::iter(messages.into_iter().map(Ok::<_, Error>)))
    });
    stream::iter([Ok(schema)]).chain(rows.try_flatten()).map_err(Status::from).boxed()
}
