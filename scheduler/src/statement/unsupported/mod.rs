//! Refuses syntax that the parser accepts and nothing carries out, so no word of a statement is ignored silently.
//!
//! DataFusion's planner reads the fields of the parsed statement that it knows and ignores the others: for
//! `t TABLESAMPLE (10 PERCENT)` it reads all rows of `t`. The patterns here name every field of each node that the
//! planner carries out, without `..`. So a new field of a newer parser does not compile until somebody has decided
//! about it. There are three decisions for a field:
//!
//! - The planner carries it out, or refuses it itself: it is bound to `_`.
//! - It changes no row, such as a position in the text, an optional keyword, or a hint in a comment: it is also bound
//!   to `_`.
//! - Otherwise it is refused, in one sentence that ends in a remedy.
//!
//! The check uses the parser's own visitor, so it also reaches subqueries, expressions and nested statements. It must
//! run after `rewrites`: syntax that `rewrites` replaces never arrives here.

mod definitions;
mod expressions;
mod functions;
mod queries;
mod selects;
mod statements;
mod tables;
#[cfg(test)]
mod tests;
mod types;

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::parser::{ResetStatement, Statement};
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, Statement as SqlStatement, TableFactor, Visit, Visitor};

use self::queries::Place;
use crate::error::Error;

/// Refuses a statement with a part that nothing would carry out. `state` tells whether a function is scalar, an
/// aggregate or a window function.
pub(crate) fn check(statement: &Statement, state: &SessionState) -> Result<(), Error> {
    match statement {
        Statement::Statement(statement) => {
            let place = match statement.as_ref() {
                SqlStatement::Query(_) => Place::Statement,
                _ => Place::Within,
            };
            walk(statement.as_ref(), Walk { state, place, queries: 0 })
        }
        Statement::Explain(explain) => {
            statements::check_explain(explain)?;
            check(&explain.statement, state)
        }
        Statement::CreateExternalTable(create) => {
            definitions::check_external_table(create)?;
            walk(&create.order_exprs, Walk { state, place: Place::Within, queries: 0 })
        }
        // COPY is refused as a whole once it is planned; RESET has nothing but a name.
        Statement::CopyTo(_) | Statement::Reset(ResetStatement::Variable(_)) => Ok(()),
    }
}

fn walk(node: &impl Visit, mut walk: Walk<'_>) -> Result<(), Error> {
    match node.visit(&mut walk) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Walk<'a> {
    state: &'a SessionState,
    /// The place of the outermost query.
    place: Place,
    /// The number of queries around the visited node.
    queries: usize,
}

impl Visitor for Walk<'_> {
    type Break = Box<Error>;

    fn pre_visit_statement(&mut self, statement: &SqlStatement) -> ControlFlow<Box<Error>> {
        flow(statements::check(statement))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Box<Error>> {
        let place = if self.queries == 0 { self.place } else { Place::Within };
        self.queries += 1;
        flow(queries::check(query, place))
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Box<Error>> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Box<Error>> {
        flow(selects::check(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Box<Error>> {
        flow(tables::check(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Box<Error>> {
        flow(expressions::check(expr, self.state))
    }
}

fn flow(checked: Result<(), Error>) -> ControlFlow<Box<Error>> {
    match checked {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// Refuses the first part that is present. Each part has a sentence with the reason and the remedy.
fn refuse<const N: usize>(parts: [(bool, &str); N]) -> Result<(), Error> {
    match parts.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, sentence)) => Err(Error::unsupported(sentence)),
        None => Ok(()),
    }
}

/// Refuses without a condition.
fn refused(sentence: impl Into<String>) -> Result<(), Error> {
    Err(Error::unsupported(sentence))
}
