//! The path from an aggregation down through joins, projections and filters to the rows that it aggregates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinSide, JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::projection::ProjectionExec;
use hwacha_corrections::total::is_total;
use hwacha_operators::tree::{at_positions, unprojected};

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Call {
    fn exprs(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.arguments.iter().chain(&self.filter)
    }

    fn map(&self, change: impl Fn(&Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        Ok(Self {
            arguments: self.arguments.iter().map(&change).collect::<Result<_>>()?,
            filter: self.filter.as_ref().map(&change).transpose()?,
        })
    }
}

/// The columns of a plan that nodes above it use: `keys` for joins, filters and groups, `calls` only for aggregates.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    pub keys: BTreeSet<usize>,
    pub calls: Vec<Call>,
}

/// A node of the path, and the columns of its output that are used above.
#[derive(Debug)]
pub(super) struct Step {
    pub plan: Arc<dyn ExecutionPlan>,
    pub needs: Needs,
    /// If the node is a join: the side on which the path continues. `None` for other nodes and for the last node.
    pub side: JoinSide,
}

/// Nodes from an aggregation's input down, each below the one before it.
#[derive(Debug)]
pub(super) struct Path(pub Vec<Step>);

/// A plan over aggregated rows. `keys` maps the position of each needed column in the original plan to its position in
/// `plan`. `states` are the positions of the aggregates' states.
#[derive(Debug)]
pub(super) struct Pushed {
    pub plan: Arc<dyn ExecutionPlan>,
    pub keys: BTreeMap<usize, usize>,
    pub states: Vec<usize>,
}

impl Path {
    /// The longest path down from `plan`.
    pub(super) fn below(plan: &Arc<dyn ExecutionPlan>, needs: Needs) -> Result<Self> {
        let mut path = vec![Step { plan: Arc::clone(plan), needs, side: JoinSide::None }];
        while let Some((side, next)) = next(path.last().expect("it starts with one step"))? {
            path.last_mut().expect("it starts with one step").side = side;
            path.push(next);
        }
        Ok(Self(path))
    }

    /// Whether the rows at `depth` can be aggregated first. A join must lie above, equal keys must be identical, and
    /// the arguments must not fail.
    pub(super) fn can_aggregate(&self, depth: usize) -> bool {
        let Step { plan, needs, .. } = &self.0[depth];
        let schema = plan.schema();
        // Equal floats may differ: 0.0 equals -0.0.
        let is_exact = |key: &usize| {
            let data_type = schema.field(*key).data_type();
            !data_type.is_floating() && !data_type.is_nested() && !matches!(data_type, DataType::Dictionary(..))
        };
        let mut exprs = needs.calls.iter().flat_map(Call::exprs);
        self.0[..depth].iter().any(|step| step.plan.is::<HashJoinExec>())
            && !needs.keys.is_empty()
            && needs.keys.iter().all(is_exact)
            && exprs.all(|it| is_total(it, &schema))
    }

    /// Applies `aggregate` to the rows at `depth` and rebuilds the nodes above. Returns the new top of the path.
    pub(super) fn pushed(
        &self,
        depth: usize,
        aggregate: impl FnOnce(&Needs, &Arc<dyn ExecutionPlan>) -> Result<AggregateExec>,
    ) -> Result<Pushed> {
        let lowest = &self.0[depth];
        let plan = aggregate(&lowest.needs, &lowest.plan)?;
        let keys: BTreeMap<_, _> = lowest.needs.keys.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let states = (keys.len()..plan.schema().fields().len()).collect();
        let pushed = Pushed { plan: Arc::new(plan), keys, states };
        self.0[..depth].iter().rev().try_fold(pushed, |below, step| step.over(below))
    }
}

impl Needs {
    /// The step to `input`, an input of a node of the path. `self` are the columns of `input` that this node and the
    /// nodes above it use. `side` is the side of `input` if the node is a join.
    fn at(self, input: &Arc<dyn ExecutionPlan>, side: JoinSide) -> (JoinSide, Step) {
        (side, Step { plan: Arc::clone(input), needs: self, side: JoinSide::None })
    }
}

