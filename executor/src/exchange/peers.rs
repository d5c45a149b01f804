//! The executors that this one reads from: a connection to each, and whether the network to it is slow.
//!
//! A reader waits for its producer, for a core or for the network, so its speed does not show the speed of the
//! network. Therefore the network is measured separately (docs/decisions/013). After 32 MiB from a peer, and again
//! after each further GiB, this executor asks the peer for bytes that need no computation. On a busy machine such reads
//! are slow, too, so they are compared with reads from this process's own port.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow_flight::{FlightData, Ticket};
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{self, Stream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Error};

use super::wire::{self, Parts};

/// Window of an HTTP/2 stream: the unread bytes of one partition of one producer (2 MiB: one stream can fill a fast
/// network).
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Window of a connection, which all streams from a peer share (the largest that HTTP/2 allows). Unread streams, for
/// example of a merge, must not use it up: they would block the streams that the merge waits for.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Bytes of the largest HTTP/2 frame (1 MiB instead of the usual 16 KiB, so there are fewer frames).
const FRAME_BYTES: u32 = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Bytes that are read from a peer before its network is first measured (32 MiB).
const FIRST_MEASURED_BYTES: u64 = 32 << 20;
/// Bytes that are read from a peer between two measurements (1 GiB).
const MEASURED_EVERY_BYTES: u64 = 1 << 30;
/// The ticket of a measurement. An executor answers it with `PIECES` messages of `PIECE` (4 of 1 MiB).
pub(super) const MEASURE: &str = "measure";
const PIECES: usize = 4;
static PIECE: [u8; 1 << 20] = [0; 1 << 20];
/// Reads of one measurement (3). The fastest one counts.
const ATTEMPTS: usize = 3;
/// The network is slow only if this process reads from its own port more than three times as fast as from the peer.
const FASTER_ALONE: f64 = 3.0;
const MEASURE_TIMEOUT: Duration = Duration::from_secs(10);
/// A network of this speed is not slow (200 MB/s: about the speed at which a core compresses, so rows arrive sooner
/// uncompressed).
const SLOW_BYTES_PER_SECOND: f64 = 200e6;

/// Connections to other executors, one each, made on the I/O runtime.
#[derive(Debug)]
pub(crate) struct Peers {
    peers: Mutex<HashMap<String, Arc<Peer>>>,
    measurements: Mutex<JoinSet<()>>,
    /// The address of this executor.
    own: String,
    io: Handle,
}

/// Another executor.
#[derive(Debug)]
pub(super) struct Peer {
    channel: Channel,
    is_slow: AtomicBool,
    /// Bytes to read until the next measurement.
    unmeasured: AtomicU64,
}

impl Peers {
    /// `own` is the address at which this process reaches its own port.
    pub(crate) fn new(own: String, io: Handle) -> Self {
        Self { peers: Mutex::default(), measurements: Mutex::default(), own, io }
    }

    pub(super) fn peer(&self, address: &str) -> Result<Arc<Peer>, Error> {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(address) {
            return Ok(Arc::clone(peer));
        }
        let _guard = self.io.enter();
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_lazy();
        let unmeasured = AtomicU64::new(FIRST_MEASURED_BYTES);
        let peer = Arc::new(Peer { channel, is_slow: AtomicBool::new(false), unmeasured });
        peers.insert(address.to_owned(), Arc::clone(&peer));
        Ok(peer)
    }

    /// Adds `bytes` to what was received from a peer. Measures the speed of the peer's network after the first 32 MiB, and
    /// then after each 1 GiB.
    pub(super) fn received(&self, peer: &Arc<Peer>, bytes: u64) {
        if peer.is_due(bytes)
            && let Ok(own) = self.peer(&self.own)
        {
            let peer = Arc::clone(peer);
            let mut measurements = lock(&self.measurements);
            while measurements.try_join_next().is_some() {}
            measurements.spawn_on(async move { peer.measure(&own).await }, &self.io);
        }
    }
}

impl Peer {
    /// Reads the output, or the bytes of a measurement, that a ticket names.
    pub(super) async fn read(
        &self,
        ticket: Bytes,
    ) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send + use<>, Status> {
        wire::do_get(self.channel.clone(), Ticket::new(ticket)).await
    }

    /// Whether the network to this peer is slower than compression.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Counts received bytes. Returns whether a measurement is due.
    fn is_due(&self, bytes: u64) -> bool {
        let before = self.unmeasured.fetch_sub(bytes, Ordering::Relaxed);
        let due = before <= bytes;
        if due {
            self.unmeasured.store(MEASURED_EVERY_BYTES, Ordering::Relaxed);
        }
        due
    }

    /// Measures whether the network is slow. If the peer answers with an error, nothing changes: its readers report the
    /// loss.
    async fn measure(&self, own: &Self) {
        let Some(speed) = self.best_speed().await else { return };
        let is_slow = speed < SLOW_BYTES_PER_SECOND
            && match (own.best_speed().await, self.best_speed().await) {
                (Some(alone), Some(again)) => alone > speed.max(again) * FASTER_ALONE,
                _ => false,
            };
        tracing::debug!(bytes_per_second = speed, is_slow, "network measured");
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// The speed of the fastest read in bytes per second; `None` after an error.
    async fn best_speed(&self) -> Option<f64> {
        let mut best = 0.0_f64;
        for _ in 0..ATTEMPTS {
            match tokio::time::timeout(MEASURE_TIMEOUT, self.bytes_per_second()).await {
                Ok(Ok(speed)) => best = best.max(speed),
                // A timeout counts as slow: 4 MiB took more than 10 s.
                Err(_) => {}
                Ok(Err(_)) => return None,
            }
            if best >= SLOW_BYTES_PER_SECOND {
                break;
            }
        }
        Some(best)
    }

    /// Measured from the first piece to the last, so the round trip does not count.
    async fn bytes_per_second(&self) -> Result<f64, Status> {
        let mut pieces = pin!(self.read(Bytes::from_static(MEASURE.as_bytes())).await?);
        pieces.try_next().await?;
        let (started, mut bytes) = (Instant::now(), 0);
        while let Some(piece) = pieces.try_next().await? {
            bytes += piece.data_body.len();
        }
        Ok(bytes as f64 / started.elapsed().as_secs_f64().max(1e-9))
    }
}

/// The answer to a measurement.
pub(super) fn pieces() -> impl Stream<Item = Result<Vec<Bytes>, Status>> + Send {
    let piece = || {
        let mut parts = Parts::default();
        parts.push(Bytes::new(), vec![Buffer::from(Bytes::from_static(&PIECE))])?;
        Ok(parts.into_bytes())
    };
    stream::iter((0..PIECES).map(move |_| piece().map_err(|error: ArrowError| Status::internal(error.to_string()))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
