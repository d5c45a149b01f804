//! Durable state as one small trait, so that a fleet's backend can take the place of one machine's.

mod local;

pub(crate) use local::LocalStore;

use crate::error::Error;

/// Records by key. Keys are paths such as `catalog/orders`; a record is written whole and durable before a call returns.
pub(crate) trait Store: Send + Sync + 'static {
    /// The record, if there is one.
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Replaces a record, or removes it, if it is still `expected`. Says whether it was.
    fn compare_and_set(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, Error>;

    /// Where a record is kept, for people.
    fn place(&self, key: &str) -> String;

    /// The keys below a prefix, sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>, Error>;
}
