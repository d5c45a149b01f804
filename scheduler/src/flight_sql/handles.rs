//! Prepared statements of Flight SQL: for each handle, the text and the parameters that the client bound last.
//! Statements of SQL's PREPARE have names and belong to the session (`session.rs`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::ScalarValue;

use crate::error::{Error, ErrorKind};

/// Maximum prepared statements of one client (1,000).
const MAX_STATEMENTS: usize = 1000;
/// Maximum bytes of the texts and parameters of all prepared statements of one client (64 MiB: one message of bound
/// parameters).
const MAX_BYTES: usize = 64 << 20;

/// A statement and the parameters that are bound to it.
#[derive(Clone, Debug)]
pub(super) struct BoundStatement {
    pub sql: Arc<str>,
    /// One list per row of parameters.
    pub parameters: Arc<[Vec<ScalarValue>]>,
}

impl BoundStatement {
    pub(super) fn new(sql: String, parameters: Vec<Vec<ScalarValue>>) -> Self {
        Self { sql: sql.into(), parameters: parameters.into() }
    }

    fn bytes(&self) -> usize {
        self.sql.len() + self.parameters.iter().flatten().map(ScalarValue::size).sum::<usize>()
    }
}

/// All prepared statements of one client.
#[derive(Debug, Default)]
pub(crate) struct StatementHandles(Mutex<Statements>);

#[derive(Debug, Default)]
struct Statements {
    by_handle: HashMap<Vec<u8>, BoundStatement>,
    bytes: usize,
}

impl StatementHandles {
    pub(super) fn add(&self, sql: String) -> Result<Vec<u8>, Error> {
        let mut statements = self.lock();
        if statements.by_handle.len() >= MAX_STATEMENTS {
            return Err(exhausted(format!(
                "this session has {MAX_STATEMENTS} prepared statements, which is the limit; close some"
            )));
        }
        let handle = uuid::Uuid::new_v4().into_bytes().to_vec();
        statements.put(handle.clone(), BoundStatement::new(sql, vec![]))?;
        Ok(handle)
    }

    pub(super) fn find(&self, handle: &[u8]) -> Result<BoundStatement, Error> {
        self.lock().by_handle.get(handle).cloned().ok_or_else(unknown)
    }

    pub(super) fn bind(&self, handle: &[u8], parameters: Vec<Vec<ScalarValue>>) -> Result<(), Error> {
        let mut statements = self.lock();
        let sql = Arc::clone(&statements.by_handle.get(handle).ok_or_else(unknown)?.sql);
        statements.put(handle.to_vec(), BoundStatement { sql, parameters: parameters.into() })
    }

    /// Closes a statement. An unknown handle is ignored.
    pub(super) fn close(&self, handle: &[u8]) {
        let mut statements = self.lock();
        if let Some(closed) = statements.by_handle.remove(handle) {
            statements.bytes -= closed.bytes();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Statements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Statements {
    fn put(&mut self, handle: Vec<u8>, statement: BoundStatement) -> Result<(), Error> {
        let before = self.by_handle.get(&handle).map_or(0, BoundStatement::bytes);
        let bytes = self.bytes - before + statement.bytes();
        if bytes > MAX_BYTES {
            return Err(exhausted(format!(
                "the prepared statements of this session and their parameters would take {bytes} bytes, the limit is {MAX_BYTES}; close some, or bind fewer rows at once"
            )));
        }
        self.bytes = bytes;
        self.by_handle.insert(handle, statement);
        Ok(())
    }
}

fn unknown() -> Error {
    Error::not_found("the prepared statement does not exist in this session, or was closed")
}

fn exhausted(message: String) -> Error {
    Error::Statement { kind: ErrorKind::ResourcesExhausted, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_and_their_parameters_are_bounded() {
        let statements = StatementHandles::default();
        let handles: Vec<_> =
            (0..MAX_STATEMENTS).map(|_| statements.add("SELECT $1".into()).expect("there is room")).collect();
        let error = statements.add("SELECT 1".into()).expect_err("there is none").to_string();
        assert!(error.contains("1000 prepared statements"), "{error}");
        let text = |bytes: usize| vec![vec![ScalarValue::from("x".repeat(bytes))]];
        statements.bind(&handles[0], text(40 << 20)).expect("there is room");
        let error = statements.bind(&handles[1], text(40 << 20)).expect_err("there is none").to_string();
        assert!(error.contains("bind fewer rows"), "{error}");
        statements.bind(&handles[0], text(1)).expect("it takes less");
        statements.bind(&handles[1], text(40 << 20)).expect("there is room again");
        statements.close(&handles[1]);
        statements.add("SELECT 1".into()).expect("one is closed");
    }
}
