//! Watches the answers of a store: ends those that are silent or too slow, and measures how fast the store is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use object_store::client::{HttpError, HttpErrorKind, HttpResponse, HttpResponseBody};
use tokio::time::{Instant, timeout};

/// Fewest bytes per second that a store may send (1,000). A store that sends fewer is as good as silent.
const SLOWEST: u64 = 1000;
/// Bytes of an answer from which its speed is measured (256 KiB). Smaller answers arrive together with their head.
const MEASURED: u64 = 1 << 18;
/// Share of the newest answer in the averages (1/4).
const NEWEST: f64 = 0.25;
/// Bounds of [`Speed::gap`] in bytes (64 KiB and 1 MiB). The upper one limits what is read and thrown away.
const GAPS: (f64, f64) = (65_536.0, 1_048_576.0);
/// Divisor of the bytes that arrive until an answer begins (4). Requests run at the same time, so joining two of them saves
/// no round trip; it saves the cost of a request.
const PARALLEL: f64 = 4.0;

/// How fast a store is, averaged over its answers.
#[derive(Debug, Default)]
pub(super) struct Speed(Mutex<Averages>);

#[derive(Clone, Copy, Debug, Default)]
struct Averages {
    /// Seconds until an answer begins.
    first: Option<f64>,
    /// Bytes per second of one answer.
    rate: Option<f64>,
}

impl Speed {
    fn add(&self, first: Duration, bytes: u64, rest: Duration) {
        let mut averages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let average = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old + NEWEST * (new - old)));
        averages.first = average(averages.first, first.as_secs_f64());
        if bytes >= MEASURED {
            averages.rate = average(averages.rate, bytes as f64 / rest.as_secs_f64().max(1e-6));
        }
    }

    /// A quarter of the bytes that the store sends in the time until an answer begins; `None` before both are measured.
    /// Ranges that are closer to each other are read by one request.
    ///
    /// Example: an answer begins after 30 ms and brings 80 MB/s, so ranges that are less than 600 kB apart are joined.
    pub(super) fn gap(&self) -> Option<u64> {
        let Averages { first, rate } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some((first? * rate? / PARALLEL).clamp(GAPS.0, GAPS.1) as u64)
    }
}

/// The store sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the store sent nothing for {} s", .0.as_secs())]
struct Silent(Duration);

/// The store sent too few bytes.
#[derive(Debug, thiserror::Error)]
#[error("the store sent only {bytes} bytes in {} s", .within.as_secs())]
struct Slow {
    bytes: u64,
    within: Duration,
}

fn late(error: impl std::error::Error + Send + Sync + 'static) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, error)
}

/// Reads one answer. Only time in which the store is waited for counts.
pub(super) struct Pace<'a> {
    speed: &'a Speed,
    silence: Duration,
    first: Duration,
    bytes: u64,
    waited: Duration,
    /// What `bytes` and `waited` were when the speed was last looked at.
    looked_at: (u64, Duration),
}

impl<'a> Pace<'a> {
    /// A store may be silent for `silence`, and must send [`SLOWEST`] bytes per second over such a time.
    pub(super) fn new(speed: &'a Speed, silence: Duration) -> Self {
        Self { speed, silence, first: Duration::ZERO, bytes: 0, waited: Duration::ZERO, looked_at: (0, Duration::ZERO) }
    }

    /// Waits for the head of the answer.
    pub(super) async fn head(
        &mut self,
        answer: impl Future<Output = Result<HttpResponse, HttpError>>,
    ) -> Result<HttpResponse, HttpError> {
        let asked = Instant::now();
        let answer = timeout(self.silence, answer).await.unwrap_or_else(|_| Err(late(Silent(self.silence))));
        self.first = asked.elapsed();
        answer
    }

    /// Waits for the next frame of the body; `None` at its end.
    pub(super) async fn frame(&mut self, body: &mut HttpResponseBody) -> Result<Option<Frame<Bytes>>, HttpError> {
        let asked = Instant::now();
        let frame = timeout(self.silence, body.frame()).await.map_err(|_| late(Silent(self.silence)))?.transpose()?;
        self.waited += asked.elapsed();
        match &frame {
            Some(frame) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            None => self.speed.add(self.first, self.bytes, self.waited),
        }
        let (bytes, within) = (self.bytes - self.looked_at.0, self.waited - self.looked_at.1);
        if within >= self.silence {
            if (bytes as f64) < SLOWEST as f64 * within.as_secs_f64() && !body.is_end_stream() {
                return Err(late(Slow { bytes, within }));
            }
            self.looked_at = (self.bytes, self.waited);
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::runtime::SpawnedTask;

    use super::*;

    #[test]
    fn the_gap_is_a_share_of_what_arrives_during_a_round_trip() {
        let speed = Speed::default();
        assert_eq!(speed.gap(), None);
        speed.add(Duration::from_millis(30), 8_000_000, Duration::from_millis(100));
        assert_eq!(speed.gap(), Some(600_000));
        (0..50).for_each(|_| speed.add(Duration::from_millis(1), 8_000_000, Duration::from_millis(100)));
        assert!((65_536..66_000).contains(&speed.gap().expect("measured")), "{:?}", speed.gap());
    }

    #[tokio::test]
    async fn a_store_that_trickles_is_given_up() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, HttpError>>(1);
        let _sending = SpawnedTask::spawn(async move {
            while sender.send(Ok(Bytes::from_static(b"x"))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let frames = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?.map(Frame::data), receiver))
        });
        let mut body = HttpResponseBody::new(http_body_util::StreamBody::new(Box::pin(frames)));
        let speed = Speed::default();
        let mut pace = Pace::new(&speed, Duration::from_millis(200));
        let began = Instant::now();
        let error = loop {
            if let Err(error) = pace.frame(&mut body).await {
                break error;
            }
        };
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(format!("{error:?}").contains("Slow"), "{error:?}");
    }
}
