//! Locations: URLs of files and of prefixes, in one form.

use std::fmt;
use std::path::{Component, PathBuf};

use object_store::path::Path;
use url::Url;

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    File,
    S3,
    Gcs,
    Azure,
    Http,
    Https,
    Hdfs,
}

/// The schemes of URLs, and the store of each.
const SCHEMES: [(&str, Scheme); 13] = [
    ("file", Scheme::File),
    ("s3", Scheme::S3),
    ("s3a", Scheme::S3),
    ("gs", Scheme::Gcs),
    ("gcs", Scheme::Gcs),
    ("az", Scheme::Azure),
    ("azure", Scheme::Azure),
    ("abfs", Scheme::Azure),
    ("abfss", Scheme::Azure),
    ("adl", Scheme::Azure),
    ("http", Scheme::Http),
    ("https", Scheme::Https),
    ("hdfs", Scheme::Hdfs),
];

impl Scheme {
    /// The scheme of that name.
    ///
    /// # Errors
    ///
    /// A sentence with the schemes that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        SCHEMES.iter().find(|(known, _)| *known == name).map(|(_, scheme)| *scheme).ok_or_else(|| {
            let known: Vec<_> = SCHEMES.iter().map(|(known, _)| *known).collect();
            format!("there is no store for {name}:// locations; there are {}", known.join(", "))
        })
    }
}

/// A file, or a prefix of files, in a store.
///
/// Example: `s3a://lake/sales/../orders/` is the prefix `orders` of the bucket `lake` in S3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub scheme: Scheme,
    /// The name of a table's own store, which stands before the bucket.
    pub table: Option<String>,
    /// Bucket, container (with account) or host (with port).
    pub authority: String,
    pub path: Path,
}

impl Location {
    /// Parses an absolute URL. `..` and `.` are resolved.
    ///
    /// # Errors
    ///
    /// A sentence if `text` is not such a URL, or its scheme is unknown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("\"{text}\" is no location: {error}"))?;
        Self::of(&url)
    }

    /// The location of a URL.
    ///
    /// # Errors
    ///
    /// As [`Location::parse`].
    pub fn of(url: &Url) -> Result<Self, String> {
        let scheme = Scheme::parse(url.scheme())?;
        // The text of the URL may have a secret, so these errors do not show it.
        if url.query().is_some() || url.fragment().is_some() {
            let names = "write %3F and %23 if a name has these characters; signed URLs are not supported";
            return Err(format!("a location has no ? and #; {names}"));
        }
        if url.password().is_some() {
            return Err("a location has no password; put it into a [storage] section".to_owned());
        }
        // Before an Azure account stands a container, and the names of other stores' users mean nothing.
        let names_table = matches!(scheme, Scheme::S3 | Scheme::Gcs) && !url.username().is_empty();
        let table = names_table.then(|| url.username().to_owned());
        let start = if names_table { url::Position::BeforeHost } else { url::Position::BeforeUsername };
        let authority = url[start..url::Position::BeforePath].to_owned();
        if authority.is_empty() && scheme != Scheme::File {
            return Err(format!("\"{url}\" names no bucket or host; write {}://NAME/PATH", url.scheme()));
        }
        let path = Path::from_url_path(url.path()).map_err(|error| format!("\"{url}\" is no location: {error}"))?;
        Ok(Self { scheme, table, authority, path })
    }

    /// The location of a local path. Relative paths begin at the working directory. `..` is resolved as in URLs: it
    /// takes the name before it away, even if that name is a link.
    ///
    /// # Errors
    ///
    /// A sentence if the path cannot be a location.
    pub fn of_path(path: &std::path::Path) -> Result<Self, String> {
        let invalid = |problem: String| format!("\"{}\" is no location: {problem}", path.display());
        let absolute = std::path::absolute(path).map_err(|error| invalid(error.to_string()))?;
        let mut resolved = PathBuf::new();
        for part in absolute.components() {
            match part {
                Component::ParentDir => {
                    resolved.pop();
                }
                part => resolved.push(part),
            }
        }
        let path = Path::from_absolute_path(&resolved).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { scheme: Scheme::File, table: None, authority: String::new(), path })
    }

    /// The location that `place` names: a URL, or a local path.
    ///
    /// # Errors
    ///
    /// As [`Location::parse`] and [`Location::of_path`].
    pub fn of_place(place: &str) -> Result<Self, String> {
        if is_url(place) { Self::parse(place) } else { Self::of_path(std::path::Path::new(place)) }
    }

    /// Whether `path` in the same bucket or host is this location or lies below it.
    pub fn contains(&self, path: &Path) -> bool {
        path.prefix_matches(&self.path)
    }
}

/// Whether `place` is a URL, as DataFusion decides it: a path begins with `/` or has no scheme.
fn is_url(place: &str) -> bool {
    !place.starts_with('/') && !matches!(Url::parse(place), Err(url::ParseError::RelativeUrlWithoutBase))
}

/// Without the name of a table's store.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = SCHEMES.iter().find(|(_, scheme)| *scheme == self.scheme).expect("each scheme has a name");
        write!(f, "{name}://{}/{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_have_one_form() {
        let parsed = |text| Location::parse(text).map(|location| location.to_string());
        assert_eq!(parsed("s3a://lake/sales/../orders/").as_deref(), Ok("s3://lake/orders"));
        assert_eq!(
            parsed("abfss://box@account.dfs.core.windows.net/a%20b").as_deref(),
            Ok("az://box@account.dfs.core.windows.net/a b")
        );
        assert_eq!(parsed("file:///data/x.parquet").as_deref(), Ok("file:///data/x.parquet"));
        assert_eq!(parsed("http://host:8080/x").as_deref(), Ok("http://host:8080/x"));
        let unknown = parsed("ftp://host/x").expect_err("unknown");
        assert!(unknown.starts_with("there is no store for ftp:// locations; there are file, s3,"), "{unknown}");
        for secret in ["https://host/x.parquet?sig=hush", "s3://b/data/#1.csv", "https://me:hush@host/x"] {
            let error = parsed(secret).expect_err(secret);
            assert!(error.starts_with("a location has no ") && !error.contains("hush"), "{error}");
        }
        assert!(parsed("s3:///x").expect_err("no bucket").contains("names no bucket"));
        assert!(parsed("orders.parquet").is_err());
    }

    #[test]
    fn a_prefix_contains_whole_names() {
        let prefix = Location::parse("s3://lake/sales").expect("a location");
        let contains = |path: &str| prefix.contains(&Path::from(path));
        assert!(contains("sales") && contains("sales/2026/a.parquet"));
        assert!(!contains("sales2/a.parquet") && !contains("orders"));
    }
}
