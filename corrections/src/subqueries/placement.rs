//! Moves subqueries that other nodes contain into filters and projections, where they can become joins.
//!
//! DataFusion plans subqueries in ORDER BY, GROUP BY, the arguments of aggregates and window functions and the
//! conditions of outer joins, but it cannot run them there.
//!
//! ```text
//!   Sort: EXISTS (…) ASC              Projection: id
//!     Projection: id            ->      Sort: __placed_0 ASC
//!       TableScan: o                      Projection: id, EXISTS (…) AS __placed_0
//!                                           TableScan: o
//! ```

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Filter, Join, JoinType, LogicalPlan, Operator, Projection, Sort, Window,
};
use datafusion::optimizer::AnalyzerRule;

use super::references::{Reference, becomes_join, free_references, has, lateral, provides, subquery_of};
use super::source::passed_sides;

/// Prefix of the column names of moved subqueries: `__placed_0`.
const PLACED: &str = "__placed_";

/// Moves subqueries to where they can become joins.
#[derive(Debug)]
pub struct PlacedSubqueriesRule;

impl AnalyzerRule for PlacedSubqueriesRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let mut is_asking = false;
            node.apply_expressions(|expr| {
                is_asking |= has(expr, becomes_join);
                Ok(TreeNodeRecursion::Continue)
            })?;
            if !is_asking {
                return Ok(Transformed::no(node));
            }
            place(with_memberships(node)?)
        })
        .data()
    }

    fn name(&self) -> &str {
        "placed_subqueries"
    }
}

/// Rewrites `x = ANY (…)` to `x IN (…)`, and `x <> ALL (…)` to `x NOT IN (…)`. DataFusion later rewrites all other
/// comparisons with ANY and ALL to EXISTS, which has another name. In a projection, an alias keeps their present name.
fn with_memberships(node: LogicalPlan) -> Result<LogicalPlan> {
    let names = NamePreserver::new(&node);
    let is_selected = matches!(node, LogicalPlan::Projection(_));
    let compares = |expr: &Expr| has(expr, |part| matches!(part, Expr::SetComparison(_)));
    node.map_expressions(|expr| {
        if !compares(&expr) {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let mut expr = expr.transform(|part| Ok(as_membership(part)))?.data;
        if is_selected && compares(&expr) && !matches!(expr, Expr::Alias(_)) {
            let text = expr.schema_name().to_string();
            expr = expr.alias(text);
        }
        Ok(Transformed::yes(name.restore(expr)))
    })
    .data()
}

fn as_membership(part: Expr) -> Transformed<Expr> {
    let Expr::SetComparison(comparison) = part else { return Transformed::no(part) };
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    match (op, quantifier) {
        (Operator::Eq, SetQuantifier::Any) => {
            Transformed::yes(Expr::InSubquery(InSubquery::new(expr, subquery, false)))
        }
        (Operator::NotEq, SetQuantifier::All) => {
            Transformed::yes(Expr::InSubquery(InSubquery::new(expr, subquery, true)))
        }
        _ => Transformed::no(Expr::SetComparison(SetComparison::new(expr, subquery, op, quantifier))),
    }
}

fn place(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(join) => Ok(Transformed::yes(place_conditions(join)?)),
        LogicalPlan::Sort(sort) => Ok(Transformed::yes(place_below_sort(sort)?)),
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(Distinct::On(_)) => {
            Ok(Transformed::yes(place_below(node)?))
        }
        // Filters and projections are the right places. DataFusion refuses subqueries in all other nodes.
        other => Ok(Transformed::yes(other)),
    }
}

/// Subqueries that have been moved out of expressions over some input.
struct Moved {
    /// The number of the first name. No column of the input has this or a larger number.
    first: usize,
    exprs: Vec<Expr>,
}

impl Moved {
    fn over(schema: &DFSchema) -> Self {
        Self { first: first_free(schema), exprs: vec![] }
    }

