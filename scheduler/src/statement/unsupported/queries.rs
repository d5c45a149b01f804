//! A query around its SELECTs: WITH, set operations, ORDER BY, LIMIT, pipes, and SELECT … INTO.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, ExprWithAliasAndOrderBy, Fetch, Ident, LimitClause, Offset, OrderBy, OrderByKind, OrderByOptions,
    PipeOperator, Query, SelectInto, SetExpr, SetOperator, SetQuantifier, Values, With, visit_relations,
};

use super::{refuse, refused, selects, tables};
use crate::error::Error;

/// Where a query stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The query is the statement.
    Statement,
    /// The query is inside another query or statement.
    Within,
}

pub(super) fn check(query: &Query, place: Place) -> Result<(), Error> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    refuse([
        (!locks.is_empty(), "FOR UPDATE and FOR SHARE are not supported, since rows are never locked; leave them out"),
        (for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE are not supported; leave them out"),
        (settings.is_some(), "SETTINGS in a query is not supported; write SET name = value before it"),
        (format_clause.is_some(), "FORMAT in a query is not supported; the client chooses the form of its rows"),
    ])?;
    if let Some(with) = with {
        check_with(with)?;
    }
    check_body(body, place, pipe_operators)?;
    if let Some(order_by) = order_by {
        check_order_by(order_by, body)?;
    }
    if let Some(limit) = limit_clause {
        check_limit(limit)?;
    }
    if let Some(fetch) = fetch {
        check_fetch(fetch)?;
    }
    pipe_operators.iter().try_for_each(check_pipe)
}

fn check_with(with: &With) -> Result<(), Error> {
    let With { with_token: _, recursive, cte_tables } = with;
    cte_tables.iter().try_for_each(|cte| {
        // MATERIALIZED and NOT MATERIALIZED say how often a query runs; its rows are the same.
        let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = cte;
        refuse([(from.is_some(), "FROM after a query of WITH is not supported; leave it out")])?;
        tables::check_alias(Some(alias))?;
        if *recursive { check_recursive(&alias.name, query) } else { Ok(()) }
    })
}

/// Refuses clauses around the UNION of a recursive query. The planner takes only the two sides of the UNION and
/// ignores the rest.
fn check_recursive(name: &Ident, query: &Query) -> Result<(), Error> {
    let SetExpr::SetOperation { left: _, op: SetOperator::Union, set_quantifier, right: _ } = query.body.as_ref()
    else {
        return Ok(());
    };
    let Query {
        with,
        limit_clause,
        fetch,
        pipe_operators,
        body: _,
        // Without a LIMIT the order changes no row.
        order_by: _,
        // Refused in every query.
        locks: _,
        for_clause: _,
        settings: _,
        format_clause: _,
    } = query;
    if with.is_some() {
        return refused(format!(
            "WITH is not supported within the recursive query {name}; put its queries before {name} in the outer WITH"
        ));
    }
    if limit_clause.is_some() || fetch.is_some() || !pipe_operators.is_empty() {
        return refused(format!(
            "LIMIT, OFFSET and |> are not supported in the UNION of {name} in WITH RECURSIVE; put them into the query \
             that reads {name}"
        ));
    }
    let is_by_name = match set_quantifier {
        SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => true,
        SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => false,
    };
    if is_by_name && reads(query, name) {
        return refused(format!(
            "BY NAME is not supported in the recursive query {name}; write its columns in the same order on both sides"
        ));
    }
    Ok(())
}

