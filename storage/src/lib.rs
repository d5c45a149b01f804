//! The stores that tables are read from: local files, S3, Google Cloud Storage, Azure Blob Storage, HTTP and HDFS.
//!
//! ```text
//!   URL + [storage."…"] sections ──Stores──> LocalFiles                    file
//!                                        └─> RemoteStore ──one per section──> object_store's store
//!                                                 └── BlockCache, on executors with --cache-dir
//! ```
//!
//! The scheduler and the executors each have [`Stores`]. DataFusion asks them for the store of a URL's scheme and
//! authority. Sections may be about a prefix within a bucket, so a [`RemoteStore`](remote::RemoteStore) chooses by the
//! path of each request.

mod allowed;
mod cache;
mod config;
mod listing;
mod local_files;
mod location;
mod remote;
mod secret;
mod stores;
mod table_store;
mod usage;

pub use allowed::Allowed;
pub use cache::BlockCache;
pub use config::{LocationConfig, StorageConfig};
pub use location::{Location, Scheme};
pub use secret::{Secret, SecretSource};
pub use stores::Stores;
pub use table_store::{TableStore, in_table_store, names_table_store};
pub use usage::{Usage, Whole};
