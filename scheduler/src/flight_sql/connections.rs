//! Connections to the scheduler's port. The number of a connection identifies the client on it. `Ended` is told when
//! a connection ends.

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

/// Maximum time until a new connection has begun to speak HTTP/2 (10 s: a handshake takes two round trips).
const GREETING: Duration = Duration::from_secs(10);
/// Bytes that a client sends first: the HTTP/2 preface (24) and the header of its SETTINGS frame (9).
const GREETING_BYTES: usize = 24 + 9;

/// The number of a connection. It is unique within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub connection: ConnectionId,
    /// Whether the peer has a loopback address.
    pub is_on_this_machine: bool,
}

/// Is told when a connection ends.
pub(crate) trait Ended: Send + Sync + 'static {
    fn ended(&self, connection: ConnectionId);
}

/// One connection.
pub(crate) struct Connection {
    id: ConnectionId,
    stream: TcpStream,
    ended: Arc<dyn Ended>,
    /// The number of bytes read so far, and the deadline for `GREETING_BYTES`. `None` once they have been read.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, ended: Arc<dyn Ended>) -> Self {
        let greeting = Some((0, Box::pin(tokio::time::sleep(GREETING))));
        Self { id: ConnectionId::next(), stream, ended, greeting }
    }

    /// Fails if the deadline has passed and the first bytes have not been read.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((_, deadline)) = &mut self.greeting else { return Poll::Pending };
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not speak HTTP/2 in time")))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let is_on_this_machine = self.stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        Peer { connection: self.id, is_on_this_machine }
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
