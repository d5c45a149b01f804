//! A region is a group of joins whose order is free. It has relations, equalities between relations, and further
//! conditions.
//!
//! Inner and cross joins belong to a region, and so do projections of plain columns and filters between these joins. A
//! semi or anti join becomes a condition on the rows of the other relations. This condition may be tested as soon as
//! the relations of its columns are joined, because inner joins only repeat or drop rows and never change their values.
//! Any other operator becomes a relation.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{JoinSide, JoinType, NullEquality, Result};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::utils::{collect_columns, conjunction, split_conjunction};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use hwacha_operators::tree::{at_positions, with_children};

use crate::estimate::{Estimate, estimate};

/// A set of relations, one bit each.
pub(super) type Relations = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RegionColumn {
    pub relation: usize,
    pub column: usize,
}

/// An expression over the columns of one relation.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub relation: usize,
    pub expr: Arc<dyn PhysicalExpr>,
}

impl Key {
    pub(super) fn columns(&self) -> impl Iterator<Item = RegionColumn> {
        let relation = self.relation;
        collect_columns(&self.expr).into_iter().map(move |column| RegionColumn { relation, column: column.index() })
    }

    fn is(&self, other: &Key) -> bool {
        self.relation == other.relation && self.expr.eq(&other.expr)
    }
}

/// An expression over columns of several relations: its column `i` is `columns[i]`.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub expr: Arc<dyn PhysicalExpr>,
    pub columns: Vec<RegionColumn>,
    pub schema: SchemaRef,
}

impl Condition {
    pub(super) fn relations(&self) -> Relations {
        self.columns.iter().fold(0, |relations, column| relations | 1 << column.relation)
    }
}

/// A semi or anti join as a condition on an outer row: it has a partner in the inner relation (semi) or none (anti).
#[derive(Clone, Debug)]
pub(super) struct Existence {
    pub anti: bool,
    /// Pairs of outer and inner keys.
    pub on: Vec<(Key, Arc<dyn PhysicalExpr>)>,
    /// A further condition over columns of outer relations and of the inner relation.
    pub filter: Option<Condition>,
    pub null_equality: NullEquality,
}

/// An input of the joins of a region.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub plan: Arc<dyn ExecutionPlan>,
    pub estimate: Estimate,
    /// Set if the relation is the inner side of a semi or anti join.
    pub existence: Option<Existence>,
}

/// Joins that may be done in any order.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub relations: Vec<Relation>,
    /// Classes of keys that are equal in every row of the result. After `settle`, a class has at most one key per
    /// relation.
    pub equalities: Vec<Vec<Key>>,
    pub conditions: Vec<Condition>,
    /// The output columns of the region's plan.
    pub outputs: Vec<RegionColumn>,
}

/// Rewrites the plan of a relation.
pub(super) type Rewrite<'a> = dyn FnMut(&Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> + 'a;

/// Most relations of a region (62: a set of relations is a 64-bit number). The top join of a larger region stays in
/// place, and its inputs are tried instead.
const MAX_RELATIONS: usize = 62;

impl Region {
    /// The region whose top node is `plan`. `None` if `plan` is no join whose order is free, or if there are too many
    /// relations. `rewrite` is applied to the plans of the relations.
    pub(super) fn collect(plan: &Arc<dyn ExecutionPlan>, rewrite: &mut Rewrite<'_>) -> Result<Option<Self>> {
        if !is_free_join(plan) {
            return Ok(None);
        }
        let mut collector = Collector { region: Self::default(), rewrite };
        collector.region.outputs = collector.plan(plan)?;
        let mut region = collector.region;
        if region.relations.len() > MAX_RELATIONS {
            return Ok(None);
        }
        region.settle()?;
        Ok(Some(region))
    }

    fn add(&mut self, plan: Arc<dyn ExecutionPlan>) -> Vec<RegionColumn> {
        let relation = self.relations.len();
        let columns = (0..plan.schema().fields().len()).map(|column| RegionColumn { relation, column }).collect();
        let unmeasured = Estimate { rows: 0.0, columns: vec![] };
        self.relations.push(Relation { plan, estimate: unmeasured, existence: None });
        columns
    }

