//! Rewrites the nodes of a plan to run for all values of a domain ([`super::domain`]).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, FetchType, Filter, Join, JoinType, Limit, LogicalPlan, Projection,
    SkipType, Sort, SubqueryAlias, Union, Window, lit, when,
};

use super::domain::{Domain, Pushed, distinct, joined, refuse};
use super::existence::has_grouping_sets;
use super::references::{Reference, lateral};

impl Domain<'_> {
    pub(super) fn push(&self, plan: &LogicalPlan) -> Result<Pushed> {
        if !self.concerns(plan)? {
            return self.cross(plan.clone());
        }
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.push(&filter.input)?;
                let predicate = self.inner(filter.predicate.clone(), &input.keys, &[filter.input.as_ref()])?;
                let filter = Filter::try_new(predicate, Arc::new(input.plan))?;
                Ok(Pushed { plan: LogicalPlan::Filter(filter), keys: input.keys })
            }
            LogicalPlan::SubqueryAlias(alias) if lateral(plan).is_none() => {
                let input = self.push(&alias.input)?;
                let indexes = input.keys.iter().map(|key| input.plan.schema().index_of_column(key));
                let indexes = indexes.collect::<Result<Vec<_>>>()?;
                let alias = SubqueryAlias::try_new(Arc::new(input.plan), alias.alias.clone())?;
                let keys = indexes.into_iter().map(|index| Column::from(alias.schema.qualified_field(index))).collect();
                Ok(Pushed { plan: LogicalPlan::SubqueryAlias(alias), keys })
            }
            // Only a LIMIT above needs the order, and `limit` handles a LIMIT together with its sort.
            LogicalPlan::Sort(Sort { input, fetch: None, .. }) => self.push(input),
            LogicalPlan::Sort(Sort { fetch: Some(_), .. }) => self.limit(0, None, plan),
            LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
                (SkipType::Literal(skip), FetchType::Literal(fetch)) => self.limit(skip, fetch, &limit.input),
                _ => refuse("a query whose LIMIT or OFFSET is not a number"),
            },
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let Pushed { plan, keys } = self.push(input)?;
                Ok(Pushed { plan: distinct(plan)?, keys })
            }
            LogicalPlan::Aggregate(aggregate) if has_grouping_sets(aggregate) => {
                refuse("a query with GROUPING SETS, ROLLUP or CUBE")
            }
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => self.whole_aggregate(aggregate),
            LogicalPlan::Aggregate(aggregate) => self.grouped_aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Join(join) if lateral(&join.right).is_none() => self.join(join),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Join(_) | LogicalPlan::Subquery(_) | LogicalPlan::SubqueryAlias(_) => {
                refuse("a query with LATERAL")
            }
            LogicalPlan::Unnest(_) => refuse("a query with UNNEST"),
            LogicalPlan::Values(_) => refuse("VALUES"),
            LogicalPlan::Distinct(Distinct::On(_)) => refuse("a query with DISTINCT ON"),
            LogicalPlan::RecursiveQuery(_) => refuse("WITH RECURSIVE"),
            _ => refuse("a query of this form"),
        }
    }

    fn projection(&self, projection: &Projection) -> Result<Pushed> {
        let Pushed { plan, keys } = self.push(&projection.input)?;
        let mut exprs = self.named_inner(&projection.expr, &keys, &projection.input)?;
        exprs.extend(keys.iter().cloned().map(Expr::Column));
        let projection = Projection::try_new(exprs, Arc::new(plan))?;
        Ok(Pushed { plan: LogicalPlan::Projection(projection), keys })
    }

    fn grouped_aggregate(&self, aggregate: &Aggregate) -> Result<Pushed> {
        let Pushed { plan, keys } = self.push(&aggregate.input)?;
        let mut groups = self.named_inner(&aggregate.group_expr, &keys, &aggregate.input)?;
        groups.extend(keys.iter().cloned().map(Expr::Column));
        let calls = self.named_inner(&aggregate.aggr_expr, &keys, &aggregate.input)?;
        let aggregate = Aggregate::try_new(Arc::new(plan), groups, calls)?;
        Ok(Pushed { plan: LogicalPlan::Aggregate(aggregate), keys })
    }

    /// An aggregation without groups must have a row for every value of the domain, also for a value without input
    /// rows. So the values are left-joined with the rows. The left join adds a row of NULLs for a value without rows,
    /// and the aggregates skip it: `count(*)` becomes `count(*) FILTER (WHERE found)`.
    fn whole_aggregate(&self, aggregate: &Aggregate) -> Result<Pushed> {
        let rows = self.push(&aggregate.input)?;
        let found = self.aliases.next("__found");
        let mut exprs: Vec<_> = rows.plan.schema().columns().into_iter().map(Expr::Column).collect();
        exprs.push(lit(true).alias(found.clone()));
        let marked = Projection::try_new(exprs, Arc::new(rows.plan))?;
        let values = self.scan()?;
        let on = conjunction(self.same_keys(&values.keys, &rows.keys)?);
        let join = joined(values.plan, LogicalPlan::Projection(marked), JoinType::Left, on)?;
        let found = Expr::Column(Column::new_unqualified(found));
        let names = NamePreserver::new_for_projection();
        let mut calls = vec![];
        for call in &aggregate.aggr_expr {
            let name = names.save(call);
            let call = self.inner(call.clone(), &rows.keys, &[aggregate.input.as_ref()])?;
            calls.push(name.restore(filtered(call, &found)?));
        }
        let groups = values.keys.iter().cloned().map(Expr::Column).collect();
        let aggregate = Aggregate::try_new(Arc::new(LogicalPlan::Join(join)), groups, calls)?;
        Ok(Pushed { plan: LogicalPlan::Aggregate(aggregate), keys: values.keys })
    }

    fn window(&self, window: &Window) -> Result<Pushed> {
        let Pushed { plan, keys } = self.push(&window.input)?;
        let partition: Vec<_> = keys.iter().cloned().map(Expr::Column).collect();
        let names = NamePreserver::new_for_projection();
        let mut columns: Vec<_> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let mut calls = vec![];
        for call in &window.window_expr {
            let name = names.save(call);
            let call = self.inner(call.clone().unalias(), &keys, &[window.input.as_ref()])?;
            let call = partitioned(call, &partition)?;
            let column = Column::new_unqualified(call.schema_name().to_string());
            columns.push(name.restore(Expr::Column(column)));
            calls.push(call);
        }
        let window = Window::try_new(calls, Arc::new(plan))?;
        let renamed = Projection::try_new(columns, Arc::new(LogicalPlan::Window(window)))?;
        Ok(Pushed { plan: LogicalPlan::Projection(renamed), keys })
    }

    /// Applies a limit to the rows of each domain value separately.
    fn limit(&self, skip: usize, fetch: Option<usize>, input: &LogicalPlan) -> Result<Pushed> {
        match input {
            // A limit may go below a projection or an alias: these give one row for each input row. The limit's sort
            // is below them.
            LogicalPlan::Projection(projection) => {
                let input = Arc::new(limited(skip, fetch, Arc::clone(&projection.input)));
                self.push(&LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), input)?))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = Arc::new(limited(skip, fetch, Arc::clone(&alias.input)));
                self.push(&LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?))
            }
            LogicalPlan::Sort(Sort { expr, input, fetch: sorted }) => {
                let left = sorted.map(|sorted| sorted.saturating_sub(skip));
                let fetch = fetch.into_iter().chain(left).min();
                let rows = self.push(input)?;
                let order = expr.iter().map(|key| {
                    let expr = self.inner(key.expr.clone(), &rows.keys, &[input.as_ref()])?;
                    Ok(SortKey::new(expr, key.asc, key.nulls_first))
                });
                let order = order.collect::<Result<_>>()?;
                numbered(rows, order, skip, fetch)
            }
            other => numbered(self.push(other)?, vec![], skip, fetch),
        }
    }

    fn join(&self, join: &Join) -> Result<Pushed> {
        let (in_left, in_right) = (self.concerns(&join.left)?, self.concerns(&join.right)?);
        // A preserved side needs every row once for each value of the domain.
        let (for_left, for_right) = match join.join_type {
            JoinType::Inner => (in_left || !in_right, in_right),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, in_right),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (in_left, true),
            JoinType::Full => (true, true),
        };
        let side = |plan: &Arc<LogicalPlan>, is_pushed: bool| match is_pushed {
            true => self.push(plan),
            false => Ok(Pushed { plan: plan.as_ref().clone(), keys: vec![] }),
        };
        let (left, right) = (side(&join.left, for_left)?, side(&join.right, for_right)?);
        let inner_keys = if for_left { &left.keys } else { &right.keys };
        let inputs = [join.left.as_ref(), join.right.as_ref()];
        let mut conditions = vec![];
        if let Some(condition) = &join.filter {
            conditions.push(self.inner(condition.clone(), inner_keys, &inputs)?);
        }
        let mut on = vec![];
        for (one, other) in &join.on {
            on.push((self.inner(one.clone(), inner_keys, &inputs)?, self.inner(other.clone(), inner_keys, &inputs)?));
        }
        if for_left && for_right {
            conditions.extend(self.same_keys(&left.keys, &right.keys)?);
        }
        let (left_plan, right_plan) = (Arc::new(left.plan), Arc::new(right.plan));
        let joined = Join::try_new(
            left_plan,
            right_plan,
            on,
            conjunction(conditions),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let plan = LogicalPlan::Join(joined);
        match join.join_type {
            JoinType::Full => self.either(plan, &left.keys, &right.keys),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                Ok(Pushed { plan, keys: right.keys })
            }
            _ if for_left => Ok(Pushed { plan, keys: left.keys }),
            _ => Ok(Pushed { plan, keys: right.keys }),
        }
    }

    /// After a full join, takes each key from the side that has a row: the left key, or the right key if the left key
    /// is NULL.
    fn either(&self, plan: LogicalPlan, left: &[Column], right: &[Column]) -> Result<Pushed> {
        let own = |column: &Column| !left.contains(column) && !right.contains(column);
        let columns = plan.schema().columns();
        let mut exprs: Vec<_> = columns.into_iter().filter(own).map(Expr::Column).collect();
        let mut keys = vec![];
        for (left, right) in left.iter().zip(right) {
            let left = Expr::Column(left.clone());
            let key = when(left.clone().is_not_null(), left).otherwise(Expr::Column(right.clone()))?;
            let name = self.aliases.next("__key");
            exprs.push(key.alias(name.clone()));
            keys.push(Column::new_unqualified(name));
        }
        Ok(Pushed { plan: LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?), keys })
    }

    fn union(&self, union: &Union) -> Result<Pushed> {
        let names: Vec<_> = self.references.iter().map(|_| self.aliases.next("__key")).collect();
        let mut inputs = vec![];
        for input in &union.inputs {
            let Pushed { plan, keys } = self.push(input)?;
            let mut exprs: Vec<_> = input.schema().columns().into_iter().map(Expr::Column).collect();
            exprs.extend(keys.into_iter().zip(&names).map(|(key, name)| Expr::Column(key).alias(name.clone())));
            inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?)));
        }
        let own = union.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let mut fields: Vec<_> = own.collect();
        for (name, Reference { field, .. }) in names.iter().zip(&self.references) {
            fields.push((None, Arc::new(field.as_ref().clone().with_name(name.clone()).with_nullable(true))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, union.schema.metadata().clone())?);
        let keys = names.into_iter().map(Column::new_unqualified).collect();
        Ok(Pushed { plan: LogicalPlan::Union(Union { inputs, schema }), keys })
    }
}

