//! Estimates the selectivity of predicates: the share of rows for which a predicate is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::split_conjunction;

use super::columns::{column_of, number};
use super::{Estimate, UNKNOWN_FRACTION};
use crate::tuning::{LEAST_FRACTION, PATTERN_FRACTION, PREFIX_FRACTION, UNKNOWN_RANGE};

/// Estimates the rows of `input` for which `predicate` is true.
pub(super) fn filtered(predicate: &Arc<dyn PhysicalExpr>, input: &Estimate) -> Estimate {
    let mut kept = input.scaled(selectivity(predicate, input));
    for part in split_conjunction(predicate) {
        if let Some((column, low, high)) = bounds(part, input) {
            kept.columns[column].narrow(low, high, &input.columns[column]);
        } else if let Some((column, values)) = named_values(part)
            && let Some(column) = kept.columns.get_mut(column)
        {
            column.distinct = column.distinct.min(values);
        }
    }
    kept
}

/// The column and the number of listed values, if `expr` tests that a column has one of some listed values. Examples:
/// `k IN (1, 2)` and `k = 1 OR k = 2` both give column k and 2 values.
fn named_values(expr: &Arc<dyn PhysicalExpr>) -> Option<(usize, f64)> {
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return column_of(list.expr()).filter(|_| !list.negated()).map(|column| (column, list.len() as f64));
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    match binary.op() {
        Operator::Eq => match (literal(binary.left()), literal(binary.right())) {
            (None, Some(_)) => Some((column_of(binary.left())?, 1.0)),
            (Some(_), None) => Some((column_of(binary.right())?, 1.0)),
            _ => None,
        },
        Operator::Or => {
            let ((column, values), (other, more)) = (named_values(binary.left())?, named_values(binary.right())?);
            (column == other).then_some((column, values + more))
        }
        _ => None,
    }
}

/// The share of `input`'s rows for which `predicate` is true.
pub(crate) fn selectivity(predicate: &Arc<dyn PhysicalExpr>, input: &Estimate) -> f64 {
    let mut ranges: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    let mut values: BTreeMap<usize, f64> = BTreeMap::new();
    let mut share = 1.0;
    for part in split_conjunction(predicate) {
        if let Some((column, low, high)) = bounds(part, input) {
            // The bounds of one column are one range: `k > 3 AND k < 9` is the range from 3 to 9.
            let range = ranges.entry(column).or_insert((f64::NEG_INFINITY, f64::INFINITY));
            *range = (range.0.max(low), range.1.min(high));
        } else if let Some((column, _)) = named_values(part) {
            // Only the most selective list of a column counts: `k IN (1, 2) AND k IN (1, 2, 3)` is `k IN (1, 2)`.
            let least = values.entry(column).or_insert(1.0);
            *least = least.min(single(part, input));
        } else {
            share *= single(part, input);
        }
    }
    let within = ranges.into_iter().map(|(column, (low, high))| {
        let (least, greatest) = input.columns[column].range.expect("bounds are only of columns with a range");
        let width = (greatest - least).max(f64::MIN_POSITIVE);
        ((high.min(greatest) - low.max(least)) / width).clamp(0.0, 1.0)
    });
    (share * values.into_values().product::<f64>() * within.product::<f64>()).clamp(LEAST_FRACTION, 1.0)
}

/// The column, the lower and the upper bound, if `expr` compares a number with a column whose range is known. Example:
/// `k < 5` gives column k, -infinity and 5.
fn bounds(expr: &Arc<dyn PhysicalExpr>, input: &Estimate) -> Option<(usize, f64, f64)> {
    let comparison = expr.downcast_ref::<BinaryExpr>()?;
    let (column, operator, value) = match (column_of(comparison.left()), column_of(comparison.right())) {
        (Some(column), None) => (column, *comparison.op(), comparison.right()),
        (None, Some(column)) => (column, comparison.op().swap()?, comparison.left()),
        _ => return None,
    };
    input.columns.get(column)?.range?;
    let value = number(literal(value)?)?;
    match operator {
        Operator::Lt | Operator::LtEq => Some((column, f64::NEG_INFINITY, value)),
        Operator::Gt | Operator::GtEq => Some((column, value, f64::INFINITY)),
        _ => None,
    }
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

fn single(expr: &Arc<dyn PhysicalExpr>, input: &Estimate) -> f64 {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let of = |expr| selectivity(expr, input);
        return match binary.op() {
            Operator::Or => {
                let (left, right) = (of(binary.left()), of(binary.right()));
                left + right - left * right
            }
            Operator::Eq | Operator::IsNotDistinctFrom => equality(binary, input),
            Operator::NotEq | Operator::IsDistinctFrom => 1.0 - equality(binary, input),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => UNKNOWN_RANGE,
            _ => UNKNOWN_FRACTION,
        };
    }
    let nulls = |expr| column_of(expr).and_then(|column| input.columns.get(column)).map_or(0.0, |column| column.nulls);
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        1.0 - selectivity(not.arg(), input)
    } else if let Some(list) = expr.downcast_ref::<InListExpr>() {
        negated(list.negated(), (list.len() as f64 / input.distinct([list.expr()])).min(0.9))
    } else if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        negated(like.negated(), pattern(like.pattern()))
    } else if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
        nulls(is_null.arg())
    } else if let Some(is_not_null) = expr.downcast_ref::<IsNotNullExpr>() {
        1.0 - nulls(is_not_null.arg())
    } else {
        match literal(expr) {
            Some(ScalarValue::Boolean(Some(true))) => 1.0,
            Some(_) => 0.0,
            None => UNKNOWN_FRACTION,
        }
    }
}

fn equality(binary: &BinaryExpr, input: &Estimate) -> f64 {
    let values = |expr: &Arc<dyn PhysicalExpr>| match literal(expr) {
        Some(_) => 1.0,
        None => input.distinct([expr]),
    };
    1.0 / values(binary.left()).max(values(binary.right())).max(1.0)
}

fn pattern(pattern: &Arc<dyn PhysicalExpr>) -> f64 {
    match literal(pattern).and_then(|pattern| pattern.try_as_str().flatten()) {
        Some(text) if !text.starts_with(['%', '_']) => PREFIX_FRACTION,
        _ => PATTERN_FRACTION,
    }
}

fn negated(is_negated: bool, share: f64) -> f64 {
    if is_negated { 1.0 - share } else { share }
}