    /// An expression over `columns` as a key of the relation whose columns it uses. `None` if it uses columns of
    /// several relations or none.
    fn key(&self, expr: &Arc<dyn PhysicalExpr>, columns: &[RegionColumn]) -> Result<Option<Key>> {
        let used = collect_columns(expr);
        let mut relations = used.iter().map(|column| columns[column.index()].relation);
        let Some(relation) = relations.next().filter(|first| relations.all(|other| other == *first)) else {
            return Ok(None);
        };
        let schema = self.relations[relation].plan.schema();
        Ok(Some(Key { relation, expr: at_positions(expr, &schema, |index| columns[index].column)? }))
    }

    /// Drops the relations from `first` on, and the equalities and conditions that use them.
    fn forget(&mut self, first: usize) {
        self.relations.truncate(first);
        self.equalities.retain(|class| class.iter().all(|key| key.relation < first));
        self.conditions.retain(|condition| condition.columns.iter().all(|column| column.relation < first));
    }

    /// Turns conditions and equalities within a single relation into a filter over it, and estimates all relations.
    fn settle(&mut self) -> Result<()> {
        let (own, shared): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.conditions).into_iter().partition(|it| it.relations().count_ones() == 1);
        self.conditions = shared;
        let mut filters: Vec<Vec<Arc<dyn PhysicalExpr>>> = vec![vec![]; self.relations.len()];
        for condition in own {
            let relation = condition.columns[0].relation;
            let schema = self.relations[relation].plan.schema();
            filters[relation].push(at_positions(&condition.expr, &schema, |index| condition.columns[index].column)?);
        }
        for class in &mut self.equalities {
            let mut kept: Vec<Key> = vec![];
            for key in class.drain(..) {
                match kept.iter().find(|other| other.relation == key.relation) {
                    Some(other) => filters[key.relation].push(equal(&other.expr, &key.expr)),
                    None => kept.push(key),
                }
            }
            *class = kept;
        }
        self.equalities.retain(|class| class.len() > 1);
        for (relation, filters) in self.relations.iter_mut().zip(filters) {
            if !filters.is_empty() {
                relation.plan = Arc::new(FilterExec::try_new(conjunction(filters), Arc::clone(&relation.plan))?);
            }
            relation.estimate = estimate(&relation.plan)?;
        }
        Ok(())
    }

    /// `key`, and the keys that are equal to it in every row of the result.
    pub(super) fn equals<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Key> {
        let class = self.equalities.iter().find(|class| class.iter().any(|member| member.is(key)));
        std::iter::once(key).chain(class.into_iter().flatten())
    }

    /// Records that two keys are equal in all rows, and merges their classes. Example: with the classes {a, b} and
    /// {c, d}, b = c gives the class {a, b, c, d}.
    fn equate(&mut self, left: Key, right: Key) {
        let class_of = |key: &Key| self.equalities.iter().position(|class| class.iter().any(|it| it.is(key)));
        match (class_of(&left), class_of(&right)) {
            (Some(left), Some(right)) if left == right => {}
            (Some(left), Some(right)) => {
                let moved = self.equalities.swap_remove(left.max(right));
                self.equalities[left.min(right)].extend(moved);
            }
            (Some(class), None) => self.equalities[class].push(right),
            (None, Some(class)) => self.equalities[class].push(left),
            (None, None) => self.equalities.push(vec![left, right]),
        }
    }
}

/// Whether a plan is a join whose order is free.
fn is_free_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let free = match join.join_type() {
            JoinType::Inner => join.null_equality() == NullEquality::NullEqualsNothing,
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti => !join.null_aware,
            _ => false,
        };
        let steady = join.on().iter().all(|(left, right)| !is_volatile(left) && !is_volatile(right));
        return free && steady && join.fetch().is_none() && is_steady(join.filter());
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        return *join.join_type() == JoinType::Inner && join.fetch().is_none() && is_steady(join.filter());
    }
    plan.is::<CrossJoinExec>()
}

