//! Keeps casts in place that lose information, change the order or shift time.
//!
//! DataFusion moves the cast of a column to the literal on the other side of a comparison: `CAST(i AS BIGINT) = 5`
//! becomes `i = 5` with a literal of the column's type. To skip row groups, it also casts the minimum and maximum of a
//! row group and compares them with the literal. Both are right only if the cast maps different values to different
//! values, in the same order. DataFusion 55.2 does the same for the following casts, with wrong results (`casts.rs` and
//! `pruning_predicate.rs`):
//!
//! - decimals to fewer digits after the point: `CAST(d AS INT) = 5` becomes `d = 5.00`, and the row with 5.10 is
//!   missing;
//! - TRY_CAST to a type that a value may not fit: `TRY_CAST(i AS TINYINT) <> 5` is NULL for 1000, but `i <> 5` is
//!   true;
//! - timestamps to a zone: in a session in Europe/Berlin, `CAST(t AS TIMESTAMPTZ) > TIMESTAMPTZ '2024-04-01'` becomes
//!   `t > '2024-03-31 22:00:00'`, but `t` holds times in Berlin;
//! - timestamps to TIME: a row group from 20:00 to 07:00 of the next day is skipped for `CAST(t AS TIME) < '10:00'`;
//! - numbers to BOOLEAN: a row group from -5 to 6 is skipped for `CAST(i AS BOOLEAN) < true`, although it may have 0;
//! - timestamps to a finer unit, if the literal lies between two values of the coarse unit: for `s` in seconds,
//!   `s < '00:00:00.5'` becomes `s < '00:00:00'`.
//!
//! Filter pushdown can bring a comparison from a node above to a cast. So each of these casts is wrapped in `opaque`,
//! even if no comparison uses it. Casts to a finer unit are the exception: nearly every comparison of a timestamp with
//! a literal has one, so they are wrapped only in a comparison with a literal between two values of the coarse unit.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use hwacha_operators::functions::opaque::{opaque, opaque_value};
use hwacha_operators::lossy_casts::loses;

use super::{TRY_CAST_FUNCTION, cast_value};

/// Wraps `expr` in `opaque` if it is a cast of the list above. If `expr` compares a timestamp that was cast to a finer
/// unit with a literal that the coarse unit cannot hold, wraps that cast. A second analysis adds no second wrapper.
pub(super) fn kept(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(inner) = opaque_value(&expr).filter(|inner| opaque_value(inner).is_some()) {
        return Ok(Transformed::yes(inner.clone()));
    }
    if compares_between_units(&expr, schema)? {
        return expr.map_children(|side| {
            Ok(if finer(&side, schema).is_some() { Transformed::yes(opaque(side)) } else { Transformed::no(side) })
        });
    }
    let Some(value) = cast_value(&expr).filter(|value| !matches!(value, Expr::Literal(..))) else {
        return Ok(Transformed::no(expr));
    };
    let (Ok(from), Ok(to)) = (value.get_type(schema), expr.get_type(schema)) else { return Ok(Transformed::no(expr)) };
    let may_be_null = tries(&expr) && !from.is_string() && !to.is_string();
    Ok(if may_be_null || loses(&from, &to) { Transformed::yes(opaque(expr)) } else { Transformed::no(expr) })
}

/// Whether the cast gives NULL for a value that does not fit.
fn tries(cast: &Expr) -> bool {
    match cast {
        Expr::TryCast(_) => true,
        Expr::ScalarFunction(call) => call.name() == TRY_CAST_FUNCTION,
        _ => false,
    }
}

/// Whether `expr` compares a timestamp that was cast to a finer unit with a constant that the coarse unit cannot hold.
/// Example: seconds cast to milliseconds, and the constant 500 ms.
fn compares_between_units(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let sides: Vec<&Expr> = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => vec![left, right],
        Expr::Between(Between { expr, low, high, .. }) => vec![expr, low, high],
        Expr::InList(InList { expr, list, .. }) => list.iter().chain([expr.as_ref()]).collect(),
        _ => return Ok(false),
    };
    let Some(step) = sides.iter().filter_map(|side| finer(side, schema)).max() else { return Ok(false) };
    let is_between = |side: &Expr| constant(side).is_some_and(|number| number % step != 0);
    Ok(sides.into_iter().any(|side| side.column_refs().is_empty() && is_between(side)))
}

/// The number of finer units in one coarse unit if `expr` casts a timestamp to a finer unit: 1,000 from seconds to
/// milliseconds. `None` for other expressions, and for casts of constants.
fn finer(expr: &Expr, schema: &DFSchema) -> Option<i64> {
    let Expr::Cast(Cast { expr: value, field }) = expr else { return None };
    let (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) = (value.get_type(schema).ok()?, field.data_type())
    else {
        return None;
    };
    let step = per_second(*to) / per_second(from);
    (step > 1 && !value.column_refs().is_empty()).then_some(step)
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The stored number of a constant timestamp; `None` if it is not known yet, as for `now()`.
fn constant(expr: &Expr) -> Option<i64> {
    let context = SimplifyContext::builder().with_schema(Arc::new(DFSchema::empty())).build();
    match ExprSimplifier::new(context).simplify(expr.clone()).ok()? {
        Expr::Literal(
            ScalarValue::TimestampMillisecond(number, _)
            | ScalarValue::TimestampMicrosecond(number, _)
            | ScalarValue::TimestampNanosecond(number, _),
            _,
        ) => number,
        _ => None,
    }
}
