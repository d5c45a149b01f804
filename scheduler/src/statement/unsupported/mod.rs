//! Refuses what the parser accepts and nobody carries out, so that no word of a statement is left out silently.
//!
//! DataFusion's planner takes what it knows out of the parsed statement and passes over the rest: it reads all rows of
//! `t TABLESAMPLE (10 PERCENT)`. Here each part of a statement that the planner carries out is taken apart to its last
//! field, without `..`. So a field that a newer parser adds does not compile until somebody has decided about it. Three
//! things may happen to a field:
//!
//! - the planner carries it out, or says itself that it does not: it is bound to `_`;
//! - it changes no row, such as a place in the text, a keyword that may be left out, or a hint in a comment: also `_`;
//! - otherwise it is refused, in one sentence that ends in a remedy.
//!
//! The walk is the parser's own, so it reaches queries within queries, expressions and other statements. Relies on
//! `rewrites` having run before: what it turns into something else never comes here.

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

/// Refuses a statement that has a part that nobody would carry out. The session tells what kind of function a name is.
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
    /// Where the outermost query stands.
    place: Place,
    /// How many queries the walk is in.
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

/// Refuses the first part that is there; each comes with the sentence that says why not, and what to do.
fn refuse<const N: usize>(parts: [(bool, &str); N]) -> Result<(), Error> {
    match parts.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, sentence)) => Err(Error::unsupported(sentence)),
        None => Ok(()),
    }
}

/// Refuses something whatever else there is.
fn refused(sentence: impl Into<String>) -> Result<(), Error> {
    Err(Error::unsupported(sentence))
}
