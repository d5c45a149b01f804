//! Refuses statements that are too long or too deep before anything recurses over them.

use datafusion::common::DataFusionError;
use datafusion::common::config::Dialect;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Expr, SetExpr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::{GenericDialect, dialect_from_str};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::rewrites;
use crate::error::Error;

/// Maximum bytes of one text (16 MiB).
const MAX_TEXT_BYTES: usize = 16 << 20;
/// Maximum operators of one text (200,000). Dropping the syntax tree of a chain recurses once for each operator.
const MAX_OPERATORS: usize = 200_000;
/// Maximum depth of an expression (1,500). A chain of `n` operators is `n` deep.
const MAX_DEPTH: usize = 1_500;
/// Maximum length of a chain of set operations (500).
const MAX_SET_DEPTH: usize = 500;

/// Refuses texts that are too long to be parsed at all.
pub(crate) fn check_text(sql: &str) -> Result<(), Error> {
    if sql.len() > MAX_TEXT_BYTES {
        return Err(Error::invalid(format!(
            "the statement has {} bytes, the limit is {MAX_TEXT_BYTES}; load data from files instead",
            sql.len()
        )));
    }
    Ok(())
}

/// Parses a text into statements.
pub(crate) fn parse(sql: &str, dialect: Dialect) -> Result<VecDeque<Statement>, Error> {
    let dialect = dialect_from_str(dialect).expect("the setting holds only dialects that there are");
    let tokens = Tokenizer::new(dialect.as_ref(), sql)
        .tokenize_with_location()
        .map_err(|error| Error::invalid(format!("syntax error: {error}")))?;
    let operators = tokens.iter().filter(|token| is_operator(&token.token)).count();
    if operators > MAX_OPERATORS {
        return Err(Error::invalid(format!(
            "the statement has {operators} operators, and the limit is {MAX_OPERATORS}; split it, or put its constants \
             into a table"
        )));
    }
    DFParserBuilder::new(rewrites::with_operators(tokens))
        .with_dialect(dialect.as_ref())
        .with_recursion_limit(RECURSION_LIMIT)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(unparsed)
}

/// Numbers the placeholders that some clients write as `?`: `$1`, `$2` and so on. Other texts stay as they are.
pub(crate) fn number_placeholders(sql: &str) -> String {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else { return sql.to_owned() };
    let is_plain = |token: &Token| matches!(token, Token::Placeholder(name) if name == "?");
    let mut plain =
        tokens.iter().filter(|token| is_plain(&token.token)).map(|token| token.span.start).zip(1..).peekable();
    // The text is copied, not printed from its tokens: printed tokens lose the escapes of their quotes.
    let mut numbered = String::with_capacity(sql.len());
    let mut here = Location::new(1, 1);
    for character in sql.chars() {
        match plain.next_if(|(place, _)| *place == here && character == '?') {
            Some((_, number)) => numbered.push_str(&format!("${number}")),
            None => numbered.push(character),
        }
        here = match character {
            '\n' => Location::new(here.line + 1, 1),
            _ => Location::new(here.line, here.column + 1),
        };
    }
    // The tokenizer counts positions differently within hints (`/*! … */`). If a placeholder was not found, the text
    // stays.
    if plain.peek().is_some() { sql.to_owned() } else { numbered }
}

/// Maximum nesting depth that the parser accepts (400). The parser runs on a large stack (`planning.rs`).
const RECURSION_LIMIT: usize = 400;

/// The error for a text that cannot be parsed. DataFusion also checks some options while it parses. An error in an
/// option is not called a syntax error.
fn unparsed(error: DataFusionError) -> Error {
    let DataFusionError::SQL(cause, _) = error.find_root() else { return error.into() };
    Error::invalid(match cause.as_ref() {
        ParserError::RecursionLimitExceeded => {
            format!("the statement is nested more than {RECURSION_LIMIT} deep; flatten it")
        }
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => format!("syntax error: {text}"),
    })
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => true,
        Token::Word(word) => ["AND", "OR", "NOT", "UNION", "EXCEPT", "INTERSECT"]
            .iter()
            .any(|name| word.value.eq_ignore_ascii_case(name)),
        _ => false,
    }
}

