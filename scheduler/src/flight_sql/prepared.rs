//! Prepared statements: a text by handle, with the parameters that were bound last.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use datafusion::common::ScalarValue;

use crate::error::Error;

/// Prepared statements at once, over all clients.
const MAX_PREPARED: usize = 100_000;

/// A prepared statement.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub sql: String,
    /// One list per row of parameters.
    pub parameters: Vec<Vec<ScalarValue>>,
}

/// All prepared statements.
#[derive(Debug, Default)]
pub(super) struct PreparedStatements(Mutex<HashMap<Vec<u8>, Prepared>>);

impl PreparedStatements {
    pub(super) fn add(&self, sql: String) -> Result<Vec<u8>, Error> {
        let mut statements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if statements.len() >= MAX_PREPARED {
            return Err(Error::Statement {
                kind: crate::error::ErrorKind::ResourcesExhausted,
                message: format!("{MAX_PREPARED} statements are prepared; close those that are not needed"),
            });
        }
        let handle = uuid::Uuid::new_v4().into_bytes().to_vec();
        statements.insert(handle.clone(), Prepared { sql, parameters: vec![] });
        Ok(handle)
    }

    pub(super) fn find(&self, handle: &[u8]) -> Result<Prepared, Error> {
        let statements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        statements
            .get(handle)
            .cloned()
            .ok_or_else(|| Error::not_found("the prepared statement does not exist or was closed"))
    }

    pub(super) fn bind(&self, handle: &[u8], parameters: Vec<Vec<ScalarValue>>) -> Result<(), Error> {
        let mut statements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let statement = statements
            .get_mut(handle)
            .ok_or_else(|| Error::not_found("the prepared statement does not exist or was closed"))?;
        statement.parameters = parameters;
        Ok(())
    }

    /// Closing twice, or what never was, does no harm.
    pub(super) fn close(&self, handle: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
    }
}
