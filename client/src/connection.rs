//! A connection to a scheduler, with a session of its own.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, HandshakeRequest};
use futures::{StreamExt, TryStreamExt};
use hwacha_proto::{PROGRESS_ACTION, Progress, ProgressRequest};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::{Error, ErrorKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Received bytes of one result that may wait for the reader (8 MiB). At this limit, flow control stops the server.
const RESULT_WINDOW_BYTES: u32 = 8 << 20;
/// Received bytes of all results together that may wait (the maximum of HTTP/2). With a smaller window, results that
/// nobody reads could stop all others. See docs/decisions/011.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// A connection with a session of its own. Cheap to clone; clones share the session.
#[derive(Clone, Debug)]
pub struct Connection {
    client: FlightServiceClient<Channel>,
    /// `HOST:PORT`, for error texts.
    address: Arc<str>,
    token: MetadataValue<Ascii>,
}

impl Connection {
    /// Connects to `grpc://HOST:PORT` (or `http://`, `grpc+tcp://`) and opens a session.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let address = address(url)?;
        let mut client = FlightServiceClient::new(channel(url, &address).await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let token = tokio::time::timeout(CONNECT_TIMEOUT, handshake(&mut client))
            .await
            .map_err(|_| unreachable_server(&address, None))?
            .map_err(|status| Error::from_server(&address, status))?;
        Ok(Self { client, address: address.into(), token })
    }

    /// The progress of the query with this id. The server knows a query for some time after its end.
    pub async fn progress(&self, query: &str) -> Result<Progress, Error> {
        let body = serde_json::to_vec(&ProgressRequest { query: query.to_owned() }).map_err(Error::internal)?;
        let action = Action { r#type: PROGRESS_ACTION.to_owned(), body: body.into() };
        let results = self.client.clone().do_action(self.request(action)).await;
        let mut results = results.map_err(|status| self.error(status))?.into_inner();
        let result = results.try_next().await.map_err(|status| self.error(status))?;
        let result = result.ok_or_else(|| Status::internal("the server did not answer"))?;
        serde_json::from_slice(&result.body).map_err(Error::internal)
    }

    /// The names of the server's tables and views.
    pub async fn tables(&self) -> Result<Vec<String>, Error> {
        let sql =
            "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1";
        let mut query = self.query(sql).await?;
        let mut names = vec![];
        while let Some(batch) = query.next().await? {
            let column = batch.column(0);
            let column: &arrow::array::StringArray = arrow::array::cast::AsArray::as_string(column.as_ref());
            names.extend(column.iter().flatten().map(str::to_owned));
        }
        Ok(names)
    }

    pub(crate) fn error(&self, status: Status) -> Error {
        Error::from_server(&self.address, status)
    }

    pub(crate) fn client(&self) -> FlightServiceClient<Channel> {
        self.client.clone()
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// A channel to the server at `address`, the `HOST:PORT` of `url`.
pub(crate) async fn channel(url: &str, address: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| bad_url(url))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(RESULT_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(source)) => Err(unreachable_server(address, Some(Box::new(source)))),
        Err(_) => Err(unreachable_server(address, None)),
    }
}

async fn handshake(client: &mut FlightServiceClient<Channel>) -> Result<MetadataValue<Ascii>, Status> {
    let hello = HandshakeRequest::default();
    let response = client.handshake(futures::stream::once(async { hello }).boxed()).await?;
    let token = response.metadata().get("authorization").cloned();
    token.ok_or_else(|| Status::failed_precondition("the server opened no session; is it a Hwacha scheduler?"))
}

/// `HOST:PORT` of a URL.
pub(crate) fn address(url: &str) -> Result<String, Error> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad_url(url))?;
    let address = rest.trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match (scheme, port) {
        ("grpc" | "grpc+tcp" | "http", Some(_)) if !address.contains('/') => Ok(address.to_owned()),
        _ => Err(bad_url(url)),
    }
}

fn bad_url(url: &str) -> Error {
    Error::invalid(format!("\"{url}\" is not the URL of a scheduler; write it like grpc://127.0.0.1:50050"))
}

fn unreachable_server(address: &str, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!(
        "cannot connect to a scheduler at {address}; check the address, or start one with `hwacha scheduler --listen \
         {address}`"
    );
    Error { kind: ErrorKind::Unavailable, message, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        assert_eq!(address("grpc://127.0.0.1:50050").expect("a good URL"), "127.0.0.1:50050");
        assert_eq!(address("http://host:1/").expect("a good URL"), "host:1");
        for bad in ["127.0.0.1:50050", "grpc://host", "ftp://host:1", "grpc://host:99999", "grpc://host:1/path"] {
            let error = address(bad).expect_err(bad);
            assert!(error.message.contains(bad), "{error}");
        }
    }
}