/// Whether a filter is absent, or is not volatile and uses a column. The columns decide where it can be tested.
fn is_steady(filter: Option<&JoinFilter>) -> bool {
    filter.is_none_or(|filter| !filter.column_indices().is_empty() && !is_volatile(filter.expression()))
}

struct Collector<'a, 'b> {
    region: Region,
    rewrite: &'a mut Rewrite<'b>,
}

impl Collector<'_, '_> {
    /// Adds the relations and conditions of `plan` to the region. Returns the output columns of `plan`.
    fn plan(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RegionColumn>> {
        if !is_free_join(plan) {
            return self.between(plan);
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            return match join.join_type() {
                JoinType::Inner => self.inner(plan, join),
                JoinType::LeftSemi | JoinType::LeftAnti => self.existence(plan, join, JoinSide::Left),
                _ => self.existence(plan, join, JoinSide::Right),
            };
        }
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            let (left, right) = (self.plan(join.left())?, self.plan(join.right())?);
            self.filter(join.filter(), &left, &right);
            return Ok(project(concat(left, right), join.projection().as_deref()));
        }
        match plan.downcast_ref::<CrossJoinExec>() {
            Some(join) => Ok(concat(self.plan(join.left())?, self.plan(join.right())?)),
            None => self.relation(plan),
        }
    }

