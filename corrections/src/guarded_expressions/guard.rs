//! Replaces an expression that can fail by `CASE WHEN guards THEN expression ELSE default END`. The guards are the
//! conditions that are true for every row for which the expression's value matters.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, TableReference};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, Sort};
use datafusion::logical_expr::utils::{
    conjunction, disjunction, split_binary_owned, split_conjunction, split_conjunction_owned,
};
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, Operator, lit};

use super::risk::can_fail;

/// Guards an expression whose value matters for all rows. `schema` has the columns that it reads.
pub(super) fn guarded_value(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    guarded(expr, &[], schema)
}

/// Guards a condition of a filter or join. FALSE and NULL have the same effect there.
pub(super) fn guarded_predicate(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match may_fail(&expr, schema) {
        true => guarded_chain(split_conjunction_owned(expr), Chain::Predicate, &[], schema),
        false => Ok(Transformed::no(expr)),
    }
}

/// A condition that is true for every row for which the value of the guarded expression matters.
#[derive(Clone, Debug)]
struct Guard {
    condition: Expr,
    /// Whether the guard applies only to expressions that read all tables of its condition. Such a guard adds no table
    /// to an expression, so DataFusion can still push the expression down. Example: `a.v <> 0` guards `10 / a.v`, but
    /// not `10 / b.w`.
    is_local: bool,
}

impl Guard {
    /// The guard of a condition; `None` if the condition must not be copied: it is volatile, or has a subquery, an
    /// outer reference, an aggregate or a window function.
    fn new(condition: Expr, is_local: bool) -> Option<Self> {
        let is_bound = |expr: &Expr| {
            matches!(
                expr,
                Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::AggregateFunction(_)
                    | Expr::WindowFunction(_)
            )
        };
        let is_fit = !condition.is_volatile() && !holds(&condition, is_bound);
        is_fit.then_some(Self { condition, is_local })
    }

    fn fits(&self, tables: &HashSet<Option<&TableReference>>) -> bool {
        !self.is_local || read_tables(&self.condition).is_subset(tables)
    }
}

/// How conditions are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// By AND, in a filter or join: FALSE and NULL both drop the row.
    Predicate,
    /// By AND, in an expression where FALSE and NULL differ.
    And,
    Or,
}

impl Chain {
    /// Turns one condition of the chain into a guard for the other conditions. In a filter, `v <> 0` stays `v <> 0`. In
    /// AND, `v <> 0` becomes `v <> 0 IS NOT FALSE`. In OR, `v = 0` becomes `v = 0 IS NOT TRUE`.
    fn guard(self, condition: &Expr) -> Option<Guard> {
        let condition = condition.clone();
        match self {
            // The equality becomes a join key. Expressions over both tables are evaluated only for joined rows, and
            // all joined rows meet the equality.
            Self::Predicate if joins_tables(&condition) => None,
            Self::Predicate => Guard::new(condition, true),
            Self::And => Guard::new(Expr::IsNotFalse(Box::new(condition)), false),
            Self::Or => Guard::new(Expr::IsNotTrue(Box::new(condition)), false),
        }
    }

    fn combined(self, conditions: Vec<Expr>) -> Expr {
        let combined = match self {
            Self::Predicate | Self::And => conjunction(conditions),
            Self::Or => disjunction(conditions),
        };
        combined.expect("a chain has conditions")
    }
}

/// Guards each condition that can fail with all conditions that cannot fail, whether they come before or after it:
/// DataFusion reorders conditions.
fn guarded_chain(conditions: Vec<Expr>, chain: Chain, outer: &[Guard], schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut guards = outer.to_vec();
    let steady = conditions.iter().filter(|condition| !may_fail(condition, schema));
    guards.extend(steady.filter_map(|condition| chain.guard(condition)));
    let (mut done, mut is_changed) = (vec![], false);
    for condition in conditions {
        let condition = guarded(condition, &guards, schema)?;
        is_changed |= condition.transformed;
        done.push(condition.data);
    }
    Ok(Transformed::new_transformed(chain.combined(done), is_changed))
}

/// Guards `expr`, whose value matters only for rows that meet all `guards`.
fn guarded(expr: Expr, guards: &[Guard], schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !may_fail(&expr, schema) {
        return Ok(Transformed::no(expr));
    }
    let is_under_guards = is_under_guards(&expr, schema);
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => {
            guarded_chain(split_binary_owned(expr, Operator::And), Chain::And, guards, schema)
        }
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            guarded_chain(split_binary_owned(expr, Operator::Or), Chain::Or, guards, schema)
        }
        Expr::Case(case) if is_under_guards => {
            guarded_case(case, &[], schema)?.transform_data(|case| under(case, guards, schema))
        }
        Expr::Case(case) => guarded_case(case, guards, schema),
        Expr::AggregateFunction(call) => guarded_call(call, schema),
        risk if can_fail(&risk, schema) => {
            let inner = risk.map_children(|part| guarded(part, &[], schema))?;
            inner.transform_data(|risk| under(risk, guards, schema))
        }
        other => other.map_children(|part| guarded(part, guards, schema)),
    }
}

