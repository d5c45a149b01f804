//! Corrects subqueries for which DataFusion 55.2 gives wrong rows or fails.
//!
//! - IN and NOT IN are TRUE, FALSE or NULL, in every place ([`membership`]):
//!   <https://github.com/apache/datafusion/issues/25347>, <https://github.com/apache/datafusion/issues/25473>.
//! - An aggregation without groups has one row, so EXISTS over it is true ([`existence`]):
//!   <https://github.com/apache/datafusion/issues/24960>.
//! - A correlated condition is moved up only past nodes that keep its meaning, and it compares the columns that the
//!   query names ([`unnest`], [`domain`]): <https://github.com/apache/datafusion/issues/25507>.
//! - Subqueries may stand in any expression, not only in filters ([`placement`]).
//!
//! There are two rules. [`PlacedSubqueriesRule`] is an analyzer rule: it moves subqueries into filters and projections.
//! [`ExactSubqueriesRule`] is an optimizer rule: it runs right before DataFusion's decorrelation, after conditions were
//! simplified. Subqueries that DataFusion gets right are left to it ([`kept`]), so common queries keep their plans. The
//! other subqueries become joins here:
//!
//! ```text
//!   Filter: x NOT IN (SELECT e FROM s        Filter: NOT (x IS NULL AND mark)
//!           WHERE s.k = outer(o.k))            Mark Join: s.k = o.k
//!     TableScan: o                     ->        Anti Join: s.k = o.k, with the rows of s where e IS NULL
//!                                                  Anti Join: s.k = o.k AND s.e = o.x
//!                                                    TableScan: o
//! ```
//!
//! Inner subqueries are rewritten before outer ones. A condition that refers to a query two levels up is then part of
//! a join inside the middle query. There it is a correlated condition like any other.

mod domain;
mod existence;
mod kept;
mod membership;
mod path;
mod placement;
mod push;
mod references;
mod rows;
mod source;
mod unnest;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Projection, Subquery, lit};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

pub use placement::PlacedSubqueriesRule;

use kept::{is_kept, keeps};
use membership::Wanted;
use path::Asked;
use references::{as_inner, becomes_join, has, is_correlated, lateral};
use rows::Rows;
use unnest::{Pulled, Unnesting};

/// Turns subqueries of filters, projections and LATERAL into joins if DataFusion would get them wrong.
#[derive(Debug)]
pub struct ExactSubqueriesRule;

impl OptimizerRule for ExactSubqueriesRule {
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !has_work(&plan)? {
            return Ok(Transformed::no(plan));
        }
        Rewriter { aliases: config.alias_generator() }.plan(plan, Place::Query)
    }

    fn name(&self) -> &str {
        "exact_subqueries"
    }
}

