//! The store of one bucket, container or host. It chooses the section of the configuration by the path of each request,
//! and says in one sentence why a request failed.

mod aws;
mod backends;
mod connection;
mod errors;
mod pace;
mod requests;

use std::fmt::{Debug, Display, Formatter};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::OnceCell;

use crate::cache::BlockCache;
use crate::config::LocationConfig;
use crate::listing::{tagged, visible, visible_level};
use crate::location::Scheme;
use crate::usage::{Usage, Whole};
pub(crate) use connection::Connector;
use errors::Place;

/// Bytes up to which a range is received as a whole if its reader needs all of it (64 MiB).
const MAX_WHOLE: u64 = 1 << 26;
/// Bytes up to which any range is received as a whole (1 MiB, such as a footer). Rows of longer ranges, such as those of a
/// text file, are read while they arrive.
const SHORT: u64 = 1 << 20;

/// A bucket, container or host.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub scheme: Scheme,
    /// The scheme as it was written, and `://`, and the authority.
    pub url: String,
    pub authority: String,
    /// Whether it is read with the options of a table, which are only for the table's locations.
    pub is_of_table: bool,
}

/// The store of a bucket.
#[derive(Clone)]
pub(crate) struct RemoteStore(Arc<Routes>);

struct Routes {
    bucket: Bucket,
    connector: Connector,
    cache: Option<Arc<BlockCache>>,
    /// One for each section, the longest prefix first. The last one is for all other paths.
    routes: Vec<Route>,
}

/// The store for the paths below a prefix.
struct Route {
    prefix: Path,
    config: LocationConfig,
    /// Whether no request for such a path is sent.
    is_refused: bool,
    /// Built for the first request, because that may ask the cloud for the region.
    store: OnceCell<Arc<dyn ObjectStore>>,
}

impl RemoteStore {
    pub(crate) fn new(
        bucket: Bucket,
        sections: Vec<(Path, LocationConfig)>,
        connector: Connector,
        cache: Option<Arc<BlockCache>>,
    ) -> Self {
        let route = |(prefix, config)| Route { prefix, config, is_refused: false, store: OnceCell::new() };
        let mut routes: Vec<_> = sections.into_iter().map(route).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.parts().count()));
        if routes.last().is_none_or(|route| route.prefix != Path::default()) {
            let others = route((Path::default(), LocationConfig::default()));
            routes.push(Route { is_refused: bucket.is_of_table, ..others });
        }
        Self(Arc::new(Routes { bucket, connector, cache, routes }))
    }
}

impl RemoteStore {
    async fn read(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(usage) = options.extensions.get::<Usage>().cloned() else {
            return self.request(path, options).await;
        };
        let found = connection::counted(usage.clone(), self.request(path, options)).await?;
        let payload = match found.payload {
            GetResultPayload::Stream(bytes) => {
                let count = move |bytes: &Bytes| usage.add_bytes(bytes.len());
                GetResultPayload::Stream(bytes.inspect_ok(count).boxed())
            }
            file => file,
        };
        Ok(GetResult { payload, ..found })
    }

    /// Reads until all bytes are there. The threads that compute take no part in it.
    async fn read_whole(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let (store, path, usage) = (self.clone(), path.clone(), options.extensions.get::<Usage>().cloned());
        let read = async move {
            let found = store.request(&path, options).await?;
            let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
            let bytes = found.bytes().await?;
            Ok(received(bytes, meta, range, attributes))
        };
        let read = async move {
            let Some(usage) = usage else { return read.await };
            let found = connection::counted(usage.clone(), read).await?;
            usage.add_bytes((found.range.end - found.range.start) as usize);
            Ok(found)
        };
        let reading = {
            let _io = self.0.connector.io().enter();
            SpawnedTask::spawn(read)
        };
        reading.join().await.map_err(|source| object_store::Error::JoinError { source })?
    }

    async fn request(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.0.in_time(path, self.0.at(path).await?.get_opts(path, options)).await;
        let found = found.map_err(|error| self.0.explained(error, "read", path))?;
        let payload = match found.payload {
            GetResultPayload::Stream(bytes) => {
                let (store, path) = (self.clone(), path.clone());
                let bytes = self.0.each_in_time(&path, bytes);
                let explained = move |error| store.0.explained(error, "read", &path);
                GetResultPayload::Stream(bytes.map_err(explained).boxed())
            }
            file => file,
        };
        Ok(GetResult { meta: tagged(found.meta, &self.0.bucket.url), payload, ..found })
    }
}

/// The error of a store that said nothing within `deadline`.
fn silent(deadline: Duration) -> object_store::Error {
    let source = format!("the store sent nothing for {} s", deadline.as_secs()).into();
    object_store::Error::Generic { store: "remote", source }
}

/// A result whose bytes are there.
fn received(bytes: Bytes, meta: ObjectMeta, range: Range<u64>, attributes: Attributes) -> GetResult {
    let payload = GetResultPayload::Stream(stream::once(std::future::ready(Ok(bytes))).boxed());
    GetResult { payload, meta, range, attributes }
}

impl Routes {
    fn route(&self, path: &Path) -> &Route {
        let route = self.routes.iter().find(|route| path.prefix_matches(&route.prefix));
        route.expect("the last route is for all paths")
    }

