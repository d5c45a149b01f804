//! Connections to the scheduler's port. Each has a number, by which the client on it is known, and its end is told.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// How long a new connection may take to speak HTTP/2 (10 s: a handshake takes two round trips).
const GREETING: Duration = Duration::from_secs(10);
/// What a client sends first: the preface of HTTP/2 and the head of its settings.
const GREETING_BYTES: usize = 24 + 9;

/// The number of a connection, which no other connection of this process has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// The next number.
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Hears that connections have ended.
pub(crate) trait Ended: Send + Sync + 'static {
    fn ended(&self, connection: ConnectionId);
}

/// One connection.
pub(crate) struct Connection {
    id: ConnectionId,
    stream: TcpStream,
    ended: Arc<dyn Ended>,
    /// Bytes that have been read, and when enough of them must be there; `None` once they are.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, ended: Arc<dyn Ended>) -> Self {
        let greeting = Some((0, Box::pin(tokio::time::sleep(GREETING))));
        Self { id: ConnectionId::next(), stream, ended, greeting }
    }

    /// Fails once the client has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((_, deadline)) = &mut self.greeting else { return Poll::Pending };
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not speak HTTP/2 in time")))
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionId;

    fn connect_info(&self) -> ConnectionId {
        self.id
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ended.ended(self.id);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.poll_silence(context),
            Poll::Ready(read) => {
                let more = buffer.filled().len() - before;
                if let Some((bytes, _)) = &mut self.greeting {
                    *bytes += more;
                }
                self.greeting = self.greeting.take().filter(|(bytes, _)| *bytes < GREETING_BYTES);
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
