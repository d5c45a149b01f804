//! Refuses short statements that become large plans: DataFusion plans each use of a common table expression, each
//! grouping set and each value of an IN list separately.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, ObjectName, ObjectNamePart, Query, Select, Visit, Visitor};

use crate::error::Error;

/// Maximum tables of one statement (20,000). The tables of a common table expression count for each use of it.
const MAX_TABLES: usize = 20_000;
/// Maximum grouping sets of one SELECT (4,096).
const MAX_GROUPING_SETS: usize = 4_096;
/// Maximum values of one IN list (100,000).
const MAX_IN_LIST: usize = 100_000;

/// Refuses a statement whose plan would become too large.
pub(crate) fn check_growth(statement: &Statement) -> Result<(), Error> {
    match statement {
        Statement::Statement(statement) => match statement.visit(&mut Growth::default()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(sentence) => Err(Error::invalid(sentence)),
        },
        Statement::Explain(explain) => check_growth(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Ok(()),
    }
}

/// Counts the tables of each query that encloses the visited node.
#[derive(Default)]
struct Growth {
    queries: Vec<Level>,
}

#[derive(Default)]
struct Level {
    tables: usize,
    /// Common table expressions that are not visited yet: the address of the query, and the name.
    announced: Vec<(*const Query, String)>,
    /// Common table expressions that were visited: the name, and the number of tables.
    known: Vec<(String, usize)>,
}

impl Growth {
    fn add(&mut self, tables: usize) -> ControlFlow<String> {
        let Some(level) = self.queries.last_mut() else { return ControlFlow::Continue(()) };
        level.tables = level.tables.saturating_add(tables);
        if level.tables <= MAX_TABLES {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(format!(
            "the statement reads more than {MAX_TABLES} tables, where the tables of a WITH query count once for each \
             use; store a WITH query that is used often with CREATE TABLE … AS"
        ))
    }
}

impl Visitor for Growth {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let announced = tables.map(|table| (std::ptr::from_ref(&*table.query), name_of(&table.alias.name.value)));
        self.queries.push(Level { announced: announced.collect(), ..Level::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let tables = self.queries.pop().map_or(0, |level| level.tables);
        if let Some(outer) = self.queries.last_mut()
            && let Some(position) = outer.announced.iter().position(|(place, _)| std::ptr::eq(*place, query))
        {
            let (_, name) = outer.announced.swap_remove(position);
            outer.known.push((name, tables.max(1)));
            return ControlFlow::Continue(());
        }
        self.add(tables)
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<String> {
        // A common table expression has a name of one part. A relation with a longer name is a table.
        let name = match relation.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => name_of(&name.value),
            _ => return self.add(1),
        };
        let most =
            |level: &Level| level.known.iter().filter(|(known, _)| *known == name).map(|(_, tables)| *tables).max();
        let tables = self.queries.iter().rev().find_map(most).unwrap_or(1);
        self.add(tables)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        let GroupByExpr::Expressions(groups, _) = &select.group_by else { return ControlFlow::Continue(()) };
        let sets = groups.iter().map(grouping_sets).fold(1, usize::saturating_mul);
        if sets <= MAX_GROUPING_SETS {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(format!(
            "GROUP BY has more than {MAX_GROUPING_SETS} grouping sets; write those that are wanted as GROUPING SETS (…)"
        ))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        match expr {
            Expr::InList { list, .. } if list.len() > MAX_IN_LIST => ControlFlow::Break(format!(
                "an IN list has {} values, the limit is {MAX_IN_LIST}; put them into a table and write IN (SELECT …)",
                list.len()
            )),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Names are compared without case. Of two names that differ only in case, the larger table count is used.
fn name_of(name: &str) -> String {
    name.to_lowercase()
}

fn grouping_sets(group: &Expr) -> usize {
    match group {
        Expr::Cube(items) => {
            u32::try_from(items.len()).ok().and_then(|items| 2usize.checked_pow(items)).unwrap_or(usize::MAX)
        }
        Expr::Rollup(items) => items.len() + 1,
        Expr::GroupingSets(sets) => sets.len().max(1),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::Dialect;

    use super::*;
    use crate::parsing::parse;

    fn checked(sql: &str) -> Result<(), Error> {
        parse(sql, Dialect::Generic).expect("it can be parsed").iter().try_for_each(check_growth)
    }

    #[test]
    fn tables_that_double_are_refused() {
        let doubled = |times: usize| {
            let tables = (1..=times).map(|n| format!("C{n} AS (SELECT * FROM c{} a, c{} b)", n - 1, n - 1));
            let tables: Vec<_> = std::iter::once("c0 AS (SELECT 1 AS v)".to_owned()).chain(tables).collect();
            format!("WITH {} SELECT count(*) FROM c{times}", tables.join(", "))
        };
        assert!(checked(&doubled(10)).is_ok());
        let error = checked(&doubled(26)).expect_err("67 million").to_string();
        assert!(error.contains("20000 tables"), "{error}");
        assert!(checked(&format!("EXPLAIN {}", doubled(26))).is_err());
        // The quotes around the name do not matter.
        for name in ["w", "\"w\"", "`w`", "\"w\"\"x\""] {
            let uses = vec![name; 7_000].join(", ");
            assert!(
                checked(&format!("WITH {name} AS (SELECT 1 FROM t, t u, t v) SELECT 1 FROM {uses}")).is_err(),
                "{name}"
            );
        }
        // A WITH in a subquery counts too, and its names are known only within that subquery.
        assert!(checked(&format!("SELECT * FROM ({}) x", doubled(26))).is_err());
        assert!(checked("WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b, b c) SELECT * FROM a, a d, b").is_ok());
    }

    #[test]
    fn grouping_sets_and_lists_are_counted() {
        let columns = |n: usize| (0..n).map(|n| format!("c{n}")).collect::<Vec<_>>().join(", ");
        assert!(checked(&format!("SELECT 1 FROM t GROUP BY CUBE ({})", columns(12))).is_ok());
        assert!(checked(&format!("SELECT 1 FROM t GROUP BY CUBE ({})", columns(25))).is_err());
        assert!(checked(&format!("SELECT 1 FROM t GROUP BY CUBE ({0}), ROLLUP ({0})", columns(10))).is_err());
        let list = vec!["1"; 100_001].join(", ");
        let error = checked(&format!("SELECT 1 FROM t WHERE a IN ({list})")).expect_err("too long").to_string();
        assert!(error.contains("100001 values"), "{error}");
    }
}