    /// The column that replaces `expr`. Equal expressions share a column.
    fn add(&mut self, expr: Expr) -> Expr {
        let place = self.exprs.iter().position(|known| *known == expr).unwrap_or(self.exprs.len());
        if place == self.exprs.len() {
            self.exprs.push(expr);
        }
        Expr::Column(Column::new_unqualified(self.name(place)))
    }

    fn name(&self, place: usize) -> String {
        format!("{PLACED}{}", self.first + place)
    }

    /// The moved expressions under the names of their columns.
    fn named(&self) -> Vec<Expr> {
        self.exprs.iter().enumerate().map(|(place, expr)| expr.clone().alias(self.name(place))).collect()
    }

    /// `expr` with columns in place of subqueries.
    fn take_from(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_down(|part| match becomes_join(&part) {
            true => Ok(Transformed::new(self.add(part), true, TreeNodeRecursion::Jump)),
            false => Ok(Transformed::no(part)),
        })
    }

    /// The input with all its columns, and a column for each moved expression.
    fn on(self, input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
        let columns = input.schema().columns().into_iter().map(Expr::Column);
        let exprs = columns.chain(self.named()).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
    }
}

/// One more than the largest number of a `__placed_` column; 0 if the schema has none.
fn first_free(schema: &DFSchema) -> usize {
    let number = |name: &String| name.strip_prefix(PLACED)?.parse::<usize>().ok();
    let last = schema.fields().iter().filter_map(|field| number(field.name())).max();
    last.map_or(0, |last| last + 1)
}

/// `plan` with only the columns of `schema`.
fn projected(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// Moves the subqueries of a node with one input into a projection below it.
fn place_below(node: LogicalPlan) -> Result<LogicalPlan> {
    let schema = Arc::clone(node.schema());
    let Some(input) = node.inputs().first().map(|input| Arc::new((*input).clone())) else { return Ok(node) };
    let mut moved = Moved::over(input.schema());
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        if matches!(&expr, Expr::GroupingSet(_)) && has(&expr, becomes_join) {
            return plan_err!(
                "a subquery in GROUPING SETS, ROLLUP or CUBE is not supported; compute it in a subquery of FROM"
            );
        }
        let name = names.save(&expr);
        Ok(moved.take_from(expr)?.update_data(|expr| name.restore(expr)))
    });
    let input = Arc::new(moved.on(input)?);
    let plan = match node.data()? {
        LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, .. }) => {
            LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?)
        }
        LogicalPlan::Window(Window { window_expr, .. }) => LogicalPlan::Window(Window::try_new(window_expr, input)?),
        LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, select_expr, sort_expr, .. })) => {
            LogicalPlan::Distinct(Distinct::On(DistinctOn::try_new(on_expr, select_expr, sort_expr, input)?))
        }
        other => other,
    };
    projected(plan, &schema)
}

/// Moves the subqueries of a sort's keys into a projection below the sort. If they refer to columns that the projection
/// below the sort does not select, that projection computes them.
fn place_below_sort(sort: Sort) -> Result<LogicalPlan> {
    let Sort { mut expr, input, fetch } = sort;
    let schema = Arc::clone(input.schema());
    let mut moved = Moved::over(&schema);
    for key in &mut expr {
        key.expr = moved.take_from(key.expr.clone())?.data;
    }
    let selected = match input.as_ref() {
        LogicalPlan::Projection(projection) if refers_below(&moved.exprs, projection)? => Some(projection.clone()),
        _ => None,
    };
    let input = match selected {
        Some(projection) => {
            let mut exprs = projection.expr.clone();
            for expr in moved.named() {
                exprs.push(below(expr, &projection)?);
            }
            LogicalPlan::Projection(Projection::try_new(exprs, projection.input)?)
        }
        None => moved.on(input)?,
    };
    projected(LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch }), &schema)
}

