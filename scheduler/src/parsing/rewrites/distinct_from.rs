//! Gives IS [NOT] DISTINCT FROM its precedence: its right operand ends before AND and OR (apache/datafusion#23692).
//!
//! sqlparser 0.62 reads everything that follows as the right operand: it parses `a IS NOT DISTINCT FROM b AND c` as
//! `a IS NOT DISTINCT FROM (b AND c)`. So before parsing the words become one token: a custom operator with about the
//! precedence of IS. After parsing, the custom operator becomes the expression again:
//!
//! ```text
//! text      a IS NOT DISTINCT FROM b AND c
//! tokens    a <custom operator> b AND c
//! parsed    (a <custom operator> b) AND c
//! result    (a IS NOT DISTINCT FROM b) AND c
//! ```

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, VisitorMut};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The names of the custom operators, as errors of the parser show them.
const DISTINCT: &str = "IS DISTINCT FROM";
const NOT_DISTINCT: &str = "IS NOT DISTINCT FROM";

/// Replaces the words of each IS [NOT] DISTINCT FROM by one token.
pub(in crate::parsing) fn with_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut all = Vec::with_capacity(tokens.len());
    let mut rest = &tokens[..];
    while let [token, after @ ..] = rest {
        let not_distinct = words(rest, &[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]);
        let distinct = words(rest, &[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]);
        let operator = not_distinct.map(|rest| (NOT_DISTINCT, rest)).or(distinct.map(|rest| (DISTINCT, rest)));
        match operator {
            Some((name, after)) => {
                all.push(TokenWithSpan::new(Token::CustomBinaryOperator(name.to_owned()), token.span));
                rest = after;
            }
            None => {
                all.push(token.clone());
                rest = after;
            }
        }
    }
    all
}

/// The tokens after `words`, if `tokens` begin with them. Whitespace and comments between the words are skipped.
fn words<'a>(mut tokens: &'a [TokenWithSpan], words: &[Keyword]) -> Option<&'a [TokenWithSpan]> {
    for (number, word) in words.iter().enumerate() {
        while number > 0
            && let [TokenWithSpan { token: Token::Whitespace(_), .. }, after @ ..] = tokens
        {
            tokens = after;
        }
        match tokens {
            [TokenWithSpan { token: Token::Word(found), .. }, after @ ..] if found.keyword == *word => tokens = after,
            _ => return None,
        }
    }
    Some(tokens)
}

/// Turns the custom operators into expressions.
pub(super) struct DistinctFrom;

impl VisitorMut for DistinctFrom {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if matches!(expr, Expr::BinaryOp { .. })
            && let Expr::BinaryOp { left, op, right } = std::mem::replace(expr, Expr::value(Value::Null))
        {
            *expr = match op {
                BinaryOperator::Custom(name) if name == DISTINCT => distinct(left, right, Expr::IsDistinctFrom),
                BinaryOperator::Custom(name) if name == NOT_DISTINCT => distinct(left, right, Expr::IsNotDistinctFrom),
                op if is_comparison(&op) => compared(left, op, right),
                op => Expr::BinaryOp { left, op, right },
            };
        }
        ControlFlow::Continue(())
    }
}

