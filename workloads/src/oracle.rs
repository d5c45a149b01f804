//! The allowed answers to a query, from another engine as the judge: plain DataFusion, or an engine such as DuckDB.
//!
//! ORDER BY does not decide the order of rows with equal keys. LIMIT does not decide which of these rows are in the
//! answer. So the judge runs the query without its limit and returns all rows with their sort keys, in order. Within
//! each run of equal keys, the answer may have the rows in any order. `workloads/oracle/ask_duckdb.py` changes
//! queries for DuckDB in the way in which this file changes plans.
//!
//! ```text
//! SELECT b FROM t ORDER BY a LIMIT 2     judge: (x, 1) (y, 2) (z, 2)     allowed: x y, or x z
//! ```

use std::ops::Range;

use arrow::array::RecordBatch;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, LogicalPlanBuilder, SkipType, SortExpr};
use datafusion::prelude::SessionContext;

use crate::answers::{Cell, Likeness, compare_rows, rows, same_row};

/// All rows of a query without its LIMIT, and the positions that OFFSET and LIMIT select.
#[derive(Debug)]
pub struct Expected {
    rows: Vec<Vec<Cell>>,
    /// End of each run of rows with equal keys. Without ORDER BY there is one run.
    run_ends: Vec<usize>,
    /// Positions of the answer in `rows`, by OFFSET and LIMIT.
    window: Range<usize>,
    likeness: Likeness,
}

/// The OFFSET and the LIMIT of a query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// Number of rows before the answer.
    pub skip: usize,
    /// Number of rows of the answer. `None` without a LIMIT.
    pub fetch: Option<usize>,
}

/// Runs a query on plain DataFusion. `likeness` decides how answers are compared with its rows.
pub async fn expected(context: &SessionContext, sql: &str, likeness: Likeness) -> Result<Expected> {
    let plan = context.sql(sql).await?.into_unoptimized_plan();
    let (limit, plan) = without_limit(plan)?;
    let (plan, keys) = with_keys(plan)?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    Expected::new(&batches, keys, limit, likeness)
}

impl Expected {
    /// Takes the rows of a judge, in order and without the query's limit. The last `keys` columns are the sort keys.
    pub fn new(batches: &[RecordBatch], keys: usize, limit: Limit, likeness: Likeness) -> Result<Self> {
        let mut rows = rows(batches, likeness)?;
        let width = rows.first().map_or(0, |row| row.len() - keys);
        let keys: Vec<Vec<Cell>> = rows.iter_mut().map(|row| row.split_off(width)).collect();
        let changes = (1..rows.len()).filter(|row| !same_row(&keys[row - 1], &keys[*row], likeness));
        let run_ends = changes.chain([rows.len()]).collect();
        let start = limit.skip.min(rows.len());
        let end = start.saturating_add(limit.fetch.unwrap_or(usize::MAX)).min(rows.len());
        Ok(Self { rows, run_ends, window: start..end, likeness })
    }

    /// Describes why an answer is not allowed. `None` if it is allowed.
    pub fn difference(&self, answer: &[RecordBatch]) -> Result<Option<String>> {
        let mut answer = rows(answer, self.likeness)?;
        if answer.len() != self.window.len() {
            return Ok(Some(format!("{} rows were expected, {} came", self.window.len(), answer.len())));
        }
        let mut start = 0;
        for &end in &self.run_ends {
            let part = start.max(self.window.start)..end.min(self.window.end);
            if !part.is_empty() {
                let came = &mut answer[part.start - self.window.start..part.end - self.window.start];
                if let Some(row) = foreign(&self.rows[start..end], came, self.likeness) {
                    return Ok(Some(format!("{row:?} came, which is not among the rows {part:?} in order")));
                }
            }
            start = end;
        }
        Ok(None)
    }
}

