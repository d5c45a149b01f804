//! Durable state behind one small trait. A shared backend can then replace the store of one machine.

mod local;

pub(crate) use local::LocalStore;

use crate::error::Error;

/// Records by key. Keys are paths such as `catalog/orders`. A written record is complete and durable before the call
/// returns.
pub(crate) trait Store: Send + Sync + 'static {
    /// The record, if there is one.
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// If the record is still `expected`, replaces it by `new`, or removes it if `new` is `None`. Returns whether the
    /// record was `expected`.
    fn compare_and_set(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, Error>;

    /// The location of a record, for messages.
    fn place(&self, key: &str) -> String;

    /// The keys below a prefix, sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>, Error>;
}