fn limited(skip: usize, fetch: Option<usize>, input: Arc<LogicalPlan>) -> LogicalPlan {
    let count = |rows: usize| Box::new(lit(rows as i64));
    LogicalPlan::Limit(Limit { skip: Some(count(skip)), fetch: fetch.map(count), input })
}

/// Applies a limit to the rows of each domain value, by a `row_number()` that is partitioned by the domain's columns.
fn numbered(rows: Pushed, order: Vec<SortKey>, skip: usize, fetch: Option<usize>) -> Result<Pushed> {
    let Pushed { plan, keys } = rows;
    let columns: Vec<_> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let partition = keys.iter().cloned().map(Expr::Column).collect();
    let number = row_number().partition_by(partition).order_by(order).build()?;
    let column = Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
    let window = LogicalPlan::Window(Window::try_new(vec![number], Arc::new(plan))?);
    let first = column.clone().gt(lit(skip as u64));
    let test = match fetch {
        Some(fetch) => first.and(column.lt_eq(lit(skip.saturating_add(fetch) as u64))),
        None => first,
    };
    let filter = LogicalPlan::Filter(Filter::try_new(test, Arc::new(window))?);
    Ok(Pushed { plan: LogicalPlan::Projection(Projection::try_new(columns, Arc::new(filter))?), keys })
}

/// An aggregate call over only the rows for which `found` is true.
fn filtered(call: Expr, found: &Expr) -> Result<Expr> {
    call.transform(|part| match part {
        Expr::AggregateFunction(mut function) => {
            let filter = match function.params.filter.take() {
                Some(filter) => found.clone().and(*filter),
                None => found.clone(),
            };
            function.params.filter = Some(Box::new(filter));
            Ok(Transformed::yes(Expr::AggregateFunction(function)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn partitioned(call: Expr, partition: &[Expr]) -> Result<Expr> {
    call.transform(|part| match part {
        Expr::WindowFunction(mut function) => {
            function.params.partition_by.extend_from_slice(partition);
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}
