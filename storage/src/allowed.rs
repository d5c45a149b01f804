//! Which locations a server may read.
//!
//! Local paths are compared after links are resolved. Example: `/data` is allowed, and `/data/x` links to `/etc`. Then
//! `/data/x/passwd` is refused.

use std::fmt::{Debug, Display, Formatter};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use hwacha_model::{Failure, FailureKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::location::{Location, Scheme};

/// The locations that may be read.
#[derive(Clone, Debug, Default)]
pub enum Allowed {
    /// All locations. For a cluster inside the process of its only user.
    #[default]
    Everything,
    /// These locations and what lies below them.
    Only(Vec<Location>),
}

impl Allowed {
    /// Fails if `location` may not be read.
    ///
    /// # Errors
    ///
    /// A failure that names the allowed locations. It does not tell whether the location exists.
    pub fn check(&self, location: &Location) -> std::result::Result<(), Failure> {
        let Self::Only(allowed) = self else { return Ok(()) };
        let real = real(location);
        let is_in = |prefix: &Location| match (self::real(prefix), &real) {
            (Some(prefix), Some(real)) => {
                prefix.scheme == real.scheme && prefix.authority == real.authority && prefix.contains(&real.path)
            }
            _ => false,
        };
        if allowed.iter().any(is_in) {
            return Ok(());
        }
        let names: Vec<_> = allowed.iter().map(Location::to_string).collect();
        let message = format!(
            "this server may not read {location}; it may read {}; its operator allows more with --allow-location",
            names.join(", ")
        );
        Err(Failure::new(FailureKind::UserError, message))
    }
}

/// A local location without links; other locations as they are. The part of a path that does not exist has no links.
/// `None` if the target of a link cannot be a location.
fn real(location: &Location) -> Option<Location> {
    if location.scheme != Scheme::File {
        return Some(location.clone());
    }
    let path = PathBuf::from(format!("/{}", location.path));
    let path = path.ancestors().find_map(|known| {
        let rest = path.strip_prefix(known).ok()?;
        Some(known.canonicalize().ok()?.join(rest))
    })?;
    Some(Location { path: Path::from_absolute_path(path).ok()?, ..location.clone() })
}

/// A store of which only allowed locations are read.
#[derive(Clone)]
pub(crate) struct AllowedStore {
    pub inner: Arc<dyn ObjectStore>,
    pub allowed: Arc<Allowed>,
    pub scheme: Scheme,
    pub authority: String,
}

impl AllowedStore {
    fn check(&self, path: &Path) -> Result<()> {
        let authority = self.authority.clone();
        let location = Location { scheme: self.scheme, table: None, authority, path: path.clone() };
        self.allowed
            .check(&location)
            .map_err(|failure| Error::PermissionDenied { path: location.to_string(), source: Box::new(failure) })
    }
}

impl Debug for AllowedStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.inner, f)
    }
}

impl Display for AllowedStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
impl ObjectStore for AllowedStore {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(path)?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.check(path)?;
        self.inner.get_ranges(path, ranges).await
    }

    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check(path)?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check(path)?;
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let checked = self.clone();
        let paths = paths.and_then(move |path| std::future::ready(checked.check(&path).map(|()| path)));
        self.inner.delete_stream(paths.boxed())
    }

    /// Lists the files of an allowed prefix. A link to a place that is not allowed is an error.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.check(&prefix.cloned().unwrap_or_default()) {
            return stream::once(std::future::ready(Err(error))).boxed();
        }
        let listed = self.inner.list(prefix);
        if self.scheme != Scheme::File {
            return listed;
        }
        let checked = self.clone();
        let check = move |file: ObjectMeta| std::future::ready(checked.check(&file.location).map(|()| file));
        listed.and_then(check).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check(&prefix.cloned().unwrap_or_default())?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_an_allowed_location_is_allowed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (data, other) = (root.path().join("data"), root.path().join("other"));
        std::fs::create_dir_all(&data).and_then(|()| std::fs::create_dir_all(&other)).expect("directories");
        std::os::unix::fs::symlink(&other, data.join("link")).expect("a link");
        let prefixes = [Location::of_path(&data), Location::parse("s3://lake/public")]
            .map(|location| location.expect("a location"));
        let allowed = Allowed::Only(prefixes.to_vec());
        let check = |location: Location| allowed.check(&location).map_err(|failure| failure.message);
        let local = |path: PathBuf| Location::of_path(&path).expect("a location");
        let remote = |url: &str| Location::parse(url).expect("a location");
        assert_eq!(check(local(data.join("a.parquet"))), Ok(()));
        assert_eq!(check(remote("s3a://lake/public/a.parquet")), Ok(()));
        for refused in [
            local(other.join("a.parquet")),
            local(data.join("link/a.parquet")),
            local(root.path().join("data2")),
            remote("s3://lake/public/../private"),
            remote("s3://lake2/public"),
            remote("gs://lake/public"),
        ] {
            let message = check(refused.clone()).expect_err("it is not allowed");
            let begin = format!("this server may not read {refused}; it may read file:///");
            assert!(
                message.starts_with(&begin)
                    && message.ends_with("s3://lake/public; its operator allows more with --allow-location"),
                "{message}"
            );
        }
        assert!(Allowed::Everything.check(&local(other)).is_ok());
    }
}
