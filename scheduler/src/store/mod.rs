//! Durable state behind one small trait, so that a shared backend can replace the store of one machine.

mod local;

pub(crate) use local::LocalStore;

use crate::error::Error;

/// Records by key. Keys are paths such as `catalog/orders`. A record is written completely and durably before a call
/// returns.
pub(crate) trait Store: Send + Sync + 'static {
    /// The record, if there is one.
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Replaces a record, or removes it if `new` is `None`, if it is still `expected`. Returns whether it was.
    fn compare_and_set(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, Error>;

    /// The location of a record, for messages.
    fn place(&self, key: &str) -> String;

    /// The keys below a prefix, sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>, Error>;
}
