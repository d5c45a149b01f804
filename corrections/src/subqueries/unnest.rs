//! Turns a correlated subquery into a plan that runs once, and a condition that joins it to the outer rows.
//!
//! Conditions that refer to outer columns are taken out of the subquery's filters and moved up into the join, if they
//! may pass all nodes above them. The columns that they compare are selected under new names:
//!
//! ```text
//!   EXISTS of o:                              Mark Join: s.key_0 = o.k AND s.key_1 = o.x
//!     Projection: 1                             TableScan: o
//!       Filter: a.k = outer(o.k)          ->    SubqueryAlias: s
//!               AND b.k = outer(o.x)              Projection: a.k AS key_0, b.k AS key_1
//!         Cross Join: a, b                          Cross Join: a, b
//! ```
//!
//! Conditions may not leave some parts of a subquery, such as the input of a LIMIT. Such a part runs for all values of
//! its outer references ([`super::domain`]), and the join condition compares these values with those of the outer row.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::{Column, NullEquality, Result, TableReference};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Filter, Join, JoinConstraint, JoinType, Limit, LogicalPlan, Projection, Sort,
    SubqueryAlias, lit,
};

use super::domain::{Domain, Pushed};
use super::existence::is_distinct;
use super::path::Asked;
use super::references::{as_inner, has_subquery, is_correlated, lateral, reaches_out, renamed};
use super::source::passed_sides;

/// The column of a subquery's value.
const VALUE: &str = "__value";
/// Prefix of the names of columns that the join condition compares: `__key_0`.
const KEY: &str = "__key_";

/// Unnests subqueries over the rows of `outer`.
pub(super) struct Unnesting<'a> {
    pub(super) outer: &'a LogicalPlan,
    /// `outer` before other subqueries were joined to it.
    pub(super) base: &'a LogicalPlan,
    pub(super) aliases: &'a AliasGenerator,
    pub(super) asked: Asked,
}

/// A plan, and the conditions that were taken out of it. They compare columns of the plan with outer references.
pub(super) struct Pulled {
    pub(super) plan: LogicalPlan,
    pub(super) conditions: Vec<Expr>,
}

/// A subquery that runs once, under an alias of its own, and the condition that joins it to the outer rows.
pub(super) struct Unnested {
    plan: LogicalPlan,
    name: String,
    condition: Expr,
}

impl Unnested {
    /// Joins the outer rows with the subquery.
    pub(super) fn join(self, outer: LogicalPlan, join_type: JoinType) -> Result<LogicalPlan> {
        let (left, right, null_equality) = (Arc::new(outer), Arc::new(self.plan), NullEquality::NullEqualsNothing);
        let condition = Some(self.condition);
        let join = Join::try_new(left, right, vec![], condition, join_type, JoinConstraint::On, null_equality, false)?;
        Ok(LogicalPlan::Join(join))
    }

    /// The column of a mark join that says whether an outer row has rows in the subquery.
    pub(super) fn mark(&self) -> Expr {
        Expr::Column(Column::new(Some(self.name.clone()), "mark"))
    }

    /// The column of a left join that has the subquery's value.
    pub(super) fn value(&self) -> Expr {
        Expr::Column(Column::new(Some(self.name.clone()), VALUE))
    }
}

