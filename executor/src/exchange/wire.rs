//! Flight's `DoGet` over HTTP/2, with fewer copies than through a gRPC library: what is sent are the buffers of the arrays
//! themselves, and what comes is copied once, to where Arrow wants it aligned.
//!
//! On the wire this is gRPC and Flight as they are: other clients read from these servers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::error::ArrowError;
use arrow_flight::{FlightData, Ticket};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{self, Stream};
use futures::{StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hwacha_proto::MAX_MESSAGE_BYTES;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tonic::transport::Channel;
use tonic::{Code, Status};

pub(super) const SERVICE: &str = "arrow.flight.protocol.FlightService";
const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
const GRPC: &str = "application/grpc";
/// Before each message: whether it is compressed, and its bytes.
const PREFIX_BYTES: usize = 5;
const MAX_TICKET_BYTES: usize = 64 << 10;
const TICKET_TIMEOUT: Duration = Duration::from_secs(10);
/// The field of `FlightData` that holds the arrays. It is the last.
const BODY_FIELD: u32 = 1000;
/// Smaller buffers are copied together: a frame of its own costs more.
const SHARED_BYTES: usize = 32 << 10;

/// A buffer of Arrow's as the owner of bytes.
struct Owner(Buffer);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of one message, by what is written at a time.
pub(super) fn message(header: Bytes, body: Vec<Buffer>) -> Result<Vec<Bytes>, ArrowError> {
    let body_bytes: usize = body.iter().map(Buffer::len).sum();
    let mut fields = FlightData { data_header: header, ..FlightData::default() }.encode_to_vec();
    encode_key(BODY_FIELD, WireType::LengthDelimited, &mut fields);
    encode_varint(body_bytes as u64, &mut fields);
    let mut copied = prefixed(fields.len() + body_bytes)?;
    let is_small = |buffer: &&Buffer| buffer.len() < SHARED_BYTES;
    copied.reserve(fields.len() + body.iter().filter(is_small).map(Buffer::len).sum::<usize>());
    copied.put_slice(&fields);
    let mut parts = vec![];
    for buffer in body {
        if is_small(&&buffer) {
            copied.put_slice(&buffer);
        } else {
            parts.extend([copied.split().freeze(), Bytes::from_owner(Owner(buffer))]);
        }
    }
    parts.push(copied.freeze());
    parts.retain(Buf::has_remaining);
    Ok(parts)
}

/// What stands before a message of so many bytes.
fn prefixed(bytes: usize) -> Result<BytesMut, ArrowError> {
    let too_large = || ArrowError::IpcError(format!("a message of {bytes} bytes is too large to be sent"));
    let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes as usize <= MAX_MESSAGE_BYTES).ok_or_else(too_large)?;
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
    prefix.put_u8(0);
    prefix.put_u32(bytes);
    Ok(prefix)
}

/// What a request asks for.
///
/// # Errors
///
/// `Unimplemented` for what is not `DoGet`; `InvalidArgument` for what is not one ticket.
pub(super) async fn ticket(request: Request<Body>) -> Result<Bytes, Status> {
    if request.uri().path() != DO_GET {
        return Err(Status::unimplemented("this is an executor; connect to the scheduler"));
    }
    let body =
        tokio::time::timeout(TICKET_TIMEOUT, Limited::new(request.into_body(), MAX_TICKET_BYTES).collect()).await;
    let body = body.map_err(|_| Status::deadline_exceeded("no ticket came in time"))?;
    let no_ticket = || Status::invalid_argument("the request does not hold one ticket");
    let mut received = Received::default();
    received.push(body.map_err(|_| no_ticket())?.to_bytes());
    let ticket: Ticket = received.message()?.ok_or_else(no_ticket)?;
    Ok(ticket.ticket)
}

