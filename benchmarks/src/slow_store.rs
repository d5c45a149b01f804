//! A store with the latency and the speed of a network: the files of a folder, as an S3 server gives them.
//!
//! Each request waits before its first byte, and each answer is sent at a limited speed. All buckets have the same
//! files. Requests and bytes are counted by bucket, so each engine reads a bucket of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::BufRead;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hwacha_storage::{LocationConfig, StorageConfig};
use hwacha_workloads::suite::Suite;
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, LAST_MODIFIED, RANGE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;

/// Bytes that are sent at once (128 KiB: 1.6 ms at 80 MB/s).
const CHUNK: u64 = 1 << 17;
/// The time of all files. Files that are measured do not change.
const WRITTEN: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The suite with its tables in a bucket of the store.
pub(crate) fn in_bucket(suite: &Suite, bucket: &str) -> Suite {
    let url = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        PathBuf::from(format!("s3://{bucket}/{name}"))
    };
    let tables = suite.tables.iter().map(|(table, path)| (table.clone(), url(path))).collect();
    Suite { tables, queries: suite.queries.clone() }
}

/// How a bucket of the store at the URL `endpoint` is reached.
pub(crate) fn configuration(endpoint: &str, bucket: &str) -> Result<StorageConfig> {
    let section = LocationConfig {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        allow_http: true,
        anonymous: true,
        ..LocationConfig::default()
    };
    Ok(StorageConfig::new(BTreeMap::from([(format!("s3://{bucket}"), section)]))?)
}

/// What was asked of a bucket.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Asked {
    pub requests: u64,
    pub bytes: u64,
}

impl Asked {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, bytes: self.bytes - before.bytes }
    }
}

struct Store {
    folder: PathBuf,
    first_byte: Duration,
    bytes_per_second: u64,
    asked: Mutex<BTreeMap<String, Asked>>,
}

/// Serves the folder until standard input ends. For each line of standard input it prints the [`Asked`] of all buckets.
pub(crate) async fn serve(folder: PathBuf, first_byte: Duration, bytes_per_second: u64) -> Result<()> {
    let store = Arc::new(Store { folder, first_byte, bytes_per_second, asked: Mutex::default() });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("ready {}", listener.local_addr()?);
    let counted = Arc::clone(&store);
    let ended = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lock().lines() {
            let asked = counted.asked.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{}", serde_json::to_string(&*asked).expect("numbers are JSON"));
        }
    });
    let accept = async {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            connection.set_nodelay(true)?;
            let store = Arc::clone(&store);
            let answer = service_fn(move |request| {
                let store = Arc::clone(&store);
                async move { Ok::<_, Infallible>(store.answer(request).await) }
            });
            // A client may close its connection at any time.
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
            connections.spawn(async move { drop(connection.await) });
        }
    };
    tokio::select! {
        _ = ended => Ok(()),
        failed = accept => failed,
    }
}