/// The step below `step`. `None` if the path ends, for example at a join with aggregated columns on both sides.
fn next(step: &Step) -> Result<Option<(JoinSide, Step)>> {
    let Needs { keys, calls } = &step.needs;
    if let Some(join) = step.plan.downcast_ref::<HashJoinExec>() {
        return next_of_join(join, &step.needs);
    }
    if let Some(filter) = step.plan.downcast_ref::<FilterExec>() {
        if filter.fetch().is_some() || is_volatile(filter.predicate()) {
            return Ok(None);
        }
        let place = |index: usize| unprojected(filter.projection().as_deref(), index);
        let schema = filter.input().schema();
        let calls = calls.iter().map(|call| call.map(|expr| at_positions(expr, &schema, place)));
        let mut keys: BTreeSet<_> = keys.iter().map(|key| place(*key)).collect();
        keys.extend(collect_columns(filter.predicate()).iter().map(Column::index));
        let needs = Needs { keys, calls: calls.collect::<Result<_>>()? };
        return Ok(Some(needs.at(filter.input(), JoinSide::None)));
    }
    if let Some(projection) = step.plan.downcast_ref::<ProjectionExec>() {
        let exprs = projection.expr();
        if exprs.iter().any(|column| is_volatile(&column.expr)) {
            return Ok(None);
        }
        let calls = calls.iter().map(|call| call.map(|expr| inlined(expr, exprs)));
        let keys = keys.iter().flat_map(|key| collect_columns(&exprs[*key].expr)).map(|column| column.index());
        let needs = Needs { keys: keys.collect(), calls: calls.collect::<Result<_>>()? };
        return Ok(Some(needs.at(projection.input(), JoinSide::None)));
    }
    Ok(None)
}

fn next_of_join(join: &HashJoinExec, needs: &Needs) -> Result<Option<(JoinSide, Step)>> {
    let is_steady = !join.on().iter().any(|(left, right)| is_volatile(left) || is_volatile(right))
        && join.filter().is_none_or(|filter| !is_volatile(filter.expression()));
    let Some(side) = aggregated_side(join, needs).filter(|_| join.fetch().is_none() && is_steady) else {
        return Ok(None);
    };
    let left_columns = left_columns(join);
    let (input, first, columns) = match side {
        JoinSide::Left => (join.left(), 0, left_columns),
        _ => (join.right(), left_columns, usize::MAX),
    };
    let place = |index: usize| unprojected(join.projection.as_deref(), index);
    let schema = input.schema();
    let below = |expr: &Arc<dyn PhysicalExpr>| at_positions(expr, &schema, |index| place(index) - first);
    let calls = needs.calls.iter().map(|call| call.map(below)).collect::<Result<_>>()?;
    let above = needs.keys.iter().map(|key| place(*key));
    let mut keys: BTreeSet<_> = above.filter_map(|key| key.checked_sub(first)).filter(|key| *key < columns).collect();
    for (left, right) in join.on() {
        let key = if side == JoinSide::Left { left } else { right };
        keys.extend(collect_columns(key).iter().map(Column::index));
    }
    let filtered = join.filter().into_iter().flat_map(JoinFilter::column_indices);
    keys.extend(filtered.filter(|column| column.side == side).map(|column| column.index));
    Ok(Some(Needs { keys, calls }.at(input, side)))
}

/// The side of a join whose rows can be aggregated before it.
fn aggregated_side(join: &HashJoinExec, needs: &Needs) -> Option<JoinSide> {
    match join.join_type() {
        JoinType::Inner => {}
        JoinType::LeftSemi | JoinType::LeftAnti => return Some(JoinSide::Left),
        JoinType::RightSemi | JoinType::RightAnti => return Some(JoinSide::Right),
        _ => return None,
    }
    let left_columns = left_columns(join);
    let is_left = |column: usize| unprojected(join.projection.as_deref(), column) < left_columns;
    let columns = needs.calls.iter().flat_map(Call::exprs).flat_map(collect_columns);
    let mut lefts = columns.map(|column| is_left(column.index()));
    let left = match lefts.next() {
        Some(left) => lefts.all(|other| other == left).then_some(left)?,
        // `count(*)` has no arguments, so its rows can be aggregated on either side. The side with fewer keys is taken.
        None => 2 * needs.keys.iter().filter(|key| is_left(**key)).count() < needs.keys.len(),
    };
    Some(if left { JoinSide::Left } else { JoinSide::Right })
}

/// The number of columns that come from a join's left side, before the join's own projection.
fn left_columns(join: &HashJoinExec) -> usize {
    match join.join_type() {
        JoinType::RightSemi | JoinType::RightAnti => 0,
        _ => join.left().schema().fields().len(),
    }
}

