//! `t AT TIME ZONE 'Europe/Berlin'` means `arrow_cast(t, 'Timestamp(ns, "Europe/Berlin")')`: a time without a zone is
//! taken as a time in Berlin. DataFusion's planner turns AT TIME ZONE into a `Cast`. Type coercion adds the same kind
//! of `Cast`, which must use the session's zone. Without this rewrite later rules could not tell the two apart.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Value, VisitorMut};

use super::call;

pub(super) struct AtTimeZone;

impl VisitorMut for AtTimeZone {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::AtTimeZone { timestamp, time_zone } = expr
            && let Expr::Value(zone) = time_zone.as_ref()
            && let Value::SingleQuotedString(zone) = &zone.value
            && !zone.contains('"')
        {
            let data_type = Value::SingleQuotedString(format!("Timestamp(ns, \"{zone}\")"));
            *expr = call("arrow_cast", [timestamp.as_ref().clone(), Expr::value(data_type)]);
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
    fn a_zone_that_is_named_is_a_type() {
        let rewritten = |sql: &str| {
            let mut statement = parse(sql, Dialect::Generic).expect("it parses").pop_front().expect("a statement");
            rewrite(&mut statement, &IdentNormalizer::default()).expect("it has a meaning");
            statement.to_string()
        };
        assert_eq!(
            rewritten("SELECT t AT TIME ZONE '+02:00' AT TIME ZONE 'UTC'"),
            "SELECT arrow_cast(arrow_cast(t, 'Timestamp(ns, \"+02:00\")'), 'Timestamp(ns, \"UTC\")')"
        );
        assert_eq!(rewritten("SELECT t AT TIME ZONE zone"), "SELECT t AT TIME ZONE zone");
    }
}