/// Refuses a statement whose expressions or set operations are too deep to be planned safely.
pub(crate) fn check_depth(statement: &Statement) -> Result<(), Error> {
    let deepest = match statement {
        Statement::Statement(statement) => depth_of(statement.as_ref()),
        Statement::Explain(explain) => return check_depth(&explain.statement),
        _ => return Ok(()),
    };
    match deepest {
        Depth::Expression => Err(Error::invalid(format!(
            "an expression is more than {MAX_DEPTH} operators deep; use IN lists, or split the statement"
        ))),
        Depth::SetOperation => Err(Error::invalid(format!(
            "more than {MAX_SET_DEPTH} set operations are chained; put the rows into a table"
        ))),
        Depth::Fine => Ok(()),
    }
}

enum Depth {
    Fine,
    Expression,
    SetOperation,
}

fn depth_of(statement: &impl Visit) -> Depth {
    let mut depths = Depths { expression: 0 };
    match statement.visit(&mut depths) {
        ControlFlow::Continue(()) => Depth::Fine,
        ControlFlow::Break(depth) => depth,
    }
}

struct Depths {
    expression: usize,
}

impl Visitor for Depths {
    type Break = Depth;

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<Depth> {
        self.expression += 1;
        if self.expression > MAX_DEPTH { ControlFlow::Break(Depth::Expression) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Depth> {
        self.expression -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &datafusion::sql::sqlparser::ast::Query) -> ControlFlow<Depth> {
        let (mut body, mut depth) = (query.body.as_ref(), 0);
        while let SetExpr::SetOperation { left, .. } = body {
            (body, depth) = (left.as_ref(), depth + 1);
        }
        if depth > MAX_SET_DEPTH { ControlFlow::Break(Depth::SetOperation) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: String) -> Result<(), Error> {
        let run = move || {
            let statements = parse(&sql, Dialect::Generic)?;
            statements.iter().try_for_each(check_depth)
        };
        let thread = std::thread::Builder::new().stack_size(1 << 30).spawn(run).expect("a thread");
        thread.join().expect("no panic")
    }

    #[test]
    fn chains_are_refused_by_depth() {
        for operator in [" + ", " OR ", " AND "] {
            let chain = |length: usize| format!("SELECT {}", vec!["1"; length].join(operator));
            assert!(check(chain(500)).is_ok());
            let error = check(chain(10_000)).expect_err("too deep").to_string();
            assert!(error.contains("operators deep"), "{error}");
        }
    }

    #[test]
    fn nesting_is_refused_by_depth() {
        let nested = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
        let error = check(nested).expect_err("too deep").to_string();
        assert!(error.contains("nested more than"), "{error}");
    }

    #[test]
    fn long_unions_are_refused() {
        let unions = vec!["SELECT 1"; 3_000].join(" UNION ALL ");
        let error = check(unions).expect_err("too long").to_string();
        assert!(error.contains("set operations"), "{error}");
    }

    #[test]
    fn question_marks_are_numbered_and_nothing_else_changes() {
        let numbered = number_placeholders("SELECT ?, 'a''?' -- ?\nWHERE \"ü?\" = ?");
        assert_eq!(numbered, "SELECT $1, 'a''?' -- ?\nWHERE \"ü?\" = $2");
        assert_eq!(number_placeholders("SELECT /*! ?, */ 2"), "SELECT /*! ?, */ 2");
    }

    #[test]
    fn syntax_errors_tell_where() {
        let error = check("SELECT 1 +".into()).expect_err("incomplete").to_string();
        assert!(error.starts_with("syntax error: "), "{error}");
        let error = check("SELECT a FROM t WHERE x = = 1".into()).expect_err("wrong").to_string();
        assert!(error.contains("Line: 1, Column: 27"), "{error}");
    }
}
