//! Rewrites syntax that DataFusion's parser or planner reads wrongly, before a statement is checked and planned.
//!
//! A view keeps the text of the rewritten statement. This text is rewritten again when it is parsed, since it does not
//! show all rewrites: `(a IS NOT DISTINCT FROM b) AND c` is printed as `a IS NOT DISTINCT FROM b AND c`.

mod at_time_zone;
mod distinct_from;
mod from_first;
mod text_lengths;
mod windows;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, VisitMut,
};

pub(super) use self::distinct_from::with_operators;

use self::at_time_zone::AtTimeZone;
use self::distinct_from::DistinctFrom;
use self::from_first::FromFirst;
use self::text_lengths::TextLengths;
use self::windows::NamedWindows;
use crate::error::Error;

/// Rewrites a statement. `names` is the session's rule for the case of names.
pub(crate) fn rewrite(statement: &mut Statement, names: &IdentNormalizer) -> Result<(), Error> {
    match statement {
        Statement::Statement(statement) => {
            let node = statement.as_mut();
            let ControlFlow::Continue(()) = node.visit(&mut AtTimeZone);
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

/// A call of a function.
fn call<const N: usize>(function: &str, args: [Expr; N]) -> Expr {
    let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).to_vec();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
