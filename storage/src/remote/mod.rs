//! The store of one bucket, container or host. It chooses the section of the configuration by the path of each request,
//! and says in one sentence why a request failed.

mod aws;
mod backends;
mod connection;
mod errors;
mod requests;

use std::fmt::{Debug, Display, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::OnceCell;

use crate::config::LocationConfig;
use crate::listing::{tagged, visible, visible_level};
use crate::location::Scheme;
pub(crate) use connection::Connector;
use errors::Place;

/// A bucket, container or host.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub scheme: Scheme,
    /// The scheme as it was written, and `://`, and the authority.
    pub url: String,
    pub authority: String,
}

/// The store of a bucket.
#[derive(Clone)]
pub(crate) struct RemoteStore(Arc<Routes>);

struct Routes {
    bucket: Bucket,
    connector: Connector,
    /// One for each section, the longest prefix first. The last one is for all other paths.
    routes: Vec<Route>,
}

/// The store for the paths below a prefix.
struct Route {
    prefix: Path,
    config: LocationConfig,
    /// Built for the first request, because that may ask the cloud for the region.
    store: OnceCell<Arc<dyn ObjectStore>>,
}

impl RemoteStore {
    pub(crate) fn new(bucket: Bucket, sections: Vec<(Path, LocationConfig)>, connector: Connector) -> Self {
        let route = |(prefix, config)| Route { prefix, config, store: OnceCell::new() };
        let mut routes: Vec<_> = sections.into_iter().map(route).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.parts().count()));
        if routes.last().is_none_or(|route| route.prefix != Path::default()) {
            routes.push(route((Path::default(), LocationConfig::default())));
        }
        Self(Arc::new(Routes { bucket, connector, routes }))
    }
}

impl Routes {
    fn route(&self, path: &Path) -> &Route {
        let route = self.routes.iter().find(|route| path.prefix_matches(&route.prefix));
        route.expect("the last route is for all paths")
    }

    /// The store for requests about `path`.
    async fn at(&self, path: &Path) -> Result<&Arc<dyn ObjectStore>> {
        let route = self.route(path);
        let build = || backends::build(&self.bucket, &route.config, &self.connector);
        route.store.get_or_try_init(build).await.map_err(|error| self.explained(error, "opened", path))
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
        let found = self.0.at(path).await?.get_opts(path, options).await;
        let found = found.map_err(|error| self.0.explained(error, "read", path))?;
        let payload = match found.payload {
            GetResultPayload::Stream(bytes) => {
                let (store, path) = (self.clone(), path.clone());
                let explained = move |error| store.0.explained(error, "read", &path);
                GetResultPayload::Stream(bytes.map_err(explained).boxed())
            }
            file => file,
        };
        Ok(GetResult { meta: tagged(found.meta, &self.0.bucket.url), payload, ..found })
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
            let listed = visible(store.0.at(&path).await?.list(prefix.as_ref()), prefix.as_ref(), &store.0.bucket.url);
            let listed = listed.map_err(move |error| store.0.explained(error, "listed", &path));
            Ok::<_, object_store::Error>(listed)
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let listed = self.0.at(&path).await?.list_with_delimiter(prefix).await;
        let listed = listed.map_err(|error| self.0.explained(error, "listed", &path))?;
        Ok(visible_level(listed, prefix, &self.0.bucket.url))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.0.at(from).await?.copy_opts(from, to, options).await;
        copied.map_err(|error| self.0.explained(error, "copied", from))
    }
}
