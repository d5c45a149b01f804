//! What a query may answer, by an engine that is the judge: plain DataFusion, or one that is asked elsewhere.
//!
//! A query with ORDER BY leaves the order of rows with equal keys open, and with LIMIT also which of them come. So the
//! judge asks for all rows and their keys, in order, and allows each run of equal keys to come in any order.
//! `workloads/oracle/ask_duckdb.py` does to the queries for DuckDB what this file does to plans.

use std::ops::Range;

use arrow::array::RecordBatch;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, LogicalPlanBuilder, SkipType, SortExpr};
use datafusion::prelude::SessionContext;

use crate::answers::{Cell, Likeness, compare_rows, rows, same_row};

/// All rows that a query could answer, were it not for its LIMIT.
#[derive(Debug)]
pub struct Expected {
    rows: Vec<Vec<Cell>>,
    /// Where each run of rows with equal keys ends; without ORDER BY there is one run.
    run_ends: Vec<usize>,
    /// Which of the rows are answered.
    window: Range<usize>,
    likeness: Likeness,
}

/// The OFFSET and the LIMIT of a query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// Rows that come before the answer.
    pub skip: usize,
    /// Rows of the answer; all of them without a LIMIT.
    pub fetch: Option<usize>,
}

/// Asks plain DataFusion, for answers that are as like to its own as that.
pub async fn expected(context: &SessionContext, sql: &str, likeness: Likeness) -> Result<Expected> {
    let plan = context.sql(sql).await?.into_unoptimized_plan();
    let (limit, plan) = without_limit(plan)?;
    let (plan, keys) = with_keys(plan)?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    Expected::new(&batches, keys, limit, likeness)
}

impl Expected {
    /// From the rows that a judge gave without the query's limit, in order. Their last columns, `keys` of them, are the
    /// sort keys.
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

    /// Says in what an answer is none that the query allows.
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

/// A row that came and is not among those that may, or not as often.
fn foreign<'a>(allowed: &[Vec<Cell>], came: &'a mut [Vec<Cell>], likeness: Likeness) -> Option<&'a Vec<Cell>> {
    let mut allowed: Vec<&Vec<Cell>> = allowed.iter().collect();
    allowed.sort_by(|a, b| compare_rows(a, b));
    came.sort_by(|a, b| compare_rows(a, b));
    let mut next = allowed.into_iter();
    came.iter().find(|row| !next.by_ref().any(|allowed| same_row(allowed, row, likeness)))
}

/// A plan without the limit at its top, and that limit.
fn without_limit(plan: LogicalPlan) -> Result<(Limit, LogicalPlan)> {
    if let LogicalPlan::Limit(limit) = &plan
        && let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
    {
        return Ok((Limit { skip, fetch }, limit.input.as_ref().clone()));
    }
    Ok((Limit::default(), plan))
}

/// A plan that gives its sort keys as further columns, and how many those are.
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
