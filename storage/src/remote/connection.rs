//! HTTP connections to stores. They run on the threads of the process's main runtime, because the threads that compute
//! may be busy for long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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
}

impl Connector {
    /// A connector whose connections run on `io`.
    pub(crate) fn new(io: Handle) -> Self {
        Self { io, permits: Arc::new(Semaphore::new(MAX_REQUESTS)) }
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

#[async_trait]
impl HttpService for Connection {
    /// Sends a request. Dropping the response ends the transfer.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (client, permits) = (self.client.clone(), Arc::clone(&self.connector.permits));
        let (head, received) = oneshot::channel();
        let (frames, body) = mpsc::channel(QUEUE);
        let transfer = async move {
            let _permit = permits.acquire_owned().await.expect("it is never closed");
            let mut body = match client.execute(request).await {
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
            while let Some(frame) = body.frame().await {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        };
        let transfer = {
            let _io = self.connector.io.enter();
            SpawnedTask::spawn(transfer)
        };
        let closed = || HttpError::new(HttpErrorKind::Interrupted, Closed);
        let parts = received.await.map_err(|_| closed())??;
        let body = HttpResponseBody::new(ReceivedBody { frames: body, _transfer: transfer });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// The body of a response, whose frames arrive through a channel.
struct ReceivedBody {
    frames: mpsc::Receiver<Result<Frame<Bytes>, HttpError>>,
    /// Aborted when the body is dropped.
    _transfer: SpawnedTask<()>,
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.frames.poll_recv(cx)
    }
}