/// The answer that these messages are, each by its parts. An error ends it.
pub(super) fn response(messages: impl Stream<Item = Result<Vec<Bytes>, Status>> + Send + 'static) -> Response<Body> {
    let parts = messages.map_ok(|parts| stream::iter(parts.into_iter().map(Ok))).try_flatten();
    let frames = stream::unfold(Some(Box::pin(parts)), |parts| async move {
        let mut parts = parts?;
        let (frame, rest) = match parts.next().await {
            Some(Ok(part)) => (Frame::data(part), Some(parts)),
            Some(Err(status)) => (end(&status), None),
            None => (end(&Status::ok("")), None),
        };
        Some((Result::<_, Infallible>::Ok(frame), rest))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(GRPC));
    response
}

fn end(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // What cannot be added is left out; the code can.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

/// Asks for what a ticket names.
///
/// # Errors
///
/// The server's, or `Unavailable` where there is none.
pub(super) async fn do_get(
    mut channel: Channel,
    ticket: Ticket,
) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send, Status> {
    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    let mut body = prefixed(ticket.encoded_len()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    ticket.encode(&mut body).map_err(|error| Status::internal(error.to_string()))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(DO_GET)
        .header(header::CONTENT_TYPE, GRPC)
        .header(header::TE, "trailers")
        .body(Body::new(Full::new(body.freeze())))
        .expect("all of it is valid");
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(failed)?;
    let response = channel.call(request).await.map_err(failed)?;
    match (Status::from_header_map(response.headers()), response.status()) {
        (Some(status), _) if status.code() != Code::Ok => Err(status),
        (_, StatusCode::OK) => Ok(messages(response.into_body())),
        (_, other) => Err(Status::unavailable(format!("the executor answered with HTTP status {other}"))),
    }
}

/// The messages of an answer. One that stops without saying how it ended is an error.
pub(super) fn messages(body: Body) -> impl Stream<Item = Result<FlightData, Status>> + Send {
    stream::try_unfold((body, Received::default()), |(mut body, mut received)| async move {
        loop {
            if let Some(message) = received.message()? {
                return Ok(Some((message, (body, received))));
            }
            let cut_short = || Status::unavailable("the answer ended before it was whole");
            match body.frame().await.ok_or_else(cut_short)??.into_data() {
                Ok(data) => received.push(data),
                Err(trailers) => {
                    let trailers = trailers.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&trailers).ok_or_else(cut_short)?;
                    return match status.code() {
                        Code::Ok if received.has_remaining() => Err(cut_short()),
                        Code::Ok => Ok(None),
                        _ => Err(status),
                    };
                }
            }
        }
    })
}

/// What has come and has not been taken.
#[derive(Debug, Default)]
struct Received {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Received {
    fn push(&mut self, part: Bytes) {
        self.bytes += part.len();
        self.parts.extend(Some(part).filter(Buf::has_remaining));
    }

    /// The next message, once it is whole.
    fn message<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let Some((is_compressed, bytes)) = self.prefix() else { return Ok(None) };
        if is_compressed || bytes > MAX_MESSAGE_BYTES {
            let reason = format!("a message of {bytes} bytes, compressed: {is_compressed}, is not accepted");
            return Err(Status::out_of_range(reason));
        }
        if self.bytes < PREFIX_BYTES + bytes {
            return Ok(None);
        }
        self.advance(PREFIX_BYTES);
        let message = M::decode((&mut *self).take(bytes));
        message.map(Some).map_err(|error| Status::internal(format!("a message cannot be decoded: {error}")))
    }

    fn prefix(&self) -> Option<(bool, usize)> {
        let mut bytes = self.parts.iter().flatten().copied();
        let is_compressed = bytes.next()? != 0;
        let mut length = [0; 4];
        for byte in &mut length {
            *byte = bytes.next()?;
        }
        Some((is_compressed, u32::from_be_bytes(length) as usize))
    }
}

impl Buf for Received {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes = self.bytes.checked_sub(bytes).expect("no more than there is");
        let mut left = bytes;
        while let Some(part) = self.parts.front_mut().filter(|_| left > 0) {
            let taken = part.len().min(left);
            part.advance(taken);
            left -= taken;
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
    }

    /// To where arrays may lie: they need not be copied again.
    fn copy_to_bytes(&mut self, bytes: usize) -> Bytes {
        assert!(bytes <= self.bytes, "no more than there is");
        let mut copied = MutableBuffer::with_capacity(bytes);
        while copied.len() < bytes {
            let chunk = self.chunk();
            let taken = chunk.len().min(bytes - copied.len());
            copied.extend_from_slice(&chunk[..taken]);
            self.advance(taken);
        }
        Bytes::from_owner(Owner(copied.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"metadata";

    /// A message of a small, a large and another small buffer, and the large one.
    fn example() -> (Vec<Bytes>, Buffer, FlightData) {
        let large = Buffer::from_iter((0..SHARED_BYTES).map(|n| n as u8));
        let body = vec![Buffer::from(b"before"), large.clone(), Buffer::from(b"after")];
        let data_body = body.iter().flat_map(|buffer| buffer.as_slice()).copied().collect::<Vec<_>>().into();
        let data = FlightData { data_header: HEADER.into(), data_body, ..FlightData::default() };
        (message(HEADER.into(), body).expect("it is small enough"), large, data)
    }

    /// What is read from an answer of these frames.
    async fn read(frames: Vec<Frame<Bytes>>) -> Result<Vec<FlightData>, Status> {
        let body = StreamBody::new(stream::iter(frames.into_iter().map(Result::<_, Infallible>::Ok)));
        messages(Body::new(body)).try_collect().await
    }

    fn frames(bytes: &[u8], size: usize) -> Vec<Frame<Bytes>> {
        bytes.chunks(size).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect()
    }

    #[tokio::test]
    async fn messages_are_found_wherever_frames_are_cut() {
        let (parts, _, data) = example();
        let bytes = parts.concat().repeat(3);
        for size in [1, 7, 4096, bytes.len()] {
            let mut frames = frames(&bytes, size);
            frames.push(end(&Status::ok("")));
            let read = read(frames).await.expect("it is whole");
            assert_eq!(read, vec![data.clone(); 3], "in frames of {size}");
            assert!(read.iter().all(|data| data.data_body.as_ptr() as usize % 64 == 0), "in frames of {size}");
        }
    }

    #[test]
    fn large_buffers_are_sent_as_they_are() {
        let (parts, large, data) = example();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[1].as_ptr(), large.as_ptr());
        let message = parts.concat();
        assert_eq!(FlightData::decode(&message[PREFIX_BYTES..]), Ok(data));
    }

    #[tokio::test]
    async fn answers_that_stop_are_errors() {
        let whole = example().0.concat();
        let cut = "the answer ended before it was whole";
        let status = |frames| async { read(frames).await.expect_err("it is not whole") };
        assert_eq!(status(frames(&whole, 1 << 20)).await.message(), cut);
        let mut part = frames(&whole[..whole.len() - 1], 1 << 20);
        part.push(end(&Status::ok("")));
        assert_eq!(status(part).await.message(), cut);
        let mut failed = frames(&whole, 1 << 20);
        failed.push(end(&Status::aborted("the output is gone: \u{e9}")));
        let status = status(failed).await;
        assert_eq!((status.code(), status.message()), (Code::Aborted, "the output is gone: \u{e9}"));
    }

    #[tokio::test]
    async fn messages_beyond_the_limit_are_refused_before_they_come() {
        let prefix = |is_compressed: u8, bytes: u32| [&[is_compressed][..], &bytes.to_be_bytes()].concat();
        for prefix in [prefix(0, u32::MAX), prefix(1, 8)] {
            let status = read(frames(&prefix, 8)).await.expect_err("it is refused");
            assert_eq!(status.code(), Code::OutOfRange, "{status}");
        }
        assert!(prefixed(MAX_MESSAGE_BYTES + 1).is_err());
    }
}
