//! Which files of a listing may belong to a table, and how files with the same name are told apart.
//!
//! Names that begin with `_` or `.` are not files of a table (`_SUCCESS`, `_delta_log/`, `.part-0.crc`). Listings
//! leave them out, with everything below directories of such names. They can still be read by their full names.
//!
//! DataFusion's caches, and the plans that it encodes, identify a file by its path, size and time. Another file can
//! replace it with the same size and time: archives and copies keep times, and the times of S3 are whole seconds. So
//! the time of a file here depends on its entity tag. This time reaches all caches of footers and statistics, on
//! executors too.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, Result};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The files of a listing that may belong to a table.
pub(crate) fn visible(
    listed: BoxStream<'static, Result<ObjectMeta>>,
    prefix: Option<&Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let prefix = prefix.cloned();
    let is_visible = move |file: &ObjectMeta| std::future::ready(!is_hidden(&file.location, prefix.as_ref()));
    listed.try_filter(is_visible).map_ok(tagged).boxed()
}

/// The files and folders of a listing that may belong to a table.
pub(crate) fn visible_level(listed: ListResult, prefix: Option<&Path>) -> ListResult {
    let ListResult { objects, common_prefixes } = listed;
    let objects = objects.into_iter().filter(|file| !is_hidden(&file.location, prefix)).map(tagged).collect();
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

/// The file with a time that depends on its tag: a hash of the tag makes the time later by less than a second.
pub(crate) fn tagged(mut file: ObjectMeta) -> ObjectMeta {
    if let Some(tag) = &file.e_tag {
        let mut hasher = DefaultHasher::new();
        tag.hash(&mut hasher);
        file.last_modified += Duration::from_nanos(hasher.finish() % NANOS_PER_SECOND);
    }
    file
}