/// The expression of a custom operator. `of` makes IS DISTINCT FROM or IS NOT DISTINCT FROM.
///
/// IS NULL, IS TRUE and so on have the same precedence as IS DISTINCT FROM, so they apply to the whole expression. The
/// parser reads `a IS DISTINCT FROM b IS NULL` as `a IS DISTINCT FROM (b IS NULL)`, and the result is
/// `(a IS DISTINCT FROM b) IS NULL`.
fn distinct(left: Box<Expr>, right: Box<Expr>, of: fn(Box<Expr>, Box<Expr>) -> Expr) -> Expr {
    let (test, right): (fn(Box<Expr>) -> Expr, _) = match *right {
        Expr::IsNull(right) => (Expr::IsNull, right),
        Expr::IsNotNull(right) => (Expr::IsNotNull, right),
        Expr::IsTrue(right) => (Expr::IsTrue, right),
        Expr::IsNotTrue(right) => (Expr::IsNotTrue, right),
        Expr::IsFalse(right) => (Expr::IsFalse, right),
        Expr::IsNotFalse(right) => (Expr::IsNotFalse, right),
        Expr::IsUnknown(right) => (Expr::IsUnknown, right),
        Expr::IsNotUnknown(right) => (Expr::IsNotUnknown, right),
        right => return of(left, Box::new(right)),
    };
    test(Box::new(distinct(left, right, of)))
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// A comparison, which binds tighter than IS DISTINCT FROM. In PostgreSQL's dialect, custom operators bind tighter
/// than comparisons: without parentheses, `a = b IS DISTINCT FROM c` is parsed as `a = (b IS DISTINCT FROM c)`. The
/// result is `(a = b) IS DISTINCT FROM c`.
fn compared(left: Box<Expr>, op: BinaryOperator, right: Box<Expr>) -> Expr {
    let comparison = |left, right| Box::new(Expr::BinaryOp { left, op, right });
    match (*left, *right) {
        (left, Expr::IsDistinctFrom(middle, right)) => Expr::IsDistinctFrom(comparison(Box::new(left), middle), right),
        (left, Expr::IsNotDistinctFrom(middle, right)) => {
            Expr::IsNotDistinctFrom(comparison(Box::new(left), middle), right)
        }
        (Expr::IsDistinctFrom(left, middle), right) => Expr::IsDistinctFrom(left, comparison(middle, Box::new(right))),
        (Expr::IsNotDistinctFrom(left, middle), right) => {
            Expr::IsNotDistinctFrom(left, comparison(middle, Box::new(right)))
        }
        (left, right) => *comparison(Box::new(left), Box::new(right)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::Dialect;
    use datafusion::sql::planner::IdentNormalizer;
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Statement as SqlStatement};

    use super::super::rewrite;
    use crate::parsing::parse;

    /// The expression with parentheses around each operator's operands.
    fn grouped(sql: &str, dialect: Dialect) -> String {
        let mut statement = parse(&format!("SELECT {sql}"), dialect).expect("it parses").pop_front().expect("one");
        rewrite(&mut statement, &IdentNormalizer::default()).expect("it has a meaning");
        let datafusion::sql::parser::Statement::Statement(statement) = statement else { panic!("it is a query") };
        let SqlStatement::Query(query) = *statement else { panic!("it is a query") };
        let SetExpr::Select(select) = *query.body else { panic!("it selects") };
        let SelectItem::UnnamedExpr(expr) = &select.projection[0] else { panic!("one expression") };
        shown(expr)
    }

    fn shown(expr: &super::Expr) -> String {
        use super::Expr::{BinaryOp, IsDistinctFrom, IsNotDistinctFrom, IsNull, Nested, UnaryOp};
        match expr {
            BinaryOp { left, op, right } => format!("({} {op} {})", shown(left), shown(right)),
            IsDistinctFrom(left, right) => format!("({} <> {})", shown(left), shown(right)),
            IsNotDistinctFrom(left, right) => format!("({} == {})", shown(left), shown(right)),
            UnaryOp { op, expr } => format!("({op} {})", shown(expr)),
            IsNull(expr) => format!("({} is null)", shown(expr)),
            Nested(expr) => shown(expr),
            other => other.to_string(),
        }
    }

    #[test]
    fn an_operand_ends_at_operators_that_bind_less() {
        for dialect in [Dialect::Generic, Dialect::PostgreSQL, Dialect::DuckDB, Dialect::MySQL] {
            let check = |sql: &str, expected: &str| assert_eq!(grouped(sql, dialect), expected, "{sql}");
            check("a IS NOT DISTINCT FROM b AND c", "((a == b) AND c)");
            check("a is /* x */ distinct from null or c", "((a <> NULL) OR c)");
            check("p AND a IS DISTINCT FROM b OR c", "((p AND (a <> b)) OR c)");
            check("NOT a IS NOT DISTINCT FROM b AND c", "((NOT (a == b)) AND c)");
            check("a + 1 IS DISTINCT FROM b * 2 + 3 AND c", "(((a + 1) <> ((b * 2) + 3)) AND c)");
            check("a = b IS NOT DISTINCT FROM c", "((a = b) == c)");
            check("a IS NOT DISTINCT FROM b AND c IS DISTINCT FROM d", "((a == b) AND (c <> d))");
            check("a IS DISTINCT FROM b = c", "(a <> (b = c))");
            check("(a IS DISTINCT FROM b) = c", "((a <> b) = c)");
            check("a IS NOT DISTINCT FROM (b AND c)", "(a == (b AND c))");
            check("a IS NULL AND b", "((a is null) AND b)");
            check("a IS DISTINCT FROM b IS NULL", "((a <> b) is null)");
        }
    }

    #[test]
    fn names_are_left_alone() {
        assert_eq!(grouped("\"is\" = 'is distinct from'", Dialect::Generic), "(\"is\" = 'is distinct from')");
    }
}