/// Whether a query may read the table `name`. Case is ignored, independent of the session's rule for names.
fn reads(query: &Query, name: &Ident) -> bool {
    let found = visit_relations(query, |relation| match relation.0.as_slice() {
        [part] if part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case(&name.value)) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Checks INTO and the set operations. The walk visits the SELECTs and subqueries of the body separately.
fn check_body(body: &SetExpr, place: Place, pipes: &[PipeOperator]) -> Result<(), Error> {
    // INTO makes a table of the whole statement, so it is refused in parts of a statement.
    let may_make_a_table = place == Place::Statement && pipes.is_empty() && matches!(body, SetExpr::Select(_));
    let mut rest = vec![body];
    while let Some(body) = rest.pop() {
        match body {
            SetExpr::Select(select) => match &select.into {
                Some(into) if may_make_a_table => check_into(into)?,
                Some(_) => refused(
                    "INTO is supported only in a statement that is one SELECT; write CREATE TABLE … AS and the query",
                )?,
                None => {}
            },
            SetExpr::SetOperation { left, op, set_quantifier: _, right } => {
                refuse([(matches!(op, SetOperator::Minus), "MINUS is not supported; write EXCEPT")])?;
                rest.extend([left.as_ref(), right.as_ref()]);
            }
            SetExpr::Query(_) => {}
            // ROW before the values of a row means nothing; the planner refuses VALUE.
            SetExpr::Values(Values { explicit_row: _, value_keyword: _, rows: _ }) => {}
            // The planner refuses these.
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) | SetExpr::Table(_) => {}
        }
    }
    Ok(())
}

fn check_into(into: &SelectInto) -> Result<(), Error> {
    let SelectInto { temporary, unlogged, table: _, name: _ } = into;
    refuse([
        (
            *temporary,
            "temporary tables are not supported; leave out TEMPORARY, and DROP the table when you no longer need it",
        ),
        (*unlogged, "UNLOGGED is not supported; leave it out"),
    ])
}

fn check_order_by(order_by: &OrderBy, body: &SetExpr) -> Result<(), Error> {
    let OrderBy { kind, interpolate } = order_by;
    let is_all = match kind {
        OrderByKind::All(_) => true,
        OrderByKind::Expressions(_) => false,
    };
    refuse([
        (
            is_all && !matches!(body, SetExpr::Select(_)),
            "ORDER BY ALL is supported only after one SELECT; name the columns, or number them as in ORDER BY 1, 2",
        ),
        (interpolate.is_some(), "INTERPOLATE is not supported; leave it out"),
    ])
}

fn check_limit(limit: &LimitClause) -> Result<(), Error> {
    match limit {
        // ROW and ROWS after an offset mean nothing.
        LimitClause::LimitOffset { limit: _, offset: None | Some(Offset { value: _, rows: _ }), limit_by } => {
            refuse([(
                !limit_by.is_empty(),
                "LIMIT … BY is not supported; number the rows with row_number() OVER (PARTITION BY …) and filter by it",
            )])
        }
        LimitClause::OffsetCommaLimit { offset: _, limit: _ } => Ok(()),
    }
}

fn check_fetch(fetch: &Fetch) -> Result<(), Error> {
    let Fetch { with_ties, percent, quantity: _ } = fetch;
    refuse([
        (*with_ties, "FETCH … WITH TIES is not supported; filter by rank() OVER (ORDER BY …)"),
        (*percent, "FETCH … PERCENT is not supported; filter by percent_rank() OVER (ORDER BY …)"),
        (true, "FETCH is not supported; write LIMIT"),
    ])
}

fn check_pipe(operator: &PipeOperator) -> Result<(), Error> {
    match operator {
        PipeOperator::Limit { expr: _, offset: _ }
        | PipeOperator::Where { expr: _ }
        | PipeOperator::OrderBy { exprs: _ }
        | PipeOperator::As { alias: _ }
        | PipeOperator::Union { set_quantifier: _, queries: _ }
        | PipeOperator::Intersect { set_quantifier: _, queries: _ }
        | PipeOperator::Except { set_quantifier: _, queries: _ } => Ok(()),
        PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => {
            exprs.iter().try_for_each(selects::check_item)
        }
        PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
            let is_ordered = full_table_exprs.iter().chain(group_by_expr).any(|item| {
                let ExprWithAliasAndOrderBy { expr: _, order_by: OrderByOptions { asc, nulls_first } } = item;
                asc.is_some() || nulls_first.is_some()
            });
            refuse([(is_ordered, "ASC and DESC are not supported within |> AGGREGATE; write |> ORDER BY after it")])
        }
        PipeOperator::Join(join) => selects::check_join(join),
        // The planner refuses these.
        PipeOperator::Set { .. }
        | PipeOperator::Drop { .. }
        | PipeOperator::TableSample { .. }
        | PipeOperator::Rename { .. }
        | PipeOperator::Call { .. }
        | PipeOperator::Pivot { .. }
        | PipeOperator::Unpivot { .. } => Ok(()),
    }
}
