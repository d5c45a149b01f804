//! One SELECT: its modifiers, its list, its joins and GROUP BY. `queries.rs` checks INTO.

use datafusion::sql::sqlparser::ast::{
    GroupByExpr, Join, JoinConstraint, JoinOperator, Select, SelectItem, SelectModifiers, TableWithJoins,
    WildcardAdditionalOptions,
};

use super::{refuse, refused};
use crate::error::Error;

pub(super) fn check(select: &Select) -> Result<(), Error> {
    let Select {
        select_modifiers,
        top,
        projection,
        exclude,
        from,
        lateral_views,
        prewhere,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        value_table_mode,
        // Tokens, and hints in comments.
        select_token: _,
        optimizer_hints: _,
        // The position of a word does not matter.
        top_before_distinct: _,
        window_before_qualify: _,
        flavor: _,
        // The rewrites have replaced the names of windows by their definitions.
        named_window: _,
        // `queries.rs` checks INTO. The planner carries out the fields after `into`.
        into: _,
        distinct: _,
        selection: _,
        having: _,
        qualify: _,
    } = select;
    refuse([
        (top.is_some(), "TOP is not supported; write LIMIT at the query's end"),
        (exclude.is_some(), "EXCLUDE is supported only right after *; name the columns without it"),
        (!lateral_views.is_empty(), "LATERAL VIEW is not supported; use unnest() in the SELECT list"),
        (prewhere.is_some(), "PREWHERE is not supported; write WHERE"),
        (!connect_by.is_empty(), "START WITH and CONNECT BY are not supported; write WITH RECURSIVE"),
        (!cluster_by.is_empty(), "CLUSTER BY is not supported; write ORDER BY"),
        (!distribute_by.is_empty(), "DISTRIBUTE BY is not supported; leave it out"),
        (!sort_by.is_empty(), "SORT BY is not supported; write ORDER BY"),
        (value_table_mode.is_some(), "SELECT AS STRUCT and SELECT AS VALUE are not supported; use named_struct()"),
        (
            select_modifiers.as_ref().is_some_and(is_modified),
            "HIGH_PRIORITY, STRAIGHT_JOIN and the SQL_ words after SELECT are not supported; leave them out",
        ),
    ])?;
    check_group_by(group_by)?;
    projection.iter().try_for_each(check_item)?;
    from.iter().try_for_each(|table| {
        let TableWithJoins { relation: _, joins } = table;
        joins.iter().try_for_each(check_join)
    })
}

fn is_modified(modifiers: &SelectModifiers) -> bool {
    let SelectModifiers {
        high_priority,
        straight_join,
        sql_small_result,
        sql_big_result,
        sql_buffer_result,
        sql_no_cache,
        sql_calc_found_rows,
    } = modifiers;
    *high_priority
        || *straight_join
        || *sql_small_result
        || *sql_big_result
        || *sql_buffer_result
        || *sql_no_cache
        || *sql_calc_found_rows
}

fn check_group_by(group_by: &GroupByExpr) -> Result<(), Error> {
    let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = group_by;
    refuse([(
        !modifiers.is_empty(),
        "WITH ROLLUP, WITH CUBE, WITH TOTALS and GROUPING SETS after the columns are not supported; write \
         GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)",
    )])
}

/// One item of a SELECT list.
pub(super) fn check_item(item: &SelectItem) -> Result<(), Error> {
    match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { expr: _, alias: _ } => Ok(()),
        SelectItem::ExprWithAliases { expr: _, aliases: _ } => {
            refused("several aliases of one expression are not supported; select its parts one by one")
        }
        SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) => {
            let WildcardAdditionalOptions {
                wildcard_token: _,
                opt_ilike,
                opt_exclude: _,
                opt_except: _,
                opt_replace: _,
                opt_rename,
                opt_alias,
            } = options;
            refuse([
                (opt_ilike.is_some(), "* ILIKE is not supported; name the columns"),
                (opt_rename.is_some(), "* RENAME is not supported; name the columns, each with its alias"),
                (opt_alias.is_some(), "an alias of * is not supported; name the columns, each with its alias"),
            ])
        }
    }
}

/// Checks the kind of a join. GLOBAL is accepted: it asks a distributed database to join with the rows of all
/// machines, and every join does so here.
pub(super) fn check_join(join: &Join) -> Result<(), Error> {
    let Join { relation: _, global: _, join_operator } = join;
    match join_operator {
        JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_)
        | JoinOperator::Right(_)
        | JoinOperator::RightOuter(_)
        | JoinOperator::FullOuter(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_)
        | JoinOperator::CrossJoin(JoinConstraint::None) => Ok(()),
        // The planner refuses the other kinds too, but without a remedy.
        JoinOperator::CrossJoin(_) => refused("CROSS JOIN takes no condition; write JOIN"),
        JoinOperator::Semi(_) => refused("SEMI JOIN is not supported without a side; write LEFT SEMI JOIN"),
        JoinOperator::Anti(_) => refused("ANTI JOIN is not supported without a side; write LEFT ANTI JOIN"),
        JoinOperator::CrossApply => refused("CROSS APPLY is not supported; write CROSS JOIN LATERAL"),
        JoinOperator::OuterApply => refused("OUTER APPLY is not supported; write LEFT JOIN LATERAL … ON true"),
        JoinOperator::AsOf { match_condition: _, constraint: _ } => {
            refused("ASOF JOIN is not supported; join by the inequality and keep the nearest row with row_number()")
        }
        JoinOperator::StraightJoin(_) => refused("STRAIGHT_JOIN is not supported; write JOIN"),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
            refused("ARRAY JOIN is not supported; use unnest() in the SELECT list")
        }
    }
}