/// Whether a plan has subqueries that must become joins.
fn has_work(plan: &LogicalPlan) -> Result<bool> {
    let mut is_found = false;
    plan.apply_with_subqueries(|node| {
        is_found |= matches!(node, LogicalPlan::Join(join) if lateral(&join.right).is_some());
        node.apply_expressions(|expr| {
            is_found |= has(expr, becomes_join);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if is_found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(is_found)
}

/// Whether a plan belongs to the query itself or to a subquery.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Query,
    Subquery,
}

struct Rewriter<'a> {
    aliases: &'a AliasGenerator,
}

impl Rewriter<'_> {
    /// Rewrites a plan from its leaves up. The subqueries of a node are rewritten before the node.
    fn plan(&self, plan: LogicalPlan, place: Place) -> Result<Transformed<LogicalPlan>> {
        let within = if matches!(plan, LogicalPlan::Subquery(_)) { Place::Subquery } else { place };
        let subqueries = plan.map_subqueries(|subquery| self.subquery(subquery))?;
        let inputs = subqueries.data.map_children(|input| self.plan(input, within))?;
        let is_changed = subqueries.transformed || inputs.transformed;
        let plan = if inputs.transformed { inputs.data.recompute_schema()? } else { inputs.data };
        let node = self.node(plan, place)?;
        Ok(Transformed::new_transformed(node.data, is_changed || node.transformed))
    }

    fn subquery(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Subquery(subquery) = plan else { return Ok(Transformed::no(plan)) };
        let Subquery { subquery, outer_ref_columns, spans } = subquery;
        let inner = self.plan(Arc::unwrap_or_clone(subquery), Place::Subquery)?;
        // The outer references of inner subqueries may now be in joins of this subquery.
        let outer_ref_columns = if inner.transformed { inner.data.all_out_ref_exprs() } else { outer_ref_columns };
        let rewrap = |inner| LogicalPlan::Subquery(Subquery { subquery: Arc::new(inner), outer_ref_columns, spans });
        Ok(inner.update_data(rewrap))
    }

    fn node(&self, plan: LogicalPlan, place: Place) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) if has(&filter.predicate, becomes_join) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Join(join) => self.lateral(join, place),
            other => Ok(Transformed::no(other)),
        }
    }

    fn filter(&self, filter: Filter) -> Result<Transformed<LogicalPlan>> {
        let tests = split_conjunction_owned(filter.predicate.clone());
        let (asking, plain): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| has(test, becomes_join));
        let (mut left, mut replaced) = (vec![], vec![]);
        for test in asking {
            if is_kept(&test, &filter.input)? { left.push(test) } else { replaced.push(test) }
        }
        if replaced.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let schema = Arc::clone(filter.input.schema());
        // Conditions without subqueries are tested first: fewer rows are joined, and a domain has fewer values.
        let input = match conjunction(plain) {
            Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?),
            None => Arc::unwrap_or_clone(filter.input),
        };
        let mut rows = Rows::new(input, self);
        for test in replaced {
            left.extend(rows.restrict(test)?);
        }
        Ok(Transformed::yes(rows.filtered(left, &schema)?))
    }

    fn projection(&self, projection: Projection) -> Result<Transformed<LogicalPlan>> {
        let is_replaced = |part: &Expr| match part {
            Expr::ScalarSubquery(subquery) => {
                !keeps(&subquery.subquery, projection.input.schema(), Asked::Value).unwrap_or(false)
            }
            other => becomes_join(other),
        };
        if !projection.expr.iter().any(|expr| has(expr, is_replaced)) {
            return Ok(Transformed::no(LogicalPlan::Projection(projection)));
        }
        let names = NamePreserver::new_for_projection();
        let mut rows = Rows::new(Arc::unwrap_or_clone(projection.input), self);
        let mut exprs = vec![];
        for expr in projection.expr {
            let name = names.save(&expr);
            exprs.push(name.restore(rows.expression(expr, Wanted::Value)?));
        }
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows.plan))?)))
    }

    /// Joins a LATERAL subquery. Its correlated conditions become conditions of the join.
    fn lateral(&self, join: Join, place: Place) -> Result<Transformed<LogicalPlan>> {
        let Some((subquery, name)) = lateral(&join.right) else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let subquery = subquery.subquery.as_ref();
        let is_kept = place == Place::Query && keeps(subquery, join.left.schema(), Asked::Rows)?;
        let is_known = matches!(join.join_type, JoinType::Inner | JoinType::Left);
        if !is_correlated(subquery) || is_kept || !is_known {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let left = join.left.as_ref();
        let unnesting = Unnesting { outer: left, base: left, aliases: self.aliases, asked: Asked::Rows };
        let pulled = unnesting.pull(subquery)?;
        let Pulled { plan, conditions } = match name {
            Some(name) => pulled.aliased(name)?,
            None => pulled,
        };
        let conditions = conditions.into_iter().map(|condition| as_inner(condition, join.left.schema()));
        let conditions = conditions.chain(join.filter.clone().map(Ok)).collect::<Result<Vec<_>>>()?;
        let joined = Join::try_new(
            Arc::clone(&join.left),
            Arc::new(plan),
            join.on.clone(),
            Some(conjunction(conditions).unwrap_or_else(|| lit(true))),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let columns = join.schema.columns().into_iter().map(Expr::Column).collect();
        let projection = Projection::try_new(columns, Arc::new(LogicalPlan::Join(joined)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    }
}
