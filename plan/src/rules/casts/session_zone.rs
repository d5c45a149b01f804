//! A time without a zone is a time of the session's zone, which is UTC unless it is set. DuckDB, PostgreSQL, Spark and Trino
//! have this rule.
//!
//! DataFusion takes texts, dates and timestamps without a zone that meet a timestamp with one for local times of that one's
//! zone. Over a column in Europe/Berlin, `t > now()` would be two hours late in summer, since `now()` has no zone while
//! none is set, and so would be times that `to_timestamp` makes of seconds since 1970. The other way round it gives the
//! time in UTC, so that a timestamp cast to one without a zone and back is another in a session that has set a zone.
//!
//! `to_timestamp` of whole seconds is an instant, which DataFusion takes for a local time too where the session has set a
//! zone. It makes the right ones of decimal numbers.
//!
//! Casts to a zone that is not the session's come from making types equal. Where a query names a zone, by AT TIME ZONE or
//! `arrow_cast`, it is a call of `arrow_cast` here, and stays.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::functions::datetime::to_local_time;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, TryCast};

use crate::session::is_utc;

/// Holds every whole number of 64 bits.
const SECONDS: DataType = DataType::Decimal128(20, 0);

/// Whether an expression may be one that depends on the zone and is no cast.
pub(super) fn reads_seconds(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.name() == "to_timestamp")
}

/// `expr`, if it is `to_timestamp` of whole seconds, with decimal ones.
pub(super) fn of_decimal_seconds(mut expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &mut expr else { return Ok(Transformed::no(expr)) };
    match &mut call.args[..] {
        [seconds] if !is_utc(zone) && call.func.name() == "to_timestamp" && seconds.get_type(schema)?.is_integer() => {
            *seconds = Expr::Cast(Cast::new(Box::new(std::mem::take(seconds)), SECONDS));
            Ok(Transformed::yes(expr))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

/// `expr`, if it is a cast to or from a timestamp with a zone, by way of the session's `zone`.
pub(super) fn through_session_zone(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let (Expr::Cast(Cast { expr: value, field }) | Expr::TryCast(TryCast { expr: value, field })) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let Ok(from) = value.get_type(schema) else { return Ok(Transformed::no(expr)) };
    match (&from, field.data_type()) {
        (_, DataType::Timestamp(unit, Some(other))) if other.as_ref() != zone && has_no_zone(&from) => {
            let unit = *unit;
            expr.map_children(|value| Ok(Transformed::yes(in_zone(value, unit, zone))))
        }
        (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(_, None)) if !is_utc(zone) => {
            expr.map_children(|value| {
                let local = ScalarFunction::new_udf(to_local_time(), vec![in_zone(value, *unit, zone)]);
                Ok(Transformed::yes(Expr::ScalarFunction(local)))
            })
        }
        _ => Ok(Transformed::no(expr)),
    }
}

fn in_zone(value: Expr, unit: TimeUnit, zone: &str) -> Expr {
    Expr::Cast(Cast::new(Box::new(value), DataType::Timestamp(unit, Some(zone.into()))))
}

fn has_no_zone(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => true,
        DataType::Dictionary(_, values) => has_no_zone(values),
        other => other.is_string(),
    }
}
