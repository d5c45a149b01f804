//! The input rows of a filter or projection with subqueries, and the joins that answer the subqueries.
//!
//! An EXISTS that is a whole condition becomes a semi or anti join. An EXISTS inside a larger expression becomes a mark
//! join, and the mark column replaces the EXISTS. A scalar subquery becomes a left join, and the column with its value
//! replaces the subquery.

use std::mem::{replace, take};
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchemaRef, Result};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Case, Expr, Filter, JoinType, Limit, LogicalPlan, Operator, Projection, Subquery, lit, not,
    scalar_subquery,
};

use super::Rewriter;
use super::existence::{Existence, existence, has_at_most_one_row};
use super::kept::{is_plain_operand, keeps};
use super::membership::{Membership, Wanted};
use super::path::Asked;
use super::references::is_correlated;
use super::unnest::Unnesting;

pub(super) struct Rows<'a> {
    pub(super) plan: LogicalPlan,
    /// The input rows before any join.
    base: LogicalPlan,
    rewriter: &'a Rewriter<'a>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(plan: LogicalPlan, rewriter: &'a Rewriter<'a>) -> Self {
        Self { base: plan.clone(), plan, rewriter }
    }

    /// Keeps the rows for which `test` is TRUE, by joins. Returns the conditions that are still to be tested.
    pub(super) fn restrict(&mut self, test: Expr) -> Result<Vec<Expr>> {
        match test {
            Expr::Exists(exists) => self.restrict_by(exists),
            Expr::InSubquery(membership) => {
                let mut left = vec![];
                for test in self.membership(membership)?.tests()? {
                    left.extend(self.restrict(test)?);
                }
                Ok(left)
            }
            Expr::Not(inner) => match *inner {
                Expr::Exists(Exists { subquery, negated }) => self.restrict_by(Exists { subquery, negated: !negated }),
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    self.restrict(Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }))
                }
                other => Ok(vec![self.expression(not(other), Wanted::Truth)?]),
            },
            other => Ok(vec![self.expression(other, Wanted::Truth)?]),
        }
    }

    /// Replaces each subquery in `expr` that must become a join by a column of that join. Values that `wanted` does not
    /// tell apart may be exchanged in the result.
    pub(super) fn expression(&mut self, expr: Expr, wanted: Wanted) -> Result<Expr> {
        let expr = self.without_memberships(expr, wanted)?;
        expr.transform(|part| match part {
            Expr::Exists(exists) => Ok(Transformed::yes(self.mark(exists)?)),
            Expr::ScalarSubquery(subquery) => match self.value(&subquery)? {
                Some(value) => Ok(Transformed::yes(value)),
                None => Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
            },
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    /// The rows for which all `tests` are TRUE, with the columns of `schema`.
    pub(super) fn filtered(self, tests: Vec<Expr>, schema: &DFSchemaRef) -> Result<LogicalPlan> {
        let mut plan = self.plan;
        if let Some(predicate) = conjunction(tests) {
            plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?);
        }
        if plan.schema().fields().len() != schema.fields().len() {
            let columns = schema.columns().into_iter().map(Expr::Column).collect();
            plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
        }
        Ok(plan)
    }

    fn restrict_by(&mut self, exists: Exists) -> Result<Vec<Expr>> {
        let plan = match existence(&exists.subquery.subquery)? {
            Existence::Known(known) if known == exists.negated => return Ok(vec![lit(false)]),
            Existence::Known(_) => return Ok(vec![]),
            Existence::Of(plan) => plan,
        };
        if !is_correlated(&plan) {
            let any = any_row(plan)?;
            return Ok(vec![if exists.negated { not(any) } else { any }]);
        }
        let join_type = if exists.negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
        let unnested = self.unnesting(Asked::Existence).unnest(&plan)?;
        self.plan = unnested.join(take(&mut self.plan), join_type)?;
        Ok(vec![])
    }

    fn mark(&mut self, exists: Exists) -> Result<Expr> {
        let is_there = match existence(&exists.subquery.subquery)? {
            Existence::Known(known) => lit(known),
            Existence::Of(plan) if !is_correlated(&plan) => any_row(plan)?,
            Existence::Of(plan) => {
                let unnested = self.unnesting(Asked::Existence).unnest(&plan)?;
                let mark = unnested.mark();
                self.plan = unnested.join(take(&mut self.plan), JoinType::LeftMark)?;
                mark
            }
        };
        Ok(if exists.negated { not(is_there) } else { is_there })
    }

    /// The column with the value of a scalar subquery; `None` if the subquery stays as it is.
    fn value(&mut self, subquery: &Subquery) -> Result<Option<Expr>> {
        let plan = subquery.subquery.as_ref();
        if keeps(plan, self.plan.schema(), Asked::Value)? || !has_at_most_one_row(plan) {
            return Ok(None);
        }
        let unnested = self.unnesting(Asked::Value).unnest(plan)?;
        let value = unnested.value();
        self.plan = unnested.join(take(&mut self.plan), JoinType::Left)?;
        Ok(Some(value))
    }

    fn unnesting(&self, asked: Asked) -> Unnesting<'_> {
        Unnesting { outer: &self.plan, base: &self.base, aliases: self.rewriter.aliases, asked }
    }

    /// Replaces every IN in `expr` by EXISTS, or by an equality with a scalar subquery.
    fn without_memberships(&mut self, expr: Expr, wanted: Wanted) -> Result<Expr> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let left = self.without_memberships(*left, wanted)?;
                let right = self.without_memberships(*right, wanted)?;
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
            }
            Expr::Not(inner) => not(self.without_memberships(*inner, wanted.negated())?),
            Expr::IsTrue(inner) => self.without_memberships(*inner, Wanted::Truth)?.is_true(),
            Expr::IsNotTrue(inner) => self.without_memberships(*inner, Wanted::Truth)?.is_not_true(),
            Expr::IsFalse(inner) => self.without_memberships(*inner, Wanted::Falsity)?.is_false(),
            Expr::IsNotFalse(inner) => self.without_memberships(*inner, Wanted::Falsity)?.is_not_false(),
            Expr::Alias(mut alias) => {
                let inner = self.without_memberships(*alias.expr, wanted)?;
                alias.expr = Box::new(inner);
                Expr::Alias(alias)
            }
            Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
                let mut branches = vec![];
                for (condition, value) in when_then_expr {
                    let condition = self.without_memberships(*condition, Wanted::Truth)?;
                    let value = self.without_memberships(*value, wanted)?;
                    branches.push((Box::new(condition), Box::new(value)));
                }
                let otherwise = match else_expr {
                    Some(value) => Some(Box::new(self.without_memberships(*value, wanted)?)),
                    None => None,
                };
                Expr::Case(Case::new(None, branches, otherwise))
            }
            Expr::InSubquery(membership) => self.membership(membership)?.expression(wanted)?,
            other => {
                let value = |part: Expr| Ok(Transformed::yes(self.without_memberships(part, Wanted::Value)?));
                other.map_children(value)?.data
            }
        })
    }

    /// Prepares an IN for several evaluations of its left side. If the left side has a subquery or random(), a
    /// projection below computes it once, and the column of that projection becomes the left side.
    fn membership(&mut self, mut membership: InSubquery) -> Result<Membership> {
        if !is_plain_operand(&membership.expr) {
            let name = self.rewriter.aliases.next("__operand");
            let mut exprs: Vec<_> = self.plan.schema().columns().into_iter().map(Expr::Column).collect();
            let column = Expr::Column(Column::new_unqualified(name.clone()));
            exprs.push(replace(&mut *membership.expr, column).alias(name));
            let projection = Projection::try_new(exprs, Arc::new(take(&mut self.plan)))?;
            self.plan = self.rewriter.projection(projection)?.data;
        }
        Ok(Membership::new(membership, Arc::clone(self.plan.schema())))
    }
}

/// Whether an uncorrelated subquery has rows: `(SELECT count(*) FROM (… LIMIT 1)) > 0`. It runs once, up to its first
/// row.
fn any_row(plan: LogicalPlan) -> Result<Expr> {
    let first = Limit { skip: None, fetch: Some(Box::new(lit(1i64))), input: Arc::new(plan) };
    let rows = Aggregate::try_new(Arc::new(LogicalPlan::Limit(first)), vec![], vec![count(lit(1i64))])?;
    Ok(scalar_subquery(Arc::new(LogicalPlan::Aggregate(rows))).gt(lit(0i64)))
}
