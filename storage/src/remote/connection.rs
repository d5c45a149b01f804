//! HTTP connections to stores. They run on the threads of the process's main runtime, because the threads that compute
//! may be busy for long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Maximum requests of a process at once (256). Further requests wait.
const MAX_REQUESTS: usize = 256;
/// Frames of a response that wait for their reader (16). At this number the connection is not read any further.
const QUEUE: usize = 16;

/// Makes HTTP clients that share the limit of requests.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    io: Handle,
    permits: Arc<Semaphore>,
    /// How long a store may be silent: until an answer begins, and between its parts.
    silence: Duration,
}

impl Connector {
    /// A connector whose connections run on `io`.
    pub(crate) fn new(io: Handle) -> Self {
        Self { io, permits: Arc::new(Semaphore::new(MAX_REQUESTS)), silence: Duration::MAX }
    }

    /// The same connector for a store that may be silent for so long.
    pub(super) fn with_silence(&self, silence: Duration) -> Self {
        Self { silence, ..self.clone() }
    }

    pub(super) fn io(&self) -> &Handle {
        &self.io
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Connection { client, connector: self.clone() }))
    }
}

#[derive(Debug)]
struct Connection {
    client: HttpClient,
    connector: Connector,
}

/// The thread of a connection has ended.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed")]
struct Closed;

impl From<Closed> for HttpError {
    fn from(closed: Closed) -> Self {
        Self::new(HttpErrorKind::Interrupted, closed)
    }
}

/// The store sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the store sent nothing for {} s", .0.as_secs())]
struct Silent(Duration);

impl From<Silent> for HttpError {
    fn from(silent: Silent) -> Self {
        Self::new(HttpErrorKind::Timeout, silent)
    }
}

#[async_trait]
impl HttpService for Connection {
    /// Sends a request. Dropping the response ends the transfer.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (client, permits) = (self.client.clone(), Arc::clone(&self.connector.permits));
        let silence = self.connector.silence;
        let (head, received) = oneshot::channel();
        let (frames, body) = mpsc::channel(QUEUE);
        let transfer = async move {
            let mut permit = Some(permits.acquire_owned().await.expect("it is never closed"));
            let answer = tokio::time::timeout(silence, client.execute(request)).await;
            let mut body = match answer.unwrap_or_else(|_| Err(Silent(silence).into())) {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    // The caller may have been dropped.
                    let _ = head.send(Ok(parts));
                    body
                }
                Err(error) => {
                    let _ = head.send(Err(error));
                    return;
                }
            };
            loop {
                let frame = match tokio::time::timeout(silence, body.frame()).await {
                    Ok(frame) => frame.transpose(),
                    Err(_) => Err(Silent(silence).into()),
                };
                let is_last = !matches!(frame, Ok(Some(_)));
                if let Err(TrySendError::Full(frame)) = frames.try_send(frame) {
                    // Others may send requests while this answer waits for its reader.
                    permit.take();
                    if frames.send(frame).await.is_err() {
                        return;
                    }
                }
                if is_last || frames.is_closed() {
                    return;
                }
            }
        };
        let transfer = {
            let _io = self.connector.io.enter();
            SpawnedTask::spawn(transfer)
        };
        let parts = received.await.map_err(|_| HttpError::from(Closed))??;
        let body = HttpResponseBody::new(ReceivedBody { frames: body, has_ended: false, _transfer: transfer });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// The body of a response, whose frames arrive through a channel.
struct ReceivedBody {
    /// `None` is the end.
    frames: mpsc::Receiver<Result<Option<Frame<Bytes>>, HttpError>>,
    has_ended: bool,
    /// Aborted when the body is dropped.
    _transfer: SpawnedTask<()>,
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        // Readers poll again after the end.
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.frames.poll_recv(cx)).unwrap_or_else(|| Err(Closed.into()));
        self.has_ended = !matches!(frame, Ok(Some(_)));
        Poll::Ready(frame.transpose())
    }
}
