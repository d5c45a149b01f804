//! Turns what DataFusion's planner passes over into what it carries out, before a statement is looked at and planned.
//!
//! Views keep the text of the statement as it is afterwards. It is turned again when it is read: the text of
//! `a IS NOT DISTINCT FROM b AND c` has no parentheses.

mod distinct_from;
mod from_first;
mod text_lengths;
mod windows;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::VisitMut;

pub(super) use self::distinct_from::with_operators;

use self::distinct_from::DistinctFrom;
use self::from_first::FromFirst;
use self::text_lengths::TextLengths;
use self::windows::NamedWindows;
use crate::error::Error;

/// Turns a statement. `names` is the session's rule for the case of names.
pub(crate) fn rewrite(statement: &mut Statement, names: &IdentNormalizer) -> Result<(), Error> {
    match statement {
        Statement::Statement(statement) => {
            let node = statement.as_mut();
            let ControlFlow::Continue(()) = node.visit(&mut DistinctFrom);
            let ControlFlow::Continue(()) = node.visit(&mut FromFirst);
            let ControlFlow::Continue(()) = node.visit(&mut TextLengths);
            match node.visit(&mut NamedWindows::new(names)) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(error) => Err(*error),
            }
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement, names),
        Statement::CreateExternalTable(create) => {
            let ControlFlow::Continue(()) = create.order_exprs.visit(&mut DistinctFrom);
            Ok(())
        }
        // COPY is refused as a whole, and RESET has no expression.
        Statement::CopyTo(_) | Statement::Reset(_) => Ok(()),
    }
}
