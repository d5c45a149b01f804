//! Errors for tables and settings that do not exist. They suggest the existing table or setting with the most similar
//! name, if one is similar.

use datafusion::common::TableReference;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::StatementRunner;
use crate::catalog::{CATALOG, SCHEMA, is_file_path, nearest};
use crate::error::Error;
use crate::settings;

/// The error for an unknown setting in SHOW, or for the first missing table that a statement reads.
pub(super) fn missing(runner: &StatementRunner, statement: &Statement) -> Option<Error> {
    let (catalog, state) = (&runner.catalog, &runner.snapshot.state);
    if let Some(name) = shown(statement) {
        return settings::find(&name).err();
    }
    let made = made(statement);
    let references = state.resolve_table_references(statement).ok()?;
    let missing = references.iter().find(|reference| {
        let is_ours = reference.catalog().is_none_or(|name| name == CATALOG)
            && reference.schema().is_none_or(|name| name == SCHEMA);
        let name = reference.table();
        is_ours
            && made.as_deref() != Some(name)
            && catalog.definition(name).is_none()
            && !state.table_functions().contains_key(name)
            && !is_file_path(name)
    })?;
    let name = missing.table();
    let names = catalog.names();
    Some(Error::not_found(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("table \"{name}\" does not exist; did you mean \"{near}\"?"),
        None => format!("table \"{name}\" does not exist; SHOW TABLES lists all tables"),
    }))
}

/// The name of the setting in a SHOW statement.
fn shown(statement: &Statement) -> Option<String> {
    let Statement::Statement(statement) = statement else { return None };
    let SqlStatement::ShowVariable { variable } = statement.as_ref() else { return None };
    let words: Vec<_> = variable.iter().map(|word| word.value.as_str()).collect();
    Some(words.join("."))
}

/// The table or view that a statement creates. It does not have to exist yet.
fn made(statement: &Statement) -> Option<String> {
    let name = match statement {
        Statement::CreateExternalTable(create) => create.name.to_string(),
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::CreateTable(create) => create.name.to_string(),
            SqlStatement::CreateView(create) => create.name.to_string(),
            _ => return None,
        },
        _ => return None,
    };
    Some(TableReference::from(name).table().to_owned())
}