    /// Adds a projection or a filter between the joins of a region. Any other plan becomes a relation.
    fn between(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RegionColumn>> {
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>()
            && let Some(columns) = plain_columns(projection)
            && leads_to_join(projection.input())
        {
            return Ok(project(self.plan(projection.input())?, Some(&columns)));
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>()
            && filter.fetch().is_none()
            && split_conjunction(filter.predicate())
                .iter()
                .all(|part| !is_volatile(part) && !collect_columns(part).is_empty())
            && leads_to_join(filter.input())
        {
            let columns = self.plan(filter.input())?;
            let schema = filter.input().schema();
            for part in split_conjunction(filter.predicate()) {
                let condition =
                    Condition { expr: Arc::clone(part), columns: columns.clone(), schema: Arc::clone(&schema) };
                self.region.conditions.push(condition.narrowed()?);
            }
            return Ok(project(columns, filter.projection().as_deref()));
        }
        self.relation(plan)
    }

    fn relation(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RegionColumn>> {
        let plan = (self.rewrite)(plan)?;
        Ok(self.region.add(plan))
    }

    fn inner(&mut self, plan: &Arc<dyn ExecutionPlan>, join: &HashJoinExec) -> Result<Vec<RegionColumn>> {
        let keys_are_columns = join
            .on()
            .iter()
            .all(|(left, right)| !collect_columns(left).is_empty() && !collect_columns(right).is_empty());
        if !keys_are_columns {
            return self.relation_of_join(plan);
        }
        let (left, right) = (self.plan(join.left())?, self.plan(join.right())?);
        for (left_key, right_key) in join.on() {
            let same_type = data_type(left_key, join.left()) == data_type(right_key, join.right());
            match (self.region.key(left_key, &left)?, self.region.key(right_key, &right)?) {
                (Some(left_key), Some(right_key)) if same_type => self.region.equate(left_key, right_key),
                _ => {
                    let columns = concat(left.clone(), right.clone());
                    let schema = joined_schema(join.left(), join.right());
                    let moved = at_positions(right_key, &schema, |index| index + left.len())?;
                    let condition = Condition { expr: equal(left_key, &moved), columns, schema };
                    self.region.conditions.push(condition.narrowed()?);
                }
            }
        }
        self.filter(join.filter(), &left, &right);
        Ok(project(concat(left, right), join.projection.as_deref()))
    }

    /// Adds a join as one relation. Only the inputs of the join are rewritten.
    fn relation_of_join(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RegionColumn>> {
        let children = plan.children().into_iter().map(|child| (self.rewrite)(child)).collect::<Result<Vec<_>>>()?;
        Ok(self.region.add(with_children(plan, children)?))
    }

    fn filter(&mut self, filter: Option<&JoinFilter>, left: &[RegionColumn], right: &[RegionColumn]) {
        self.region.conditions.extend(filter.map(|filter| condition(filter, left, right)));
    }

    /// Adds a semi or anti join that emits rows of its `outer` side.
    fn existence(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        join: &HashJoinExec,
        outer: JoinSide,
    ) -> Result<Vec<RegionColumn>> {
        let (outer_plan, inner_plan) = match outer {
            JoinSide::Left => (join.left(), join.right()),
            _ => (join.right(), join.left()),
        };
        let before = self.region.relations.len();
        let outer_columns = self.plan(outer_plan)?;
        let on = join.on().iter().map(|(left, right)| match outer {
            JoinSide::Left => (left, right),
            _ => (right, left),
        });
        let on = on
            .map(|(outer, inner)| Ok(self.region.key(outer, &outer_columns)?.map(|outer| (outer, Arc::clone(inner)))));
        let Some(on) = on.collect::<Result<Option<Vec<_>>>>()? else {
            // A key uses several relations or none, so the join stays as it is. The relations of its outer side are
            // dropped.
            self.region.forget(before);
            return self.relation_of_join(plan);
        };
        let inner_columns = self.relation(inner_plan)?;
        let filter = join.filter().map(|filter| match outer {
            JoinSide::Left => condition(filter, &outer_columns, &inner_columns),
            _ => condition(filter, &inner_columns, &outer_columns),
        });
        let relation = self.region.relations.last_mut().expect("the inner side was just added");
        relation.existence = Some(Existence {
            anti: matches!(join.join_type(), JoinType::LeftAnti | JoinType::RightAnti),
            on,
            filter,
            null_equality: join.null_equality(),
        });
        Ok(project(outer_columns, join.projection.as_deref()))
    }
}

impl Condition {
    /// The same condition with only the columns that its expression uses.
    fn narrowed(self) -> Result<Self> {
        let mut used: Vec<usize> = collect_columns(&self.expr).iter().map(Column::index).collect();
        used.sort_unstable();
        let place = |index: usize| used.binary_search(&index).expect("all columns that are used are there");
        let schema = Arc::new(self.schema.project(&used)?);
        let expr = at_positions(&self.expr, &schema, place)?;
        Ok(Self { expr, columns: used.iter().map(|index| self.columns[*index]).collect(), schema })
    }
}

fn condition(filter: &JoinFilter, left: &[RegionColumn], right: &[RegionColumn]) -> Condition {
    let column = |index: &datafusion::physical_plan::joins::utils::ColumnIndex| match index.side {
        JoinSide::Left => left[index.index],
        JoinSide::Right | JoinSide::None => right[index.index],
    };
    Condition {
        expr: Arc::clone(filter.expression()),
        columns: filter.column_indices().iter().map(column).collect(),
        schema: Arc::clone(filter.schema()),
    }
}

/// Whether `plan` is a join whose order is free, or projections and filters above one.
fn leads_to_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<ProjectionExec>() || plan.is::<FilterExec>() {
        return plan.children().into_iter().all(leads_to_join);
    }
    is_free_join(plan)
}

fn plain_columns(projection: &ProjectionExec) -> Option<Vec<usize>> {
    projection.expr().iter().map(|column| column.expr.downcast_ref::<Column>().map(Column::index)).collect()
}

fn equal(left: &Arc<dyn PhysicalExpr>, right: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(Arc::clone(left), Operator::Eq, Arc::clone(right)))
}

fn data_type(expr: &Arc<dyn PhysicalExpr>, plan: &Arc<dyn ExecutionPlan>) -> Option<DataType> {
    expr.data_type(&plan.schema()).ok()
}

fn joined_schema(left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> SchemaRef {
    let (left, right) = (left.schema(), right.schema());
    Arc::new(Schema::new(left.fields().iter().chain(right.fields()).cloned().collect::<Vec<_>>()))
}

fn concat(mut left: Vec<RegionColumn>, right: Vec<RegionColumn>) -> Vec<RegionColumn> {
    left.extend(right);
    left
}

fn project(columns: Vec<RegionColumn>, projection: Option<&[usize]>) -> Vec<RegionColumn> {
    match projection {
        Some(indices) => indices.iter().map(|index| columns[*index]).collect(),
        None => columns,
    }
}