    /// The store for requests about `path`.
    async fn at(&self, path: &Path) -> Result<&Arc<dyn ObjectStore>> {
        let route = self.route(path);
        if route.is_refused {
            let problem = "the options of a table are only for the table's locations".to_owned();
            return Err(self.explained(requests::invalid(problem), "opened", path));
        }
        let build = || backends::build(&self.bucket, &route.config, &self.connector);
        route.store.get_or_try_init(build).await.map_err(|error| self.explained(error, "opened", path))
    }

    /// Names the content of a file: two files with one name differ in their endpoint or in their tag.
    fn identity(&self, path: &Path, tag: &str) -> String {
        let endpoint = self.route(path).config.endpoint.as_deref().unwrap_or_default();
        format!("{endpoint} {}/{path} {tag}", self.bucket.url)
    }

    /// Fails if the store cannot tell which files there are.
    fn check_listings(&self, path: &Path) -> Result<()> {
        match self.bucket.scheme {
            Scheme::Http | Scheme::Https => {
                let (path, source) = (path.to_string(), "HTTP servers have no listings".into());
                Err(self.explained(
                    object_store::Error::NotFound { path: path.clone(), source },
                    "listed",
                    &path.into(),
                ))
            }
            _ => Ok(()),
        }
    }

    /// How long a step of a request to `path` may take, if the client of the store has no deadlines of its own.
    fn deadline(&self, path: &Path) -> Duration {
        match self.bucket.scheme {
            Scheme::Hdfs => self.route(path).config.request_timeout(),
            _ => Duration::MAX,
        }
    }

    async fn in_time<T>(&self, path: &Path, request: impl Future<Output = Result<T>>) -> Result<T> {
        let deadline = self.deadline(path);
        tokio::time::timeout(deadline, request).await.unwrap_or_else(|_| Err(silent(deadline)))
    }

    /// `items`, of which none may take longer than the deadline.
    fn each_in_time<T: Send + 'static>(
        &self,
        path: &Path,
        items: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let deadline = self.deadline(path);
        if deadline == Duration::MAX {
            return items;
        }
        let next = move |mut items: BoxStream<'static, Result<T>>| async move {
            match tokio::time::timeout(deadline, items.next()).await {
                Ok(item) => item.map(|item| (item, items)),
                Err(_) => Some((Err(silent(deadline)), stream::empty().boxed())),
            }
        };
        stream::unfold(items, next).boxed()
    }

    /// `error` as a sentence about the location.
    fn explained(&self, error: object_store::Error, action: &'static str, path: &Path) -> object_store::Error {
        let place = Place { bucket: &self.bucket, path, action, config: &self.route(path).config };
        place.explain(error)
    }
}

impl Debug for RemoteStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteStore").field("bucket", &self.0.bucket.url).finish_non_exhaustive()
    }
}

/// The URL of the bucket.
impl Display for RemoteStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.bucket.url)
    }
}

#[async_trait]
impl ObjectStore for RemoteStore {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let limit = if options.extensions.get::<Whole>().is_some() { MAX_WHOLE } else { SHORT };
        let range = match &options.range {
            Some(GetRange::Bounded(range)) if range.end.saturating_sub(range.start) <= limit => range.clone(),
            _ => return self.read(path, options).await,
        };
        let cached = self.0.cache.as_ref().zip(options.if_match.as_ref()).zip(options.extensions.get::<Usage>());
        let Some(((cache, tag), usage)) = cached else { return self.read_whole(path, options).await };
        let file = self.0.identity(path, tag);
        let read = |range| {
            let options = GetOptions { range: Some(GetRange::Bounded(range)), ..options.clone() };
            async { self.read_whole(path, options).await?.bytes().await }
        };
        let bytes = cache.get(&file, range.clone(), usage, read).await?;
        // A scan looks only at the bytes.
        let (location, e_tag) = (path.clone(), Some(tag.clone()));
        let meta = ObjectMeta { location, e_tag, size: range.end, last_modified: Default::default(), version: None };
        Ok(received(bytes, meta, range, Attributes::default()))
    }

    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.0.at(path).await?.put_opts(path, payload, options).await;
        put.map_err(|error| self.0.explained(error, "written", path))
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.0.at(path).await?.put_multipart_opts(path, options).await;
        upload.map_err(|error| self.0.explained(error, "written", path))
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Path| {
            let store = store.clone();
            async move {
                let deleted = store.0.at(&path).await?.delete(&path).await;
                deleted.map_err(|error| store.0.explained(error, "deleted", &path))?;
                Ok(path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let path = prefix.clone().unwrap_or_default();
        let listed = async move {
            store.0.check_listings(&path)?;
            let listed = store.0.each_in_time(&path, store.0.at(&path).await?.list(prefix.as_ref()));
            let listed = visible(listed, prefix.as_ref(), &store.0.bucket.url);
            let listed = listed.map_err(move |error| store.0.explained(error, "listed", &path));
            Ok::<_, object_store::Error>(listed.boxed())
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.0.check_listings(&path)?;
        let listed = self.0.in_time(&path, self.0.at(&path).await?.list_with_delimiter(prefix)).await;
        let listed = listed.map_err(|error| self.0.explained(error, "listed", &path))?;
        Ok(visible_level(listed, prefix, &self.0.bucket.url))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.0.at(from).await?.copy_opts(from, to, options).await;
        copied.map_err(|error| self.0.explained(error, "copied", from))
    }
}
