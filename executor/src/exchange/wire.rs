//! Flight's `DoGet` over HTTP/2, with fewer copies than a gRPC library makes. The sender hands large buffers of arrays
//! to HTTP/2 without a copy. The receiver copies each message once, to an address that is aligned for Arrow.
//!
//! On the wire this is plain gRPC and Flight, so other Flight clients can read from these servers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::error::ArrowError;
use arrow_flight::{FlightData, Ticket};
use bytes::buf::Take;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{self, Stream};
use futures::{StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hwacha_proto::MAX_MESSAGE_BYTES;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::memory::uncounted;

pub(super) const SERVICE: &str = "arrow.flight.protocol.FlightService";
const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
const GRPC: &str = "application/grpc";
const DETAILS: &str = "grpc-status-details-bin";
/// Bytes before each gRPC message: one byte for compression, and four for the length.
const PREFIX_BYTES: usize = 5;
/// Bytes of the largest ticket that is accepted (1 KiB: a ticket is a few numbers).
const MAX_TICKET_BYTES: usize = 1 << 10;
const TICKET_TIMEOUT: Duration = Duration::from_secs(10);
/// The field numbers of `FlightData`'s metadata and arrays. The arrays come last.
const HEADER_FIELD: u32 = 2;
const BODY_FIELD: u32 = 1000;
/// Maximum received frames that wait for the rest of their message (65,536). Tiny frames take more memory than their
/// bytes.
const MAX_PARTS: usize = 1 << 16;
/// Buffers below this size (32 KiB) are copied together: a frame of its own costs more than the copy.
const SHARED_BYTES: usize = 32 << 10;

/// Makes an Arrow buffer the owner of `Bytes`.
struct Owner(Buffer);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Messages as parts that are written one by one. Adjacent small buffers are copied into one part. A large buffer is a
/// part of its own, without a copy.
#[derive(Default)]
pub(super) struct Parts {
    whole: Vec<Bytes>,
    copied: BytesMut,
}

impl Parts {
    /// Adds a message.
    ///
    /// # Errors
    ///
    /// The message exceeds `MAX_MESSAGE_BYTES`, which no reader accepts.
    pub(super) fn push(&mut self, header: Bytes, body: Vec<Buffer>) -> Result<(), ArrowError> {
        let body_bytes: usize = body.iter().map(Buffer::len).sum();
        let fields = FlightData { data_header: header, ..FlightData::default() };
        let key_bytes = key_len(BODY_FIELD) + encoded_len_varint(body_bytes as u64);
        prefix(fields.encoded_len() + key_bytes + body_bytes, &mut self.copied)?;
        fields.encode_raw(&mut self.copied);
        encode_key(BODY_FIELD, WireType::LengthDelimited, &mut self.copied);
        encode_varint(body_bytes as u64, &mut self.copied);
        for buffer in body {
            if buffer.len() < SHARED_BYTES {
                self.copied.extend_from_slice(&buffer);
            } else {
                self.whole.extend([self.copied.split().freeze(), Bytes::from_owner(Owner(buffer))]);
            }
        }
        Ok(())
    }

    pub(super) fn into_bytes(mut self) -> Vec<Bytes> {
        self.whole.push(self.copied.freeze());
        self.whole.retain(Buf::has_remaining);
        self.whole
    }
}

/// Writes the gRPC prefix of a message that has `bytes` bytes.
fn prefix(bytes: usize, to: &mut BytesMut) -> Result<(), ArrowError> {
    if bytes > MAX_MESSAGE_BYTES {
        let reason =
            format!("rows of {bytes} bytes are too large for one message of at most {MAX_MESSAGE_BYTES} bytes");
        return Err(ArrowError::IpcError(reason));
    }
    to.put_u8(0);
    to.put_u32(bytes as u32);
    Ok(())
}

/// The ticket of a request.
///
/// # Errors
///
/// `Unimplemented` for any call but `DoGet`; `InvalidArgument` or `OutOfRange` if the body is not one ticket;
/// `DeadlineExceeded` if it does not come in time.
pub(super) async fn ticket(request: Request<Body>) -> Result<Bytes, Status> {
    if request.uri().path() != DO_GET {
        return Err(Status::unimplemented("this is an executor; connect to the scheduler"));
    }
    let body =
        tokio::time::timeout(TICKET_TIMEOUT, Limited::new(request.into_body(), MAX_TICKET_BYTES).collect()).await;
    let body = body.map_err(|_| Status::deadline_exceeded("no ticket came in time"))?;
    let no_ticket = || Status::invalid_argument("the request does not hold one ticket");
    let mut received = Received::default();
    received.push(body.map_err(|_| no_ticket())?.to_bytes())?;
    let ticket = Ticket::decode(received.message()?.ok_or_else(no_ticket)?).map_err(|_| no_ticket())?;
    if received.has_remaining() { Err(no_ticket()) } else { Ok(ticket.ticket) }
}

/// The response with these messages. Each item has the parts of its messages. An error ends the response.
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
    // Text that is no valid header is left out; the code is always sent.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

/// Asks a server for the rows that a ticket names.
///
/// # Errors
///
/// The server's status, `Unavailable` for an HTTP error without a status, or the error of the connection.
pub(super) async fn do_get(
    mut channel: Channel,
    ticket: Ticket,
) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send, Status> {
    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    let mut body = BytesMut::new();
    prefix(ticket.encoded_len(), &mut body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    ticket.encode_raw(&mut body);
    let request = Request::builder()
        .method(Method::POST)
        .uri(DO_GET)
        .header(header::CONTENT_TYPE, GRPC)
        .header(header::TE, "trailers")
        .body(Body::new(Full::new(body.freeze())))
        .expect("all of it is valid");
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(failed)?;
    let response = channel.call(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    match (status(head.headers), head.status) {
        (Some(status), _) if status.code() != Code::Ok => Err(status),
        (_, StatusCode::OK) => Ok(messages(body)),
        (_, other) => Err(Status::unavailable(format!("the executor answered with HTTP status {other}"))),
    }
}

/// The final status in headers or trailers, if they have one.
fn status(mut headers: HeaderMap) -> Option<Status> {
    // The details are not used, and tonic panics if they are not base64.
    headers.remove(DETAILS);
    Status::from_header_map(&headers)
}

/// The messages of a response. A response that ends without a status is an error.
pub(super) fn messages(body: Body) -> impl Stream<Item = Result<FlightData, Status>> + Send {
    stream::try_unfold((body, Received::default()), |(mut body, mut received)| async move {
        loop {
            if let Some(message) = received.message()? {
                let data = flight_data(message).ok_or_else(|| Status::internal("a message is not one of Flight's"))?;
                return Ok(Some((data, (body, received))));
            }
            let cut_short = || Status::unavailable("the answer ended before it was whole");
            match body.frame().await.ok_or_else(cut_short)??.into_data() {
                Ok(data) => received.push(data)?,
                Err(trailers) => {
                    let status = trailers.into_trailers().ok().and_then(status).ok_or_else(cut_short)?;
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

/// The metadata and arrays of a message; `None` if it is no message of Flight. Other fields are skipped. Groups, which
/// could be nested deeply, are not accepted.
fn flight_data(mut message: impl Buf) -> Option<FlightData> {
    let mut data = FlightData::default();
    while message.has_remaining() {
        let (field, WireType::LengthDelimited) = decode_key(&mut message).ok()? else { return None };
        let bytes = decode_varint(&mut message).ok().filter(|bytes| *bytes <= message.remaining() as u64)?;
        let value = message.copy_to_bytes(bytes as usize);
        match field {
            HEADER_FIELD => data.data_header = value,
            BODY_FIELD => data.data_body = value,
            _ => {}
        }
    }
    Some(data)
}

/// Received bytes that no message has taken yet.
#[derive(Debug, Default)]
struct Received {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Received {
    fn push(&mut self, part: Bytes) -> Result<(), Status> {
        self.bytes += part.len();
        self.parts.extend(Some(part).filter(Buf::has_remaining));
        match self.parts.len() {
            0..=MAX_PARTS => Ok(()),
            _ => Err(Status::resource_exhausted("a message in too many frames is not accepted")),
        }
    }

    /// The next message; `None` until all its bytes have come.
    fn message(&mut self) -> Result<Option<Take<&mut Self>>, Status> {
        let Some((is_compressed, bytes)) = self.prefix() else { return Ok(None) };
        if is_compressed || bytes > MAX_MESSAGE_BYTES {
            let reason = format!("a message of {bytes} bytes, compressed: {is_compressed}, is not accepted");
            return Err(Status::out_of_range(reason));
        }
        if self.bytes < PREFIX_BYTES + bytes {
            return Ok(None);
        }
        self.advance(PREFIX_BYTES);
        Ok(Some(self.take(bytes)))
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
                // A thread of the connection allocated the buffer, so it was not counted for this query.
                uncounted(|| self.parts.pop_front());
            }
        }
    }

    /// Copies to an address that is aligned for Arrow, so arrays need no further copy.
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

    /// The parts of a message whose body is a small, a large and a small buffer; the large buffer; and the decoded
    /// message.
    fn example() -> (Vec<Bytes>, Buffer, FlightData) {
        let large = Buffer::from_iter((0..SHARED_BYTES).map(|n| n as u8));
        let body = vec![Buffer::from(b"before"), large.clone(), Buffer::from(b"after")];
        let data_body = body.iter().flat_map(|buffer| buffer.as_slice()).copied().collect::<Vec<_>>().into();
        let data = FlightData { data_header: HEADER.into(), data_body, ..FlightData::default() };
        let mut parts = Parts::default();
        parts.push(HEADER.into(), body).expect("it is small enough");
        (parts.into_bytes(), large, data)
    }

    /// The messages that are read from a response with these frames.
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
            assert!(
                read.iter().all(|data| (data.data_body.as_ptr() as usize).is_multiple_of(64)),
                "in frames of {size}"
            );
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
        let start = |is_compressed: u8, bytes: u32| [&[is_compressed][..], &bytes.to_be_bytes()].concat();
        for start in [start(0, u32::MAX), start(1, 8)] {
            let status = read(frames(&start, 8)).await.expect_err("it is refused");
            assert_eq!(status.code(), Code::OutOfRange, "{status}");
        }
        assert!(prefix(MAX_MESSAGE_BYTES + 1, &mut BytesMut::new()).is_err());
        let mut crumbs = vec![Frame::data(Bytes::from(start(0, 1 << 20)))];
        crumbs.extend((0..=MAX_PARTS).map(|_| Frame::data(Bytes::from_static(&[0]))));
        let status = read(crumbs).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }

    #[tokio::test]
    async fn what_is_no_message_of_flight_is_an_error() {
        // A group, and a field that is longer than the message.
        for message in [&[0x23; 64][..], &[0x12, 9, 0]] {
            let mut bytes = BytesMut::new();
            prefix(message.len(), &mut bytes).expect("it is small enough");
            bytes.extend_from_slice(message);
            let status = read(frames(&bytes, 8)).await.expect_err("it is none");
            assert_eq!(status.code(), Code::Internal, "{status}");
        }
    }

    #[tokio::test]
    async fn details_that_are_not_base64_are_no_harm() {
        let mut trailers = HeaderMap::new();
        trailers.insert(DETAILS, header::HeaderValue::from_static("~~~"));
        trailers.insert("grpc-status", header::HeaderValue::from_static("5"));
        let status = read(vec![Frame::trailers(trailers)]).await.expect_err("it is one");
        assert_eq!(status.code(), Code::NotFound);
    }
}
