//! `CAST (x AS VARCHAR(3))` cuts the text, as in PostgreSQL and Trino: it means `left(CAST (x AS VARCHAR), 3)`.
//! DataFusion's planner ignores the length.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{CharacterLength, DataType, Expr, Value, VisitorMut};

use super::call;

pub(super) struct TextLengths;

impl VisitorMut for TextLengths {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Cast { data_type, .. } = expr
            && let DataType::Varchar(Some(CharacterLength::IntegerLength { length, unit: _ })) = data_type
        {
            let length = Expr::value(Value::Number(length.to_string(), false));
            *data_type = DataType::Varchar(None);
            let text = expr.clone();
            *expr = call("left", [text, length]);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::Dialect;
    use datafusion::sql::planner::IdentNormalizer;

    use super::super::rewrite;
    use crate::parsing::parse;

    #[test]
    fn a_cast_to_a_text_of_some_length_cuts_it() {
        let rewritten = |sql: &str| {
            let mut statement = parse(sql, Dialect::Generic).expect("it parses").pop_front().expect("a statement");
            rewrite(&mut statement, &IdentNormalizer::default()).expect("it has a meaning");
            statement.to_string()
        };
        assert_eq!(rewritten("SELECT CAST(a AS VARCHAR(3)) AS b"), "SELECT left(CAST(a AS VARCHAR), 3) AS b");
        assert_eq!(rewritten("SELECT (a::varchar(3)) || 'x'"), "SELECT (left(a::VARCHAR, 3)) || 'x'");
        assert_eq!(rewritten("SELECT CAST(a AS VARCHAR)"), "SELECT CAST(a AS VARCHAR)");
    }
}