impl Store {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = request.uri().query().unwrap_or_default();
        let answer = match *request.method() {
            Method::GET if key.is_empty() => self.list(bucket, query),
            Method::GET => self.file(key, request.headers(), true),
            Method::HEAD => self.file(key, request.headers(), false),
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        };
        let (answer, bytes) = answer.unwrap_or_else(|status| (with_status(status), 0));
        self.count(bucket, bytes);
        tokio::time::sleep(self.first_byte).await;
        answer
    }

    fn count(&self, bucket: &str, bytes: u64) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = asked.entry(bucket.to_owned()).or_default();
        asked.requests += 1;
        asked.bytes += bytes;
    }

    /// The answer to ListObjectsV2, whole.
    fn list(&self, bucket: &str, query: &str) -> std::result::Result<(Response<Body>, u64), StatusCode> {
        let parameters: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let prefix = parameters.get("prefix").map_or("", |prefix| prefix);
        let mut text = format!("<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>");
        let entries = std::fs::read_dir(&self.folder).map_err(|_| StatusCode::NOT_FOUND)?;
        let mut files: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        files.sort();
        for name in files.iter().filter(|name| name.starts_with(prefix)) {
            let Ok((size, tag)) = self.size(name) else { continue };
            text += &format!(
                "<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>{}</ETag><Size>{size}</Size></Contents>",
                tag.replace('"', "&quot;")
            );
        }
        text += "</ListBucketResult>";
        let bytes = text.len() as u64;
        Ok((Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()), bytes))
    }

    fn size(&self, key: &str) -> std::result::Result<(u64, String), StatusCode> {
        let found = std::fs::metadata(self.folder.join(key)).map_err(|_| StatusCode::NOT_FOUND)?;
        if !found.is_file() {
            return Err(StatusCode::NOT_FOUND);
        }
        Ok((found.len(), format!("\"{:x}-{key}\"", found.len())))
    }

    fn file(
        &self,
        key: &str,
        headers: &HeaderMap,
        with_body: bool,
    ) -> std::result::Result<(Response<Body>, u64), StatusCode> {
        let (size, tag) = self.size(key)?;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if header(IF_MATCH).is_some_and(|wanted| wanted != tag) {
            return Err(StatusCode::PRECONDITION_FAILED);
        }
        let range =
            header(RANGE).map(|range| part(range, size).ok_or(StatusCode::RANGE_NOT_SATISFIABLE)).transpose()?;
        let (start, end) = range.clone().map_or((0, size), |range| (range.start, range.end));
        let answer = Response::builder()
            .header(ETAG, tag)
            .header(LAST_MODIFIED, WRITTEN)
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_LENGTH, end - start);
        let answer = match range {
            Some(_) => answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1)),
            None => answer,
        };
        let (body, bytes) = match with_body {
            true => (self.body(&self.folder.join(key), start..end)?, end - start),
            false => (empty(), 0),
        };
        Ok((answer.body(body).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?, bytes))
    }

    /// The bytes of a file, at the speed of the store from the first byte on.
    fn body(&self, path: &Path, range: Range<u64>) -> std::result::Result<Body, StatusCode> {
        let file = Arc::new(std::fs::File::open(path).map_err(|_| StatusCode::NOT_FOUND)?);
        let (rate, first, from) = (self.bytes_per_second as f64, Instant::now() + self.first_byte, range.start);
        let chunks =
            (range.start..range.end).step_by(CHUNK as usize).map(move |start| start..range.end.min(start + CHUNK));
        let frames = stream::iter(chunks).then(move |chunk| {
            let file = Arc::clone(&file);
            let due = first + Duration::from_secs_f64((chunk.end - from) as f64 / rate);
            async move {
                let mut bytes = vec![0; (chunk.end - chunk.start) as usize];
                file.read_exact_at(&mut bytes, chunk.start)?;
                tokio::time::sleep_until(due).await;
                Ok(Frame::data(Bytes::from(bytes)))
            }
        });
        Ok(StreamBody::new(frames).boxed_unsync())
    }
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

fn with_status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = status;
    answer
}

/// The bytes that the header `Range` asks for: `bytes=0-99`, `bytes=100-` or `bytes=-100`.
fn part(range: &str, size: u64) -> Option<Range<u64>> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (start, end) {
        ("", last) => size.saturating_sub(last.parse().ok()?)..size,
        (start, "") => start.parse().ok()?..size,
        (start, end) => start.parse().ok()?..size.min(end.parse::<u64>().ok()? + 1),
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_three_forms() {
        assert_eq!(part("bytes=0-9", 100), Some(0..10));
        assert_eq!(part("bytes=90-200", 100), Some(90..100));
        assert_eq!(part("bytes=90-", 100), Some(90..100));
        assert_eq!(part("bytes=-30", 100), Some(70..100));
        assert_eq!(part("bytes=100-", 100), None);
        assert_eq!(part("lines=1-2", 100), None);
    }
}
