//! Casts that lose something are kept.
//!
//! DataFusion moves the cast of a column to the literal on the other side of a comparison: `CAST(i AS BIGINT) = 5` becomes
//! `i = 5` with a literal of the column's type. That is right only if the cast maps each value to one of its own, in the
//! same order. DataFusion leaves some of the others alone, but not these (`casts.rs`, 55.2):
//!
//! - decimal numbers to fewer digits after the point: of `CAST(d AS INT) = 5`, 5.10 is lost;
//! - TRY_CAST of numbers that may not fit: `TRY_CAST(i AS TINYINT) <> 5` is NULL for 1000, and `i <> 5` is true;
//! - timestamps to a time zone: of `CAST(t AS TIMESTAMPTZ) > TIMESTAMPTZ '2024-04-01'` in a session in Europe/Berlin, the
//!   literal without its zone becomes 22:00 in UTC, and `t` is a time in Berlin.
//!
//! A cast and a comparison that are far apart in a query meet when filters are moved, so each such cast is kept by a call
//! of `opaque`, compared or not.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::{FUNCTIONS, cast_value};
use crate::opaque::{opaque, opaque_value};
use crate::session::is_utc;

/// `expr`, if it is a cast that loses something, kept. One that was kept before is not kept twice.
pub(super) fn kept(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(inner) = opaque_value(&expr).filter(|inner| opaque_value(inner).is_some()) {
        return Ok(Transformed::yes(inner.clone()));
    }
    let Some(value) = cast_value(&expr).filter(|value| !matches!(value, Expr::Literal(..))) else {
        return Ok(Transformed::no(expr));
    };
    let (Ok(from), Ok(to)) = (value.get_type(schema), expr.get_type(schema)) else { return Ok(Transformed::no(expr)) };
    let loses = shifts(&from, &to) || from.is_numeric() && to.is_numeric() && (tries(&expr) || shortens(&from, &to));
    Ok(if loses { Transformed::yes(opaque(expr)) } else { Transformed::no(expr) })
}

/// Whether a value that does not fit becomes NULL.
fn tries(cast: &Expr) -> bool {
    match cast {
        Expr::TryCast(_) => true,
        Expr::ScalarFunction(call) => call.name() == FUNCTIONS[1],
        _ => false,
    }
}

/// Whether a cast takes a time for one of a zone in which clocks differ from UTC.
fn shifts(from: &DataType, to: &DataType) -> bool {
    matches!((from, to), (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone))) if !is_utc(zone))
}

fn shortens(from: &DataType, to: &DataType) -> bool {
    match (scale(from), scale(to)) {
        (Some(own), Some(kept)) => own > kept,
        (Some(own), None) => own > 0 && to.is_integer(),
        _ => false,
    }
}

/// How many digits a decimal number has after its point.
fn scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}
