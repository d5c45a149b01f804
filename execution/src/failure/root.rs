//! Finds the root cause of an error, by the types of the errors in its chain.

use std::error::Error;
use std::io;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use hwacha_model::Failure;

use super::errors::{ExchangeReadError, FileError};

/// The innermost error of a known type. An I/O error within an error of an object store does not count.
pub(super) enum Root<'a> {
    Exchange(&'a ExchangeReadError),
    /// A failure that was already classified.
    Failure(&'a Failure),
    File(&'a FileError),
    Io(&'a io::Error),
    Store(&'a object_store::Error),
    Arrow(&'a ArrowError),
    DataFusion(&'a DataFusionError),
}

impl<'a> Root<'a> {
    pub(super) fn of(error: &'a DataFusionError) -> Self {
        let mut root = Self::DataFusion(error);
        let mut next: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref() {
                root = Self::DataFusion(error);
            } else if let Some(error) = error.downcast_ref::<Arc<DataFusionError>>() {
                root = Self::DataFusion(error);
            } else if let Some(error) = error.downcast_ref() {
                root = Self::Arrow(error);
            } else if let Some(error) = error.downcast_ref() {
                root = Self::Store(error);
            } else if let Some(error) = error.downcast_ref() {
                root = Self::File(error);
            } else if let Some(error) = error.downcast_ref() {
                root = Self::Exchange(error);
            } else if let Some(error) = error.downcast_ref() {
                root = Self::Failure(error);
            } else if let Some(error) = error.downcast_ref()
                && !matches!(root, Self::Store(_))
            {
                root = Self::Io(error);
            }
            next = error.source();
        }
        root
    }
}
