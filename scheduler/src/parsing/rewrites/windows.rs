//! Replaces the names of windows by their definitions in the WINDOW clause: `sum(x) OVER w` and
//! `sum(x) OVER (w ORDER BY y)`, in the SELECT list, in DISTINCT ON, in QUALIFY and in ORDER BY.
//!
//! DataFusion's planner does this only for `OVER w` in the SELECT list. Elsewhere it plans `sum(x) OVER w` as an
//! aggregate. It ignores `w` in `OVER (w ORDER BY y)`. In a subquery it replaces `w` by the outer query's definition.
//!
//! ```text
//! SELECT a, sum(x) OVER (w ORDER BY b)                 FROM t WINDOW w AS (PARTITION BY a)
//! SELECT a, sum(x) OVER (PARTITION BY a ORDER BY b)    FROM t WINDOW w AS (PARTITION BY a)
//! ```

use std::ops::ControlFlow;

use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SetExpr, VisitMut, VisitorMut,
    WindowSpec, WindowType, visit_expressions,
};

use crate::error::Error;

/// Maximum expressions in the inserted windows of one statement, counted for each use of a window (100,000). Without
/// a limit they could fill the memory: a window of 1,000 columns that is used 1,000 times gives a million expressions.
const MAX_EXPRESSIONS: usize = 100_000;

/// Visits each SELECT and inserts its windows into its own expressions.
pub(super) struct NamedWindows<'a> {
    names: &'a IdentNormalizer,
    /// The number of expressions that were inserted so far.
    expressions: usize,
}

impl<'a> NamedWindows<'a> {
    pub(super) fn new(names: &'a IdentNormalizer) -> Self {
        Self { names, expressions: 0 }
    }

    fn put(&mut self, definitions: &[NamedWindowDefinition], node: &mut impl VisitMut) -> ControlFlow<Box<Error>> {
        if definitions.is_empty() {
            return ControlFlow::Continue(());
        }
        let mut windows = Windows { names: self.names, known: Vec::new(), queries: 0, expressions: self.expressions };
        if let Err(error) = windows.define(definitions) {
            return ControlFlow::Break(Box::new(error));
        }
        node.visit(&mut windows)?;
        self.expressions = windows.expressions;
        ControlFlow::Continue(())
    }
}

impl VisitorMut for NamedWindows<'_> {
    type Break = Box<Error>;

    /// ORDER BY belongs to the query, but it may name the windows of the query's SELECT.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        let Query { body, order_by, .. } = query;
        match body.as_ref() {
            SetExpr::Select(select) => self.put(&select.named_window, order_by),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        let Select { named_window, distinct, projection, qualify, .. } = select;
        self.put(named_window, distinct)?;
        self.put(named_window, projection)?;
        self.put(named_window, qualify)
    }
}

/// The windows of one SELECT. The visitor replaces their names in the SELECT, but not in its subqueries, where the
/// names are not defined.
struct Windows<'a> {
    names: &'a IdentNormalizer,
    known: Vec<(String, WindowSpec)>,
    /// The number of subqueries around the visited node.
    queries: usize,
    /// The number of expressions that were inserted so far.
    expressions: usize,
}

