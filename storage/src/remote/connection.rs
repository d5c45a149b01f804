//! HTTP connections to stores. They run on the threads of the process's main runtime, because the threads that compute
//! may be busy for long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use http::header::RANGE;
use http::response::Parts;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task_local;

use super::pace::{Pace, Speed};
use crate::usage::Usage;

/// Maximum requests of a process at once (256). Further requests wait.
const MAX_REQUESTS: usize = 256;
/// Frames of a response that wait for their reader (16). At this number the connection is not read any further.
const QUEUE: usize = 16;
/// Maximum bytes of a page of a listing (64 MiB; a page of 1,000 names has less than 1 MiB).
const MAX_PAGE_BYTES: usize = 64 << 20;

task_local! {
    static READ: CountedRead;
}

/// A read of a scan. It may take several HTTP requests: retries, and requests for tokens.
struct CountedRead {
    usage: Usage,
    has_begun: AtomicBool,
}

impl CountedRead {
    /// Counts an HTTP request of this read; an error if it is a retry and the scan has none left.
    fn count(&self, request: &HttpRequest) -> Result<(), HttpError> {
        // Requests for tokens have no range.
        let is_retry = request.headers().contains_key(RANGE) && self.has_begun.swap(true, Ordering::Relaxed);
        if is_retry && !self.usage.retry() { Err(NoRetries.into()) } else { Ok(()) }
    }
}

/// Runs `read`, whose HTTP requests count for `usage`.
pub(super) async fn counted<T>(usage: Usage, read: impl Future<Output = T>) -> T {
    usage.add_request();
    READ.scope(CountedRead { usage, has_begun: AtomicBool::new(false) }, read).await
}

/// Makes HTTP clients that share the limit of requests.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    io: Handle,
    permits: Arc<Semaphore>,
    /// How long a store may be silent: until an answer begins, and between its parts.
    silence: Duration,
    speed: Arc<Speed>,
}

impl Connector {
    /// A connector whose connections run on `io`.
    pub(crate) fn new(io: Handle) -> Self {
        Self { io, permits: Arc::new(Semaphore::new(MAX_REQUESTS)), silence: Duration::MAX, speed: Arc::default() }
    }

    /// The same connector for a store that may be silent for so long.
    pub(super) fn with_silence(&self, silence: Duration) -> Self {
        Self { silence, speed: Arc::default(), ..self.clone() }
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

/// The scan has no retries left.
#[derive(Debug, thiserror::Error)]
#[error("the store answered too many requests of this query with errors; it is overloaded or broken")]
struct NoRetries;

impl From<NoRetries> for HttpError {
    fn from(none: NoRetries) -> Self {
        Self::new(HttpErrorKind::Unknown, none)
    }
}

#[async_trait]
impl HttpService for Connection {
    /// Sends a request. Dropping the response ends the transfer.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        READ.try_with(|read| read.count(&request)).unwrap_or(Ok(()))?;
        let is_listing = is_listing(&request);
        let (head, received) = oneshot::channel();
        let (frames, body) = mpsc::channel(QUEUE);
        let transfer = {
            let _io = self.connector.io.enter();
            SpawnedTask::spawn(transfer(self.client.clone(), request, self.connector.clone(), head, frames))
        };
        let parts = received.await.map_err(|_| HttpError::from(Closed))??;
        if let Some(gap) = self.connector.speed.gap() {
            let _ = READ.try_with(|read| read.usage.set_gap(gap));
        }
        let body = ReceivedBody { frames: body, has_ended: false, _transfer: transfer };
        let body = match is_listing {
            true => whole(body).await?.into(),
            false => HttpResponseBody::new(body),
        };
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// Whether a request asks for a page of a listing. object_store does not try again when the body of such an answer
/// breaks off.
fn is_listing(request: &HttpRequest) -> bool {
    request.uri().query().is_some_and(|query| query.contains("list-type=") || query.contains("comp=list"))
}

/// All bytes of a body. After any error the request may be sent again.
async fn whole(body: ReceivedBody) -> Result<Bytes, HttpError> {
    let received = Limited::new(body, MAX_PAGE_BYTES).collect().await;
    Ok(received.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, Broken(error)))?.to_bytes())
}

/// An answer broke off.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(Box<dyn std::error::Error + Send + Sync>);

/// Sends a request, and passes on its answer as far as there is a reader.
async fn transfer(
    client: HttpClient,
    request: HttpRequest,
    connector: Connector,
    head: oneshot::Sender<Result<Parts, HttpError>>,
    frames: mpsc::Sender<Result<Option<Frame<Bytes>>, HttpError>>,
) {
    let mut permit = Some(connector.permits.acquire_owned().await.expect("it is never closed"));
    let mut pace = Pace::new(&connector.speed, connector.silence);
    let mut body = match pace.head(client.execute(request)).await {
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
        let frame = pace.frame(&mut body).await;
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