/// Guards the parts of a CASE. The guards of `outer` apply to the operand and the first WHEN, which DataFusion
/// evaluates for all rows. It evaluates the other parts only for the rows of their branch. But it turns a CASE with
/// Boolean results into AND and OR. So each branch of such a CASE is guarded with its own WHEN and the negated WHENs
/// before it.
fn guarded_case(case: Case, outer: &[Guard], schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Case { expr, when_then_expr, else_expr } = case;
    let is_truth = |(_, then): &(Box<Expr>, Box<Expr>)| then.get_type(schema).is_ok_and(|it| it == DataType::Boolean);
    let is_split = expr.is_none() && when_then_expr.first().is_some_and(is_truth);
    let mut is_changed = false;
    let mut part = |part: Box<Expr>, guards: &[Guard]| -> Result<Box<Expr>> {
        let guarded = guarded(*part, guards, schema)?;
        is_changed |= guarded.transformed;
        Ok(Box::new(guarded.data))
    };
    let expr = expr.map(|expr| part(expr, outer)).transpose()?;
    // Conditions that hold for rows that have met no WHEN so far.
    let mut before: Vec<Guard> = vec![];
    let mut branches = vec![];
    for (number, (when, then)) in when_then_expr.into_iter().enumerate() {
        let when = part(when, if number == 0 { outer } else { &before })?;
        let mut within = before.clone();
        if is_split {
            within.extend(Guard::new(when.as_ref().clone(), false));
            before.extend(Guard::new(Expr::IsNotTrue(when.clone()), false));
        }
        branches.push((when, part(then, &within)?));
    }
    let else_expr = else_expr.map(|expr| part(expr, &before)).transpose()?;
    Ok(Transformed::new_transformed(Expr::Case(Case::new(expr, branches, else_expr)), is_changed))
}

/// Guards the arguments and the ORDER BY of an aggregate with its FILTER: they matter only for rows that pass the
/// FILTER.
fn guarded_call(call: AggregateFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let AggregateFunction { func, params } = call;
    let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
    let mut is_changed = false;
    let mut note = |guarded: Transformed<Expr>| {
        is_changed |= guarded.transformed;
        guarded.data
    };
    let filter = match filter {
        Some(filter) => Some(Box::new(note(guarded_predicate(*filter, schema)?))),
        None => None,
    };
    let conditions = filter.iter().flat_map(|filter| split_conjunction(filter));
    let guards: Vec<Guard> = conditions.filter_map(|condition| Guard::new(condition.clone(), false)).collect();
    let args = args.into_iter().map(|arg| Ok(note(guarded(arg, &guards, schema)?))).collect::<Result<Vec<_>>>()?;
    let order_by = order_by.into_iter().map(|sort| {
        let expr = note(guarded(sort.expr, &guards, schema)?);
        Ok(Sort { expr, ..sort })
    });
    let order_by = order_by.collect::<Result<Vec<_>>>()?;
    let params = AggregateFunctionParams { args, distinct, filter, order_by, null_treatment };
    Ok(Transformed::new_transformed(Expr::AggregateFunction(AggregateFunction { func, params }), is_changed))
}

/// `CASE WHEN guards THEN risk ELSE default END`. The default is any value of the same type.
fn under(risk: Expr, guards: &[Guard], schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Some(condition) = new_condition(&risk, guards) else { return Ok(Transformed::no(risk)) };
    let data_type = risk.get_type(schema)?;
    // If the default is not NULL, the CASE can be NULL only where `risk` can be.
    let other = ScalarValue::new_default(&data_type).or_else(|_| ScalarValue::try_new_null(&data_type))?;
    let (base, when) = match data_type {
        // DataFusion does not turn `CASE condition WHEN true …` into AND and OR.
        DataType::Boolean => (Some(Box::new(condition)), lit(true)),
        _ => (None, condition),
    };
    let branch = (Box::new(when), Box::new(risk));
    let other = Some(Box::new(Expr::Literal(other, None)));
    Ok(Transformed::yes(Expr::Case(Case::new(base, vec![branch], other))))
}

/// The guards that apply to `risk` and do not guard it yet, combined by AND; `None` if there are none. So a second run
/// of the rule changes nothing.
fn new_condition(risk: &Expr, guards: &[Guard]) -> Option<Expr> {
    let (tables, known) = (read_tables(risk), known_conditions(risk));
    if tables.is_empty() {
        return None;
    }
    let is_new = |guard: &&Guard| guard.fits(&tables) && !known.contains(&&guard.condition);
    conjunction(guards.iter().filter(is_new).map(|guard| guard.condition.clone()))
}

/// The guarded expression and the condition, if `expr` is a CASE in the form that [`under`] makes.
fn layer(expr: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::Case(Case { expr: base, when_then_expr, else_expr }) = expr else { return None };
    let is_default = matches!(else_expr.as_deref(), Some(Expr::Literal(value, _)) if !value.is_null());
    match &when_then_expr[..] {
        [(when, then)] if is_default => match base {
            None => Some((then.as_ref(), when.as_ref())),
            Some(base) => (**when == lit(true)).then_some((then.as_ref(), base.as_ref())),
        },
        _ => None,
    }
}

/// The conditions that already guard an expression.
fn known_conditions(mut expr: &Expr) -> Vec<&Expr> {
    let mut known = vec![];
    while let Some((within, condition)) = layer(expr) {
        known.extend(split_conjunction(condition));
        expr = within;
    }
    known
}

/// Whether `expr` is one or more CASEs of [`under`] around an expression that can fail.
fn is_under_guards(mut expr: &Expr, schema: &DFSchema) -> bool {
    let is_case = matches!(expr, Expr::Case(_));
    while let Some((within, _)) = layer(expr) {
        expr = within;
    }
    is_case && can_fail(expr, schema)
}

/// Whether a condition is an equality of columns of two tables.
fn joins_tables(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let columns = left.try_as_col().zip(right.try_as_col());
    columns.is_some_and(|(left, right)| left.relation != right.relation)
}

/// Whether some part of an expression can fail.
fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    holds(expr, |part| can_fail(part, schema))
}

fn holds(expr: &Expr, test: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|part| Ok(test(part))).expect("the test gives no error")
}

/// The tables whose columns an expression reads.
fn read_tables(expr: &Expr) -> HashSet<Option<&TableReference>> {
    expr.column_refs().into_iter().map(|column| column.relation.as_ref()).collect()
}