impl Windows<'_> {
    fn define(&mut self, definitions: &[NamedWindowDefinition]) -> Result<(), Error> {
        for NamedWindowDefinition(name, window) in definitions {
            let over = match window {
                NamedWindowExpr::NamedWindow(other) => WindowType::NamedWindow(other.clone()),
                NamedWindowExpr::WindowSpec(spec) => WindowType::WindowSpec(spec.clone()),
            };
            let spec = match (self.meant(&over)?, over) {
                (Some(spec), _) | (None, WindowType::WindowSpec(spec)) => spec,
                // The name refers to an unknown window. A function that uses it is refused later.
                (None, WindowType::NamedWindow(_)) => continue,
            };
            self.known.push((self.names.normalize(name.clone()), spec));
        }
        Ok(())
    }

    /// The complete window, if `over` names a known one.
    fn meant(&mut self, over: &WindowType) -> Result<Option<WindowSpec>, Error> {
        let whole = match over {
            WindowType::NamedWindow(name) => self.find(name).cloned(),
            WindowType::WindowSpec(spec) => match &spec.window_name {
                Some(name) => self.find(name).map(|base| extended(name, base, spec)).transpose()?,
                None => None,
            },
        };
        if let Some(spec) = &whole {
            self.expressions += expressions_of(spec);
            if self.expressions > MAX_EXPRESSIONS {
                return Err(Error::invalid(format!(
                    "the windows of the WINDOW clauses have more than {MAX_EXPRESSIONS} expressions, where a window \
                     counts once for each use; define windows with fewer expressions"
                )));
            }
        }
        Ok(whole)
    }

    fn find(&self, name: &Ident) -> Option<&WindowSpec> {
        let name = self.names.normalize(name.clone());
        self.known.iter().find(|(known, _)| *known == name).map(|(_, spec)| spec)
    }
}

impl VisitorMut for Windows<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Box<Error>> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Box<Error>> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    /// Runs after the arguments and the window of the function were visited. So an inserted definition is not visited
    /// again, and a window whose definition uses the window itself does not cause an endless loop.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        let Expr::Function(Function { over: Some(over), .. }) = expr else { return ControlFlow::Continue(()) };
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        match self.meant(over) {
            Ok(Some(spec)) => *over = WindowType::WindowSpec(spec),
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        ControlFlow::Continue(())
    }
}

fn expressions_of(spec: &WindowSpec) -> usize {
    let mut expressions = 0;
    let _ = visit_expressions(spec, |_| {
        expressions += 1;
        ControlFlow::<()>::Continue(())
    });
    expressions
}