/// Whether subqueries refer to columns that a projection's input has and the projection does not have.
fn refers_below(exprs: &[Expr], projection: &Projection) -> Result<bool> {
    let is_below =
        |column: &Column| !provides(&projection.schema, column) && provides(projection.input.schema(), column);
    for expr in exprs {
        if references(expr)?.iter().any(|reference| is_below(&reference.column)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Rewrites an expression over a projection's rows to one over the rows of the projection's input.
fn below(expr: Expr, projection: &Projection) -> Result<Expr> {
    expr.transform(|part| match part {
        Expr::Column(column) => {
            let index = projection.schema.index_of_column(&column)?;
            Ok(Transformed::yes(projection.expr[index].clone().unalias()))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// The outer references of all subqueries in an expression.
fn references(expr: &Expr) -> Result<Vec<Reference>> {
    let mut references = vec![];
    expr.apply(|part| {
        if let Some(subquery) = subquery_of(part) {
            references.extend(free_references(&subquery.subquery)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(references)
}

/// Moves the conditions of a join that contain subqueries. If the join drops the rows that do not meet a condition,
/// the condition becomes a filter. If the join keeps these rows, the condition becomes a column of the side that it
/// reads.
fn place_conditions(join: Join) -> Result<LogicalPlan> {
    let schema = Arc::clone(&join.schema);
    let tests = join.filter.map(split_conjunction_owned).unwrap_or_default();
    let (asking, mut tests): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| has(test, becomes_join));
    let is_lateral = lateral(&join.right).is_some();
    let first = first_free(join.left.schema()).max(first_free(join.right.schema()));
    let (mut left, mut right) = (Side::of(join.left, first), Side::of(join.right, first + asking.len()));
    let mut above = vec![];
    // A preserved side keeps its rows that do not meet the condition. The output side of a semi, anti or mark join is
    // treated the same way.
    let (keeps_left, keeps_right) = match join.join_type {
        JoinType::Inner => (false, false),
        JoinType::Full => (true, true),
        other => passed_sides(other),
    };
    for test in asking {
        // A LATERAL subquery must stay the right input, and its rows depend on the left row. So no condition goes to
        // its side.
        let (in_left, in_right) = (is_lateral || left.is_in(&test)?, right.is_in(&test)?);
        match (in_left, in_right) {
            (true, true) | (false, false) if join.join_type == JoinType::Inner => above.push(test),
            (true, true) => {
                return plan_err!(
                    "a subquery in the condition of an outer, semi or anti join cannot use columns of both sides; \
                     compute it in a subquery of FROM"
                );
            }
            (true, false) if keeps_left => tests.push(left.moved.add(test)),
            (false, _) if keeps_right => tests.push(right.moved.add(test)),
            (true, false) => left.tests.push(test),
            (false, _) => right.tests.push(test),
        }
    }
    let (left, right) = (Arc::new(left.plan()?), Arc::new(right.plan()?));
    let joined = Join::try_new(
        left,
        right,
        join.on,
        conjunction(tests),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    let plan = projected(LogicalPlan::Join(joined), &schema)?;
    match conjunction(above) {
        Some(predicate) => Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?)),
        None => Ok(plan),
    }
}

/// A side of a join, with the conditions that go to it.
struct Side {
    plan: Arc<LogicalPlan>,
    /// Conditions that the rows of this side have to meet.
    tests: Vec<Expr>,
    /// Conditions that become columns of this side.
    moved: Moved,
}

impl Side {
    fn of(plan: Arc<LogicalPlan>, first: usize) -> Self {
        Self { plan, tests: vec![], moved: Moved { first, exprs: vec![] } }
    }

    /// Whether a condition uses columns of this side.
    fn is_in(&self, test: &Expr) -> Result<bool> {
        let schema = self.plan.schema();
        let uses = |column: &Column| provides(schema, column);
        let in_subqueries = references(test)?.iter().any(|reference| uses(&reference.column));
        Ok(in_subqueries || test.column_refs().into_iter().any(uses))
    }

    fn plan(self) -> Result<LogicalPlan> {
        let Self { mut plan, tests, moved } = self;
        if let Some(predicate) = conjunction(tests) {
            plan = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, plan)?));
        }
        if moved.exprs.is_empty() { Ok(Arc::unwrap_or_clone(plan)) } else { moved.on(plan) }
    }
}