impl Unnesting<'_> {
    pub(super) fn unnest(&self, plan: &LogicalPlan) -> Result<Unnested> {
        let pulled = self.pull(plan)?;
        let name = self.aliases.next("__subquery");
        let mut exprs = vec![];
        if self.asked == Asked::Value {
            exprs.push(Expr::Column(Column::from(plan.schema().qualified_field(0))).alias(VALUE));
        }
        let mut names = HashMap::new();
        for (number, (index, column)) in pulled.used()?.into_iter().enumerate() {
            let key = format!("{KEY}{number}");
            exprs.push(Expr::Column(Column::from(pulled.plan.schema().qualified_field(index))).alias(key.clone()));
            names.insert(column, Column::new(Some(name.clone()), key));
        }
        let conditions = renamed(pulled.conditions, &names)?;
        let conditions = conditions.into_iter().map(|condition| as_inner(condition, self.outer.schema()));
        let condition = conjunction(conditions.collect::<Result<Vec<_>>>()?).unwrap_or_else(|| lit(true));
        let mut plan = pulled.plan;
        if exprs.is_empty() {
            exprs.push(lit(true).alias(VALUE));
            // The condition compares no column of the subquery, so one row of it is enough.
            plan = LogicalPlan::Limit(Limit { skip: None, fetch: Some(Box::new(lit(1i64))), input: Arc::new(plan) });
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
        let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), name.clone())?);
        Ok(Unnested { plan, name, condition })
    }

    /// Takes the conditions that refer to outer columns out of `plan`. The result has all columns of `plan`, and maybe
    /// more.
    pub(super) fn pull(&self, plan: &LogicalPlan) -> Result<Pulled> {
        if !is_correlated(plan) {
            return Ok(Pulled { plan: plan.clone(), conditions: vec![] });
        }
        match plan {
            LogicalPlan::Filter(filter) if may_leave(&filter.predicate, &[filter.input.as_ref()])? => {
                self.pull_filter(filter)
            }
            LogicalPlan::Projection(projection) => self.pull_projection(projection, plan),
            LogicalPlan::SubqueryAlias(alias) if lateral(plan).is_none() => {
                self.pull(&alias.input)?.aliased(&alias.alias)
            }
            LogicalPlan::Sort(Sort { input, fetch: None, .. }) => self.pull(input),
            // Duplicates do not change whether there are rows.
            LogicalPlan::Distinct(Distinct::All(input)) if self.asked == Asked::Existence => self.pull(input),
            LogicalPlan::Aggregate(aggregate) if self.asked == Asked::Existence && is_distinct(aggregate) => {
                self.pull_groups(aggregate)
            }
            LogicalPlan::Join(join) if lateral(&join.right).is_none() => self.pull_join(join, plan),
            _ => self.run_for_all(plan),
        }
    }

    fn pull_filter(&self, filter: &Filter) -> Result<Pulled> {
        let Pulled { mut plan, mut conditions } = self.pull(&filter.input)?;
        let tests = split_conjunction_owned(filter.predicate.clone());
        let (outer, inner): (Vec<_>, Vec<_>) = tests.into_iter().partition(Expr::contains_outer);
        conditions.extend(outer);
        if let Some(predicate) = conjunction(inner) {
            plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?);
        }
        Ok(Pulled { plan, conditions })
    }

    fn pull_projection(&self, projection: &Projection, plan: &LogicalPlan) -> Result<Pulled> {
        for expr in &projection.expr {
            if reaches_out(expr, &[projection.input.as_ref()])? {
                return self.run_for_all(plan);
            }
        }
        let input = self.pull(&projection.input)?;
        let mut exprs = projection.expr.clone();
        let mut names = HashMap::new();
        for (index, column) in input.used()? {
            let name = self.aliases.next("__pulled");
            exprs.push(Expr::Column(Column::from(input.plan.schema().qualified_field(index))).alias(name.clone()));
            names.insert(column, Column::new_unqualified(name));
        }
        let conditions = renamed(input.conditions, &names)?;
        let projection = Projection::try_new(exprs, Arc::new(input.plan))?;
        Ok(Pulled { plan: LogicalPlan::Projection(projection), conditions })
    }

    fn pull_groups(&self, aggregate: &Aggregate) -> Result<Pulled> {
        let projection = Projection::try_new(aggregate.group_expr.clone(), Arc::clone(&aggregate.input))?;
        self.pull(&LogicalPlan::Projection(projection))
    }

    fn pull_join(&self, join: &Join, plan: &LogicalPlan) -> Result<Pulled> {
        let inputs = [join.left.as_ref(), join.right.as_ref()];
        let mut may_pull = true;
        for key in join.on.iter().flat_map(|(left, right)| [left, right]) {
            may_pull &= !reaches_out(key, &inputs)?;
        }
        if let Some(condition) = &join.filter {
            may_pull &= match join.join_type {
                JoinType::Inner => may_leave(condition, &inputs)?,
                _ => !reaches_out(condition, &inputs)?,
            };
        }
        let (passes_left, passes_right) = passed_sides(join.join_type);
        may_pull &= (passes_left || !is_correlated(&join.left)) && (passes_right || !is_correlated(&join.right));
        if !may_pull {
            return self.run_for_all(plan);
        }
        let (left, right) = (self.pull(&join.left)?, self.pull(&join.right)?);
        let tests = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
        let (outer, inner): (Vec<_>, Vec<_>) = tests.into_iter().partition(Expr::contains_outer);
        let conditions = left.conditions.into_iter().chain(right.conditions).chain(outer).collect();
        let joined = Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            join.on.clone(),
            conjunction(inner),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        Ok(Pulled { plan: LogicalPlan::Join(joined), conditions })
    }

    fn run_for_all(&self, plan: &LogicalPlan) -> Result<Pulled> {
        let Some(domain) = Domain::of(plan, self.outer, self.base, self.aliases)? else {
            // All references are to queries further out, so the plan has the same rows for all rows of `outer`.
            return Ok(Pulled { plan: plan.clone(), conditions: vec![] });
        };
        let Pushed { plan, keys } = domain.push(plan)?;
        Ok(Pulled { plan, conditions: domain.conditions(&keys)? })
    }
}

impl Pulled {
    /// The columns of the plan that the conditions use, each with its index in the plan, sorted by index.
    fn used(&self) -> Result<Vec<(usize, Column)>> {
        let mut used = vec![];
        for column in self.conditions.iter().flat_map(Expr::column_refs) {
            used.push((self.plan.schema().index_of_column(column)?, column.clone()));
        }
        used.sort();
        used.dedup();
        Ok(used)
    }

    /// The plan under the alias `name`, with conditions that use the columns of the alias.
    pub(super) fn aliased(self, name: &TableReference) -> Result<Self> {
        let used = self.used()?;
        let alias = SubqueryAlias::try_new(Arc::new(self.plan), name.clone())?;
        let place = |(index, column): (usize, Column)| (column, Column::from(alias.schema.qualified_field(index)));
        let conditions = renamed(self.conditions, &used.into_iter().map(place).collect())?;
        Ok(Self { plan: LogicalPlan::SubqueryAlias(alias), conditions })
    }
}

/// Whether all tests of a predicate that refer to outer columns may be moved up. A test with a nested subquery may
/// not.
fn may_leave(predicate: &Expr, inputs: &[&LogicalPlan]) -> Result<bool> {
    for test in split_conjunction(predicate) {
        if reaches_out(test, inputs)? && (!test.contains_outer() || has_subquery(test)) {
            return Ok(false);
        }
    }
    Ok(true)
}