/// A row of `came` that is not in `allowed`, or is more often in `came` than in `allowed`.
fn foreign<'a>(allowed: &[Vec<Cell>], came: &'a mut [Vec<Cell>], likeness: Likeness) -> Option<&'a Vec<Cell>> {
    let mut allowed: Vec<&Vec<Cell>> = allowed.iter().collect();
    allowed.sort_by(|a, b| compare_rows(a, b));
    came.sort_by(|a, b| compare_rows(a, b));
    let mut next = allowed.into_iter();
    came.iter().find(|row| !next.by_ref().any(|allowed| same_row(allowed, row, likeness)))
}

/// Removes the limit at the top of a plan. Returns the limit and the plan without it.
fn without_limit(plan: LogicalPlan) -> Result<(Limit, LogicalPlan)> {
    if let LogicalPlan::Limit(limit) = &plan
        && let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
    {
        return Ok((Limit { skip, fetch }, limit.input.as_ref().clone()));
    }
    Ok((Limit::default(), plan))
}

/// Adds the sort keys as further columns to a plan, and returns the number of keys.
fn with_keys(plan: LogicalPlan) -> Result<(LogicalPlan, usize)> {
    match &plan {
        LogicalPlan::Sort(sort) => {
            let columns = sort.input.schema().iter().map(|column| Expr::Column(Column::from(column)));
            let exprs = columns.chain(keys(&sort.expr)).collect::<Vec<_>>();
            let count = sort.expr.len();
            Ok((LogicalPlanBuilder::from(plan).project(exprs)?.build()?, count))
        }
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Sort(sort) => {
                let exprs = projection.expr.iter().cloned().chain(keys(&sort.expr)).collect::<Vec<_>>();
                let input = projection.input.as_ref().clone();
                Ok((LogicalPlanBuilder::from(input).project(exprs)?.build()?, sort.expr.len()))
            }
            _ => Ok((plan, 0)),
        },
        _ => Ok((plan, 0)),
    }
}

fn keys(sort: &[SortExpr]) -> impl Iterator<Item = Expr> {
    sort.iter().enumerate().map(|(index, key)| key.expr.clone().alias(format!("hwacha_key_{index}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether plain DataFusion's rows of `answer` are allowed for `query`.
    async fn allows(query: &str, answer: &str) -> bool {
        let context = SessionContext::new();
        let expected = expected(&context, query, Likeness::SameEngine).await.expect("a query");
        let answer = context.sql(answer).await.expect("a query").collect().await.expect("rows");
        expected.difference(&answer).expect("comparable").is_none()
    }

    #[tokio::test]
    async fn order_and_ties_are_judged_as_the_query_leaves_them() {
        let rows = |rows: &str| format!("SELECT * FROM (VALUES {rows}) t(a, b)");
        let table = rows("(1, 'x'), (1, 'y'), (2, 'z'), (2, 'z')");
        for (tail, answer, right) in [
            ("", "(2, 'z'), (1, 'y'), (2, 'z'), (1, 'x')", true),
            ("", "(2, 'z'), (1, 'y'), (1, 'y'), (1, 'x')", false),
            (" ORDER BY a", "(1, 'y'), (1, 'x'), (2, 'z'), (2, 'z')", true),
            (" ORDER BY a", "(1, 'y'), (2, 'z'), (1, 'x'), (2, 'z')", false),
            (" ORDER BY a LIMIT 1", "(1, 'y')", true),
            (" ORDER BY a LIMIT 1", "(2, 'z')", false),
            (" ORDER BY a LIMIT 2 OFFSET 1", "(1, 'x'), (2, 'z')", true),
            (" ORDER BY a LIMIT 2 OFFSET 1", "(2, 'z'), (2, 'z')", false),
            (" LIMIT 2", "(2, 'z'), (2, 'z')", true),
            (" LIMIT 2", "(1, 'x'), (1, 'x')", false),
        ] {
            assert_eq!(allows(&format!("{table}{tail}"), &rows(answer)).await, right, "{tail}: {answer}");
        }
    }

    #[tokio::test]
    async fn keys_need_not_be_selected() {
        let query = "SELECT b FROM (VALUES (1, 'x'), (2, 'y')) t(a, b) ORDER BY a DESC LIMIT 1";
        assert!(allows(query, "SELECT 'y'").await);
        assert!(!allows(query, "SELECT 'x'").await);
    }
}
