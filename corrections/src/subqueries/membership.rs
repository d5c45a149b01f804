//! Rewrites IN and NOT IN to EXISTS.
//!
//! `x IN (SELECT e FROM s)` is TRUE if some row has `e = x`; else NULL if some row has `e IS NULL`, or if `x IS NULL`
//! and there are rows at all; else FALSE. DataFusion's mark joins give only TRUE and FALSE, and its null-aware anti
//! join has only one key (<https://github.com/apache/datafusion/issues/25347>,
//! <https://github.com/apache/datafusion/issues/25473>).

use std::iter::once;
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, exists, lit, not, scalar_subquery, when};

use super::existence::has_one_row;
use super::references::{as_outer, has, has_value_subquery, is_correlated};
use super::source::is_reproducible;

/// Which values of a condition must be told apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    /// TRUE from FALSE and NULL, as in WHERE: NULL may become FALSE.
    Truth,
    /// FALSE from TRUE and NULL, as in WHERE NOT: NULL may become TRUE.
    Falsity,
    /// TRUE, FALSE and NULL from each other.
    Value,
}

impl Wanted {
    /// The values of `c` that must be told apart, if `self` are the values of `NOT c` that must be told apart.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Truth => Self::Falsity,
            Self::Falsity => Self::Truth,
            Self::Value => Self::Value,
        }
    }
}

/// An IN or NOT IN whose left side may be evaluated in any number of places.
pub(super) struct Membership {
    operand: Expr,
    subquery: Arc<LogicalPlan>,
    negated: bool,
    /// The schema of the rows that the left side reads.
    outer: DFSchemaRef,
}

impl Membership {
    pub(super) fn new(membership: InSubquery, outer: DFSchemaRef) -> Self {
        let InSubquery { expr, subquery, negated } = membership;
        Self { operand: *expr, subquery: subquery.subquery, negated, outer }
    }

    /// An expression without IN that has the same value, except that values that `wanted` does not tell apart may be
    /// exchanged.
    pub(super) fn expression(&self, wanted: Wanted) -> Result<Expr> {
        if let Some(equality) = self.equality() {
            return Ok(self.negated_if_asked(equality));
        }
        let wanted = if self.negated { wanted.negated() } else { wanted };
        let is_in = match wanted {
            Wanted::Truth => self.is_true()?,
            Wanted::Falsity => disjunction(self.is_not_false()?).unwrap_or_else(|| lit(false)),
            Wanted::Value => self.value()?,
        };
        Ok(self.negated_if_asked(is_in))
    }

    /// Conditions that are all TRUE if and only if the IN or NOT IN is TRUE. Each condition becomes a join of its own
    /// that drops rows.
    pub(super) fn tests(&self) -> Result<Vec<Expr>> {
        if !self.negated || self.equality().is_some() {
            return Ok(vec![self.expression(Wanted::Truth)?]);
        }
        Ok(self.is_not_false()?.into_iter().map(not).collect())
    }

    fn negated_if_asked(&self, is_in: Expr) -> Expr {
        if self.negated { not(is_in) } else { is_in }
    }

    /// `x IN (SELECT max(e) …)` is `x = (SELECT max(e) …)`, because the correlated subquery has exactly one row. The
    /// scalar subquery has this row even for outer rows for which DataFusion's join would find none.
    fn equality(&self) -> Option<Expr> {
        let has_value = is_correlated(&self.subquery) && has_one_row(&self.subquery);
        has_value.then(|| self.operand.clone().eq(scalar_subquery(Arc::clone(&self.subquery))))
    }

    fn is_true(&self) -> Result<Expr> {
        self.some_row(self.element().eq(as_outer(self.operand.clone(), &self.outer)?))
    }

    /// Conditions for "the IN is TRUE or NULL": then at least one of them is TRUE. If the IN is FALSE, none is TRUE.
    fn is_not_false(&self) -> Result<Vec<Expr>> {
        let is_unknown = self.is_unknown()?;
        if !is_unknown.is_empty() && !is_reproducible(&self.subquery)? {
            // The subquery may have other rows when it runs again, so it runs once.
            let comparison = self.element().eq(as_outer(self.operand.clone(), &self.outer)?);
            return Ok(vec![self.some_row(comparison.is_not_false())?]);
        }
        Ok(once(self.is_true()?).chain(is_unknown).collect())
    }

    /// Conditions for "the IN is NULL": then at least one of them is TRUE. If the IN is FALSE, none is TRUE. If it is
    /// TRUE, any of them may be TRUE.
    fn is_unknown(&self) -> Result<Vec<Expr>> {
        let mut conditions = vec![];
        if may_be_null(&self.subquery) {
            conditions.push(self.some_row(self.element().is_null())?);
        }
        let operand_may_be_null = has(&self.operand, |part| matches!(part, Expr::ScalarSubquery(_)))
            || self.operand.nullable(self.outer.as_ref()).unwrap_or(true);
        if operand_may_be_null {
            conditions.push(self.operand.clone().is_null().and(exists(Arc::clone(&self.subquery))));
        }
        Ok(conditions)
    }

    fn value(&self) -> Result<Expr> {
        let Some(is_unknown) = disjunction(self.is_unknown()?) else { return self.is_true() };
        if !is_reproducible(&self.subquery)? {
            return plan_err!(
                "IN is not supported here with a subquery that may have other rows when it is read again, \
                 for example because of LIMIT without ORDER BY of all its columns; store its rows in a table first"
            );
        }
        when(self.is_true()?, lit(true)).when(is_unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))
    }

    /// The column of the subquery that the left side is compared with.
    fn element(&self) -> Expr {
        Expr::Column(Column::from(self.subquery.schema().qualified_field(0)))
    }

    fn some_row(&self, test: Expr) -> Result<Expr> {
        let filter = Filter::try_new(test, Arc::clone(&self.subquery))?;
        Ok(exists(Arc::new(LogicalPlan::Filter(filter))))
    }
}

/// Whether the first column of a subquery may be NULL.
pub(super) fn may_be_null(subquery: &LogicalPlan) -> bool {
    subquery.schema().field(0).is_nullable() || has_value_subquery(subquery)
}
