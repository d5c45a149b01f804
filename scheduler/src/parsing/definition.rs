//! The text of a table or view definition. The catalog stores it and parses it again.

use std::collections::BTreeMap;

use datafusion::common::config::{ConfigOptions, Dialect};
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::Value;
use hwacha_execution::session::session_config;

use super::{limits, rewrites};
use crate::error::Error;

const TIME_ZONE: &str = "datafusion.execution.time_zone";

/// The text of a definition. [`reopen`] parses it, and a session of the server plans it, both with default settings.
///
/// A definition is refused if the user's settings give its text another meaning. Example: a dialect in which double
/// quotes enclose strings.
pub(crate) fn definition_text(statement: &Statement, options: &ConfigOptions) -> Result<String, Error> {
    let defaults: BTreeMap<_, _> = parser_settings(session_config().options()).collect();
    // The definition of an external table without columns has no types and literals, so a time zone changes nothing.
    let has_no_text = matches!(statement, Statement::CreateExternalTable(create) if create.columns.is_empty());
    let differs = |(key, value): &(String, Option<String>)| {
        defaults.get(key) != Some(value) && !(has_no_text && key == TIME_ZONE)
    };
    if let Some((key, _)) = parser_settings(options).find(differs) {
        let default = defaults.get(&key).cloned().flatten().unwrap_or_default();
        return Err(Error::unsupported(format!(
            "a view or external table can be created only with {key} = {default}; RESET {key}, then write the \
             statement for that value"
        )));
    }
    let (text, mut definition) = (printed(statement), statement.clone());
    if let Statement::CreateExternalTable(create) = &mut definition {
        // IF NOT EXISTS and OR REPLACE are not part of the kept definition.
        (create.if_not_exists, create.or_replace) = (false, false);
    }
    match reopen(&text) {
        Ok(again) if again == definition => Ok(text),
        _ if options.sql_parser.dialect != Dialect::Generic => Err(Error::unsupported(
            "the definition cannot be stored in the SQL dialect of this session; SET datafusion.sql_parser.dialect = \
             'generic', and write the statement in that dialect",
        )),
        _ => Err(Error::unsupported(
            "the definition cannot be stored, since its stored text would be parsed into another statement; rewrite \
             it, for example with parentheses",
        )),
    }
}

/// The settings that change the meaning of a text: the settings of the parser except the dialect, and the time zone.
/// The dialect may differ, since another dialect may give the same statement. The time zone applies to types and
/// literals WITH TIME ZONE.
fn parser_settings(options: &ConfigOptions) -> impl Iterator<Item = (String, Option<String>)> {
    let decides =
        |key: &str| key == TIME_ZONE || key.starts_with("datafusion.sql_parser.") && !key.ends_with("dialect");
    options.entries().into_iter().filter(move |entry| decides(&entry.key)).map(|entry| (entry.key, entry.value))
}

/// Parses the text of a definition.
pub(crate) fn reopen(text: &str) -> Result<Statement, Error> {
    let mut statements = limits::parse(text, Dialect::Generic)?;
    let (Some(mut statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return Err(Error::invalid("a definition is one statement"));
    };
    rewrites::rewrite(&mut statement, &IdentNormalizer::new(true))?;
    Ok(statement)
}

/// The text of a statement. DataFusion's own text of an external table leaves out its columns, partitions and options.
fn printed(statement: &Statement) -> String {
    let Statement::CreateExternalTable(create) = statement else { return statement.to_string() };
    let list = |words: Vec<String>| words.join(", ");
    let mut text = format!("CREATE EXTERNAL TABLE {} ", create.name);
    let columns = create.columns.iter().map(ToString::to_string);
    let columns: Vec<_> = columns.chain(create.constraints.iter().map(ToString::to_string)).collect();
    if !columns.is_empty() {
        text += &format!("({}) ", list(columns));
    }
    text += &format!("STORED AS {} ", create.file_type);
    if !create.table_partition_cols.is_empty() {
        text += &format!("PARTITIONED BY ({}) ", list(create.table_partition_cols.clone()));
    }
    for order in &create.order_exprs {
        text += &format!("WITH ORDER ({}) ", list(order.iter().map(ToString::to_string).collect()));
    }
    if !create.options.is_empty() {
        let quoted = |text: &str| Value::SingleQuotedString(text.to_owned());
        let options = create.options.iter().map(|(key, value)| format!("{} {value}", quoted(key)));
        text += &format!("OPTIONS ({}) ", list(options.collect()));
    }
    let locations = create.locations.iter().map(|location| Value::SingleQuotedString(location.clone()).to_string());
    match create.locations.len() {
        1 => text + &format!("LOCATION {}", list(locations.collect())),
        _ => text + &format!("LOCATION ({})", list(locations.collect())),
    }
}
