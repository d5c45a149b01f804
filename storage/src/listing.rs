//! Which files of a listing may belong to a table, and how files with the same name are told apart.
//!
//! Names that begin with `_` or `.` are not files of a table (`_SUCCESS`, `_delta_log/`, `.part-0.crc`). Listings
//! leave them out, with everything below directories of such names. They can still be read by their full names.
//!
//! DataFusion's caches, and the plans that it encodes, identify a file by its path, size and time. Another file can
//! replace it with the same size and time: archives and copies keep times, and the times of S3 are whole seconds. Two
//! buckets can have files with one path. So the time of a file here depends on its store and its entity tag. This time
//! reaches all caches of footers and statistics, on executors too.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, Result};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The files of a listing that may belong to a table.
pub(crate) fn visible(
    listed: BoxStream<'static, Result<ObjectMeta>>,
    prefix: Option<&Path>,
    store: &str,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let (prefix, store) = (prefix.cloned(), store.to_owned());
    let is_visible = move |file: &ObjectMeta| std::future::ready(!is_hidden(&file.location, prefix.as_ref()));
    listed.try_filter(is_visible).map_ok(move |file| tagged(file, &store)).boxed()
}

/// The files and folders of a listing that may belong to a table.
pub(crate) fn visible_level(listed: ListResult, prefix: Option<&Path>, store: &str) -> ListResult {
    let ListResult { objects, common_prefixes } = listed;
    let objects = objects.into_iter().filter(|file| !is_hidden(&file.location, prefix));
    let objects = objects.map(|file| tagged(file, store)).collect();
    let common_prefixes = common_prefixes.into_iter().filter(|folder| !is_hidden(folder, prefix)).collect();
    ListResult { objects, common_prefixes }
}

/// Whether one of the names in a path below `prefix` begins with `_` or `.`. A partition's directory such as
/// `_year=2020` is not hidden, because the name of a column may begin with `_`.
fn is_hidden(path: &Path, prefix: Option<&Path>) -> bool {
    let above = prefix.map_or(0, |prefix| prefix.parts().count());
    path.parts().skip(above).any(|name| {
        let name = name.as_ref();
        name.starts_with('.') || name.starts_with('_') && !name.contains('=')
    })
}

/// The file with a time that depends on the URL of its store and its tag: their hash makes the time later by less than a
/// second.
///
/// If the store knows neither a tag nor a time, as some HTTP servers, nothing tells a replaced file apart. Each look at
/// such a file gives another time, so no cache finds it again.
pub(crate) fn tagged(mut file: ObjectMeta, store: &str) -> ObjectMeta {
    let mut hasher = DefaultHasher::new();
    (store, &file.e_tag).hash(&mut hasher);
    if file.e_tag.is_none() && file.last_modified.timestamp() == 0 {
        LOOKS.fetch_add(1, Ordering::Relaxed).hash(&mut hasher);
        SystemTime::now().hash(&mut hasher);
    }
    file.last_modified += Duration::from_nanos(hasher.finish() % NANOS_PER_SECOND);
    file
}

/// Counts the looks at files without a tag and a time.
static LOOKS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_stores_and_contents_have_other_times() {
        let file = |tag: Option<&str>, seconds| ObjectMeta {
            location: Path::from("a.parquet"),
            last_modified: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).expect("a time").into(),
            size: 1,
            e_tag: tag.map(str::to_owned),
            version: None,
        };
        let time = |tag, seconds, store| tagged(file(tag, seconds), store).last_modified;
        assert_eq!(time(Some("x"), 9, "s3://a"), time(Some("x"), 9, "s3://a"));
        assert_eq!(time(None, 9, "http://a"), time(None, 9, "http://a"));
        assert_ne!(time(Some("x"), 9, "s3://a"), time(Some("y"), 9, "s3://a"));
        assert_ne!(time(Some("x"), 9, "s3://a"), time(Some("x"), 9, "s3://b"));
        assert_ne!(time(None, 9, "http://a"), time(None, 9, "http://b"));
        assert_ne!(time(None, 0, "http://a"), time(None, 0, "http://a"), "nothing tells these files apart");
    }
}
