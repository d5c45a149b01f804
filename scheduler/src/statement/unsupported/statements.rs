//! Statements other than queries and definitions, and the options of EXPLAIN.

use datafusion::common::format::ExplainStatementOptions;
use datafusion::sql::parser::ExplainStatement;
use datafusion::sql::sqlparser::ast::{Analyze, DescribeAlias, Statement};

use super::types::{self, Purpose};
use super::{definitions, refuse};
use crate::error::Error;

pub(super) fn check(statement: &Statement) -> Result<(), Error> {
    match statement {
        Statement::CreateTable(create) => definitions::check_table(create),
        Statement::CreateView(create) => definitions::check_view(create),
        Statement::Drop {
            object_type: _,
            if_exists: _,
            names: _,
            cascade,
            restrict,
            purge,
            temporary,
            table,
        } => refuse([
            (*cascade, "CASCADE is not supported; drop the views that read the table first, then the table"),
            (
                *restrict,
                "RESTRICT is not supported, since DROP does not check for views that read the table; leave it out",
            ),
            (
                *purge,
                "PURGE is not supported; leave it out, since DROP TABLE always deletes the files that the server wrote",
            ),
            (*temporary, "there are no temporary tables; leave out TEMPORARY to drop a table of the catalog"),
            (table.is_some(), "DROP … ON is not supported; write DROP TABLE or DROP VIEW with one name"),
        ]),
        Statement::Analyze(Analyze {
            // `analyze_table` checks these five.
            table_name: _,
            partitions: _,
            for_columns: _,
            columns: _,
            noscan: _,
            cache_metadata,
            // The statement always computes statistics.
            compute_statistics: _,
            has_table_keyword: _,
        }) => refuse([(*cache_metadata, "CACHE METADATA is not supported; write ANALYZE TABLE name")]),
        Statement::ExplainTable { describe_alias: _, hive_format, has_table_keyword: _, table_name: _ } => {
            refuse([(
                hive_format.is_some(),
                "DESCRIBE EXTENDED and DESCRIBE FORMATTED are not supported; write DESCRIBE name",
            )])
        }
        Statement::Explain {
            describe_alias: DescribeAlias::Describe | DescribeAlias::Desc,
            analyze,
            verbose,
            query_plan,
            estimate,
            statement: _,
            format,
            options,
        } => refuse([(
            *analyze || *verbose || *query_plan || *estimate || format.is_some() || options.is_some(),
            "DESCRIBE takes no options; write EXPLAIN for a plan, or DESCRIBE and the query for its columns",
        )]),
        // This occurs only within PREPARE. Elsewhere EXPLAIN is a statement of DataFusion's own parser.
        Statement::Explain {
            describe_alias: DescribeAlias::Explain,
            analyze: _,
            verbose: _,
            query_plan,
            estimate,
            statement: _,
            format: _,
            options,
        } => refuse([
            (*query_plan, "EXPLAIN QUERY PLAN is not supported; write EXPLAIN"),
            (*estimate, "EXPLAIN ESTIMATE is not supported; write EXPLAIN"),
            (options.is_some(), "options of EXPLAIN are not supported within PREPARE; leave them out"),
        ]),
        Statement::Prepare { name: _, data_types, statement: _ } => {
            data_types.iter().try_for_each(|data_type| types::check(data_type, Purpose::Cast))
        }
        // The planner carries these out, and refuses the parts that it does not support.
        Statement::Query(_)
        | Statement::Set(_)
        | Statement::ShowVariable { variable: _ }
        | Statement::ShowCreate { obj_type: _, obj_name: _ }
        | Statement::ShowTables { terse: _, history: _, extended: _, full: _, external: _, show_options: _ }
        | Statement::ShowColumns { extended: _, full: _, show_options: _ }
        | Statement::ShowFunctions { filter: _ }
        | Statement::Execute {
            name: _,
            parameters: _,
            has_parentheses: _,
            immediate: _,
            into: _,
            using: _,
            output: _,
            default: _,
        }
        // DEALLOCATE PREPARE means the same as DEALLOCATE.
        | Statement::Deallocate { name: _, prepare: _ } => Ok(()),
        // The planner or this server refuses every other statement as a whole.
        _ => Ok(()),
    }
}

/// EXPLAIN as DataFusion parses it. VERBOSE is accepted: EXPLAIN ANALYZE shows everything in either case.
pub(super) fn check_explain(explain: &ExplainStatement) -> Result<(), Error> {
    let ExplainStatement { options, statement: _ } = explain;
    let ExplainStatementOptions { analyze, verbose: _, format, analyze_level, analyze_categories, show_statistics: _ } =
        options;
    refuse([
        (*analyze && format.is_some(), "EXPLAIN ANALYZE has only one output format; leave out FORMAT"),
        (analyze_level.is_some(), "EXPLAIN ANALYZE always shows all metrics; leave out LEVEL"),
        (
            analyze_categories.is_some(),
            "EXPLAIN ANALYZE always shows all metrics; leave out METRICS, TIMING and SUMMARY",
        ),
    ])
}