/// Rewrites `expr` from a projection's output columns to the columns of its input.
fn inlined(expr: &Arc<dyn PhysicalExpr>, columns: &[ProjectionExpr]) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform_up(|node| {
            Ok(match node.downcast_ref::<Column>() {
                Some(column) => Transformed::yes(Arc::clone(&columns[column.index()].expr)),
                None => Transformed::no(node),
            })
        })
        .data()
}

impl Step {
    /// The same node over aggregated rows.
    fn over(&self, below: Pushed) -> Result<Pushed> {
        if let Some(join) = self.plan.downcast_ref::<HashJoinExec>() {
            return self.join_over(join, below);
        }
        let schema = below.plan.schema();
        let moved = |expr: &Arc<dyn PhysicalExpr>| at_positions(expr, &schema, |index| below.keys[&index]);
        if let Some(filter) = self.plan.downcast_ref::<FilterExec>() {
            let place = |index: usize| unprojected(filter.projection().as_deref(), index);
            let predicate = moved(filter.predicate())?;
            let kept = self.needs.keys.iter().map(|key| below.keys[&place(*key)]);
            let kept = kept.chain(below.states.iter().copied()).collect();
            let filter = FilterExecBuilder::new(predicate, below.plan).apply_projection(Some(kept))?.build()?;
            return Ok(self.pushed(Arc::new(filter), below.states.len()));
        }
        let projection = self.plan.downcast_ref::<ProjectionExec>().expect("only these are on a path");
        let mut exprs = vec![];
        for key in &self.needs.keys {
            let column = &projection.expr()[*key];
            exprs.push(ProjectionExpr { expr: moved(&column.expr)?, alias: column.alias.clone() });
        }
        for state in &below.states {
            let name = schema.field(*state).name();
            exprs.push(ProjectionExpr { expr: Arc::new(Column::new(name, *state)), alias: name.clone() });
        }
        let plan = ProjectionExec::try_new(exprs, below.plan)?;
        Ok(self.pushed(Arc::new(plan), below.states.len()))
    }

    fn join_over(&self, join: &HashJoinExec, below: Pushed) -> Result<Pushed> {
        let schema = below.plan.schema();
        let moved = |expr: &Arc<dyn PhysicalExpr>| at_positions(expr, &schema, |index| below.keys[&index]);
        let on = join.on().iter().map(|(left, right)| match self.side {
            JoinSide::Left => Ok((moved(left)?, Arc::clone(right))),
            _ => Ok((Arc::clone(left), moved(right)?)),
        });
        let filter = join.filter().map(|filter| {
            let columns = filter.column_indices().iter().map(|column| match column.side == self.side {
                true => ColumnIndex { index: below.keys[&column.index], side: column.side },
                false => column.clone(),
            });
            JoinFilter::new(Arc::clone(filter.expression()), columns.collect(), Arc::clone(filter.schema()))
        });
        let children = match self.side {
            JoinSide::Left => vec![below.plan, Arc::clone(join.right())],
            _ => vec![Arc::clone(join.left()), below.plan],
        };
        let builder = join.builder().with_new_children(children)?.with_on(on.collect::<Result<_>>()?);
        let joined = builder.with_filter(filter).with_projection(None).build()?;
        let (old_left, new_left) = (left_columns(join), left_columns(&joined));
        let first = if self.side == JoinSide::Left { 0 } else { new_left };
        let kept = self.needs.keys.iter().map(|key| {
            let old = unprojected(join.projection.as_deref(), *key);
            let (side, index) = if old < old_left { (JoinSide::Left, old) } else { (JoinSide::Right, old - old_left) };
            match (side == self.side, side) {
                (true, _) => first + below.keys[&index],
                (false, JoinSide::Left) => index,
                (false, _) => new_left + index,
            }
        });
        let kept = kept.chain(below.states.iter().map(|state| first + state)).collect();
        let plan = joined.builder().with_projection(Some(kept)).build_exec()?;
        Ok(self.pushed(plan, below.states.len()))
    }

    /// The positions in `plan`: the needed columns come first, in their order, then the states.
    fn pushed(&self, plan: Arc<dyn ExecutionPlan>, states: usize) -> Pushed {
        let keys: BTreeMap<_, _> = self.needs.keys.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let states = (keys.len()..keys.len() + states).collect();
        Pushed { plan, keys, states }
    }
}
