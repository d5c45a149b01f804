//! The items of FROM: tables, table functions, subqueries, and their aliases. Upstream: apache/datafusion#24754.

use datafusion::sql::sqlparser::ast::{
    FunctionArg, ObjectName, ObjectNamePart, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs,
    TableWithJoins,
};

use super::{refuse, refused, selects};
use crate::error::Error;

const SAMPLE: &str = "TABLESAMPLE is not supported; write WHERE random() < 0.1 for about a tenth of the rows";
const ORDINALITY: &str = "WITH ORDINALITY is not supported; number the rows with row_number() OVER ()";

pub(super) fn check(factor: &TableFactor) -> Result<(), Error> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            refuse([
                (sample.is_some(), SAMPLE),
                (*with_ordinality, ORDINALITY),
                (version.is_some(), "tables have no versions; leave out AS OF, AT, BEFORE and CHANGES"),
                (!partitions.is_empty(), "PARTITION after a table is not supported; filter by its partition columns"),
                (
                    json_path.is_some(),
                    "a path after a table is not supported; name the column, and its fields in brackets",
                ),
                (!with_hints.is_empty(), "table hints such as WITH (NOLOCK) are not supported; leave them out"),
                (!index_hints.is_empty(), "there are no indexes; leave out USE, FORCE and IGNORE INDEX"),
            ])?;
            if let Some(args) = args {
                // The planner refuses named arguments here.
                let TableFunctionArgs { args: _, settings } = args;
                refuse([(settings.is_some(), "SETTINGS of a table function are not supported; leave them out")])?;
                check_function_name(name)?;
            }
            check_alias(alias.as_ref())
        }
        TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
            refuse([(sample.is_some(), SAMPLE)])?;
            check_alias(alias.as_ref())
        }
        TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
            let is_named = args.iter().any(|arg| !matches!(arg, FunctionArg::Unnamed(_)));
            refuse([
                (*with_ordinality, ORDINALITY),
                (is_named, "table functions do not support named arguments; write them in order, without names"),
            ])?;
            check_function_name(name)?;
            check_alias(alias.as_ref())
        }
        // The planner refuses WITH OFFSET and WITH ORDINALITY here.
        TableFactor::UNNEST { alias, array_exprs: _, with_offset: _, with_offset_alias: _, with_ordinality: _ } => {
            check_alias(alias.as_ref())
        }
        TableFactor::NestedJoin { table_with_joins, alias } => {
            let TableWithJoins { relation: _, joins } = table_with_joins.as_ref();
            joins.iter().try_for_each(selects::check_join)?;
            check_alias(alias.as_ref())
        }
        // The planner refuses the other kinds too, but without a remedy.
        TableFactor::TableFunction { .. } => refused("TABLE(…) is not supported in FROM; write the function by itself"),
        TableFactor::Pivot { .. } => {
            refused("PIVOT is not supported; write an aggregate with FILTER (WHERE …) for each column")
        }
        TableFactor::Unpivot { .. } => {
            refused("UNPIVOT is not supported; write UNION ALL with a SELECT for each column")
        }
        TableFactor::MatchRecognize { .. } => {
            refused("MATCH_RECOGNIZE is not supported; use lag() and lead() OVER (…)")
        }
        TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => {
            refused("JSON_TABLE and OPENJSON are not supported; make a table with STORED AS JSON")
        }
        TableFactor::XmlTable { .. } => {
            refused("XMLTABLE is not supported; write the rows to a file of another format")
        }
        TableFactor::SemanticView { .. } => refused("SEMANTIC_VIEW is not supported; write a query over the tables"),
    }
}

/// The alias of an item of FROM, or the name of a query of WITH.
pub(super) fn check_alias(alias: Option<&TableAlias>) -> Result<(), Error> {
    let Some(TableAlias { explicit: _, name: _, columns, at }) = alias else { return Ok(()) };
    let is_typed = columns.iter().any(|column| {
        let TableAliasColumnDef { name: _, data_type } = column;
        data_type.is_some()
    });
    refuse([
        (is_typed, "types in the column list of an alias are not supported; use CAST in the SELECT list"),
        (at.is_some(), "AT after an alias is not supported; number the rows with row_number() OVER ()"),
    ])
}

/// Refuses names of several parts: the planner would look up only the first or the last part.
fn check_function_name(name: &ObjectName) -> Result<(), Error> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(_)] => Ok(()),
        _ => refused(format!("there is no table function {name}; table functions have names of one word")),
    }
}
