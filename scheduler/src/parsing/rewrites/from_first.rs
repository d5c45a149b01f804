//! `FROM t` without SELECT means `SELECT * FROM t`, as in DuckDB. DataFusion's planner gives it rows without columns.
//! `SELECT FROM t` does mean rows without columns, as in PostgreSQL, and stays. Upstream: apache/datafusion#17513.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Select, SelectFlavor, SelectItem, VisitorMut, WildcardAdditionalOptions};

pub(super) struct FromFirst;

impl VisitorMut for FromFirst {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        if select.flavor == SelectFlavor::FromFirstNoSelect {
            select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            // The text of a view then has SELECT too.
            select.flavor = SelectFlavor::Standard;
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

    fn rewritten(sql: &str) -> String {
        let mut statement = parse(sql, Dialect::DuckDB).expect("it parses").pop_front().expect("a statement");
        rewrite(&mut statement, &IdentNormalizer::default()).expect("it has a meaning");
        statement.to_string()
    }

    #[test]
    fn a_bare_from_selects_all_columns() {
        assert_eq!(rewritten("FROM t"), "SELECT * FROM t");
        assert_eq!(rewritten("FROM 'f.csv' ORDER BY a LIMIT 1"), "SELECT * FROM 'f.csv' ORDER BY a LIMIT 1");
        assert_eq!(
            rewritten("CREATE VIEW v AS FROM t JOIN u USING (a)"),
            "CREATE VIEW v AS SELECT * FROM t JOIN u USING(a)"
        );
        assert_eq!(
            rewritten("SELECT count(*) FROM (FROM t) WHERE a IN (FROM u)"),
            "SELECT count(*) FROM (SELECT * FROM t) WHERE a IN (SELECT * FROM u)"
        );
        assert_eq!(rewritten("FROM t UNION ALL FROM u"), "SELECT * FROM t UNION ALL SELECT * FROM u");
        assert_eq!(rewritten("EXPLAIN FROM t"), "EXPLAIN SELECT * FROM t");
    }

    #[test]
    fn others_stay() {
        for sql in ["FROM t SELECT a", "SELECT a FROM t"] {
            assert_eq!(rewritten(sql), sql);
        }
    }
}