/// The window of `(name …)`: PARTITION BY comes from the window `name`. A frame may be added, and an ORDER BY if `name`
/// has none. If `name` has a frame, it cannot be extended.
fn extended(name: &Ident, base: &WindowSpec, spec: &WindowSpec) -> Result<WindowSpec, Error> {
    let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
    if !partition_by.is_empty() {
        return Err(Error::invalid(format!(
            "a window that extends the window {name} cannot have its own PARTITION BY; leave out {name}"
        )));
    }
    if !order_by.is_empty() && !base.order_by.is_empty() {
        return Err(Error::invalid(format!(
            "the window {name} has an ORDER BY already; leave out {name}, or this ORDER BY"
        )));
    }
    if base.window_frame.is_some() {
        return Err(Error::invalid(format!(
            "the window {name} has a frame, so nothing can be added to it; write OVER {name}"
        )));
    }
    let order_by = if base.order_by.is_empty() { order_by } else { &base.order_by };
    Ok(WindowSpec {
        window_name: base.window_name.clone(),
        partition_by: base.partition_by.clone(),
        order_by: order_by.clone(),
        window_frame: window_frame.clone(),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::Dialect;

    use super::super::rewrite;
    use super::*;
    use crate::parsing::parse;

    fn rewritten(sql: &str) -> Result<String, Error> {
        let mut statement = parse(sql, Dialect::Generic)?.pop_front().expect("a statement");
        rewrite(&mut statement, &IdentNormalizer::default())?;
        Ok(statement.to_string())
    }

    /// The part before FROM.
    fn list(sql: &str) -> String {
        let text = rewritten(sql).expect("it has a meaning");
        text.split(" FROM ").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn windows_take_the_places_of_their_names() {
        assert_eq!(
            list("SELECT sum(x) OVER w, 1 + max(y) OVER W FROM t WINDOW w AS (PARTITION BY a ORDER BY b)"),
            "SELECT sum(x) OVER (PARTITION BY a ORDER BY b), 1 + max(y) OVER (PARTITION BY a ORDER BY b)"
        );
        assert_eq!(
            list("SELECT sum(x) OVER v FROM t WINDOW w AS (PARTITION BY a), v AS (w ORDER BY b)"),
            "SELECT sum(x) OVER (PARTITION BY a ORDER BY b)"
        );
        assert_eq!(
            list("SELECT sum(x) OVER (w ROWS 1 PRECEDING) FROM t WINDOW w AS (ORDER BY b)"),
            "SELECT sum(x) OVER (ORDER BY b ROWS 1 PRECEDING)"
        );
    }

    #[test]
    fn windows_reach_other_clauses() {
        let text =
            rewritten("SELECT a FROM t WINDOW w AS (PARTITION BY a) QUALIFY row_number() OVER (w ORDER BY b) = 1");
        let text = text.expect("it has a meaning");
        assert!(text.contains("QUALIFY row_number() OVER (PARTITION BY a ORDER BY b) = 1"), "{text}");
        let text = rewritten("SELECT a FROM (SELECT a FROM t WINDOW w AS (ORDER BY b) ORDER BY max(x) OVER w) q");
        let text = text.expect("it has a meaning");
        assert!(text.contains("ORDER BY max(x) OVER (ORDER BY b)) q"), "{text}");
    }

    #[test]
    fn each_select_has_its_own_windows() {
        assert_eq!(
            rewritten(
                "SELECT (SELECT max(s) FROM (SELECT sum(y) OVER w AS s FROM u WINDOW w AS (ORDER BY c)) q), \
                 sum(x) OVER w FROM t WINDOW w AS (ORDER BY a)"
            )
            .expect("it has a meaning"),
            "SELECT (SELECT max(s) FROM (SELECT sum(y) OVER (ORDER BY c) AS s FROM u WINDOW w AS (ORDER BY c)) q), \
             sum(x) OVER (ORDER BY a) FROM t WINDOW w AS (ORDER BY a)"
        );
    }

    #[test]
    fn unknown_names_stay() {
        for sql in [
            "SELECT sum(x) OVER w FROM t",
            "SELECT sum(x) OVER \"W\" FROM t WINDOW w AS (ORDER BY a)",
            "SELECT sum(x) OVER v FROM t WINDOW v AS w",
        ] {
            assert_eq!(rewritten(sql).expect("it parses"), sql);
        }
    }

    #[test]
    fn windows_within_windows_end() {
        let text = rewritten("SELECT sum(x) OVER w FROM t WINDOW w AS (ORDER BY sum(x) OVER w)").expect("it parses");
        assert!(text.starts_with("SELECT sum(x) OVER (ORDER BY sum(x) OVER w) FROM t"), "{text}");
    }

    #[test]
    fn long_windows_are_not_put_everywhere() {
        let columns = |length| vec!["a"; length].join(", ");
        let uses = |length| vec!["sum(x) OVER w"; length].join(", ");
        let sql = |long, often| format!("SELECT {} FROM t WINDOW w AS (ORDER BY {})", uses(often), columns(long));
        assert!(rewritten(&sql(100, 100)).is_ok());
        let error = rewritten(&sql(1_000, 1_000)).expect_err("too much").to_string();
        assert!(error.contains("define windows with fewer expressions"), "{error}");
    }

    #[test]
    fn what_cannot_be_added_is_said() {
        for (over, reason) in [
            ("(w PARTITION BY b)", "cannot have its own PARTITION BY"),
            ("(w ORDER BY b)", "has an ORDER BY already"),
            ("(f)", "has a frame"),
        ] {
            let sql = format!(
                "SELECT sum(x) OVER {over} FROM t WINDOW w AS (ORDER BY a), f AS (ORDER BY a ROWS 1 PRECEDING)"
            );
            let error = rewritten(&sql).expect_err("it has no meaning").to_string();
            assert!(error.contains(reason), "{over}: {error}");
        }
    }
}
