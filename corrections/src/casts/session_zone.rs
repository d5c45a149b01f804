//! A time without a zone is a time in the session's zone (UTC by default), as in DuckDB, PostgreSQL, Spark and Trino.
//!
//! DataFusion instead reads such a time in the zone of the timestamp on the other side of the comparison. Example: `t`
//! is in Europe/Berlin, and the session in UTC. DataFusion reads the UTC time of `now()` as a time in Berlin, so
//! `t > now()` is two hours off in summer. In the other direction, `CAST(t AS TIMESTAMP)` gives the time in UTC instead
//! of the session's zone. A cast to TIMESTAMP and back then changes the value.
//!
//! Two functions of seconds since 1970 have the same fault in a session that is not in UTC. `to_timestamp(integer)`
//! treats the seconds as local time. `to_timestamp(decimal)` is right, so the integer is cast to a decimal.
//! `from_unixtime(integer)` gives the time in UTC, without a zone.
//!
//! A plan may be analyzed twice. A view is analyzed in UTC when it is opened, and again in the session that reads it.
//! [`keep_zones`] wraps the casts of the view in `opaque`. This rule does not change a cast directly inside `opaque`,
//! so the view keeps its meaning.
//!
//! A `Cast` to a zone other than the session's was added by type coercion. Zones that the query names arrive as calls
//! of `arrow_cast`, and this rule does not change those. It also does not change functions of a timestamp with a zone,
//! such as `extract` and `date_trunc`, or casts to DATE and TIME: they use the local time in the timestamp's own zone,
//! as in DataFusion.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, TryCast, lit};
use hwacha_execution::session::{UTC, is_utc};
use hwacha_operators::functions::local_time::local_time;
use hwacha_operators::functions::opaque::{opaque, opaque_value};

use super::{cast_value, with_mended_casts};

/// The type of seconds in `to_timestamp`. Decimal(20, 0) holds every Int64 and UInt64.
const SECONDS: DataType = DataType::Decimal128(20, 0);
/// A function whose optional second argument is the zone of its result. Without that argument, the result has no zone.
const FROM_UNIXTIME: &str = "from_unixtime";

/// Makes casts between times with and without a zone in `expr`, and functions of seconds, go through the session's
/// `zone`.
///
/// Example in a UTC session, for a `t` without a zone: `CAST(t AS Timestamp("Europe/Berlin"))` becomes
/// `CAST(CAST(t AS Timestamp("UTC")) AS Timestamp("Europe/Berlin"))`.
pub(super) fn through_session_zone(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let inside = |expr: Expr| expr.map_children(|part| through_session_zone(part, schema, zone));
    if opaque_value(&expr).is_some() {
        return expr.map_children(inside);
    }
    inside(expr)?.transform_data(|expr| match &expr {
        Expr::Cast(Cast { expr: value, field }) | Expr::TryCast(TryCast { expr: value, field }) => {
            let (Ok(from), to) = (value.get_type(schema), field.data_type().clone()) else {
                return Ok(Transformed::no(expr));
            };
            cast_through(expr, &from, &to, zone)
        }
        Expr::ScalarFunction(_) if reads_seconds(&expr) && !is_utc(zone) => of_seconds(expr, schema, zone),
        _ => Ok(Transformed::no(expr)),
    })
}

/// Wraps casts between times with and without a zone, and functions of seconds, in `opaque`. They keep their meaning
/// when the plan is analyzed again in a session with another zone.
pub fn keep_zones(plan: LogicalPlan) -> Result<LogicalPlan> {
    let kept = |expr: Expr, schema: &DFSchema| match cast_value(&expr) {
        Some(value) => {
            let (from, to) = (value.get_type(schema)?, expr.get_type(schema)?);
            let meets = has_zone(&from) && has_no_zone(&to) || has_no_zone(&from) && has_zone(&to);
            Ok(if meets { Transformed::yes(opaque(expr)) } else { Transformed::no(expr) })
        }
        None if reads_seconds(&expr) => Ok(Transformed::yes(opaque(expr))),
        None => Ok(Transformed::no(expr)),
    };
    with_mended_casts(plan, &|expr, schema| expr.transform_up(|expr| kept(expr, schema)))
}

/// Whether `expr` is a function of seconds.
pub(super) fn reads_seconds(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if ["to_timestamp", FROM_UNIXTIME].contains(&call.name()))
}

fn cast_through(cast: Expr, from: &DataType, to: &DataType, zone: &str) -> Result<Transformed<Expr>> {
    match (from, to) {
        (_, DataType::Timestamp(unit, Some(other))) if other.as_ref() != zone && has_no_zone(from) => {
            cast.map_children(|value| Ok(Transformed::yes(in_zone(value, *unit, zone))))
        }
        (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(_, None)) if !is_utc(zone) => {
            cast.map_children(|value| Ok(Transformed::yes(local(in_zone(value, *unit, zone)))))
        }
        _ => Ok(Transformed::no(cast)),
    }
}

fn of_seconds(mut expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &mut expr else { return Ok(Transformed::no(expr)) };
    let [seconds] = &mut call.args[..] else { return Ok(Transformed::no(expr)) };
    if call.func.name() == FROM_UNIXTIME {
        call.args.push(lit(UTC));
        return Ok(Transformed::yes(local(in_zone(expr, TimeUnit::Second, zone))));
    }
    if !seconds.get_type(schema)?.is_integer() {
        return Ok(Transformed::no(expr));
    }
    *seconds = Expr::Cast(Cast::new(Box::new(std::mem::take(seconds)), SECONDS));
    Ok(Transformed::yes(expr))
}

fn in_zone(value: Expr, unit: TimeUnit, zone: &str) -> Expr {
    Expr::Cast(Cast::new(Box::new(value), DataType::Timestamp(unit, Some(zone.into()))))
}

/// The local time of `value` in its zone, without a zone.
fn local(value: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(local_time(), vec![value]))
}

fn has_zone(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

pub(super) fn has_no_zone(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => true,
        DataType::Dictionary(_, values) => has_no_zone(values),
        other => other.is_string(),
    }
}
