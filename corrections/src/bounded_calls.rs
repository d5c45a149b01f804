//! Refuses constants of a query that would make DataFusion allocate too much memory or overflow. The check runs before
//! any row is computed. It covers:
//!
//! - the centroid count of `approx_percentile_cont`: each group allocates memory for all centroids with its first row
//!   (apache/datafusion#24900);
//! - types of a fixed size, in which a NULL takes as many bytes as a value:
//!   `arrow_cast(NULL, 'FixedSizeBinary(2000000000)')`;
//! - offsets of window frames that overflow when a row number is added: `ROWS 18446744073709551615 FOLLOWING`;
//! - negative offsets of RANGE frames, with which a frame can end before it starts (apache/datafusion#24902).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalDayTime, IntervalMonthDayNano};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr, LogicalPlan, ReturnFieldArgs, WindowFrame, WindowFrameBound, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// Maximum centroid count of an approximate percentile (10,000: they take 160 KB per group; DataFusion's default is
/// 100).
const MOST_CENTROIDS: i64 = 10_000;
/// Maximum bytes of one value of a type with a fixed size (64 KiB: room for an embedding of 16,384 numbers of 4 bytes).
const MOST_VALUE_BYTES: u64 = 64 << 10;
/// Bytes assumed for a value whose type has no fixed width, such as text (16: a `FixedSizeList` of text may have up to
/// 4,096 elements).
const PLAIN_BYTES: u64 = 16;
/// Functions that take a number of centroids, and the position of that argument.
const CENTROIDS: [(&str, usize); 2] = [("approx_percentile_cont", 2), ("approx_percentile_cont_with_weight", 3)];
/// Functions that cast to the type that their second argument names.
const CASTS: [&str; 2] = ["arrow_cast", "arrow_try_cast"];

/// Refuses calls, casts and window frames whose constants exceed the limits of this file.
#[derive(Debug)]
pub struct BoundedCallsRule;

impl AnalyzerRule for BoundedCallsRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    check(expr)?;
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "bounded_calls"
    }
}

fn check(expr: &Expr) -> Result<()> {
    match expr {
        Expr::Cast(cast) => check_type(cast.field.data_type()),
        Expr::TryCast(cast) => check_type(cast.field.data_type()),
        Expr::ScalarFunction(call) if CASTS.contains(&call.name()) => check_cast(call),
        Expr::AggregateFunction(AggregateFunction { func, params }) => check_centroids(func.name(), &params.args),
        Expr::WindowFunction(window) => {
            let WindowFunction { fun, params } = window.as_ref();
            if let WindowFunctionDefinition::AggregateUDF(function) = fun {
                check_centroids(function.name(), &params.args)?;
            }
            check_frame(&params.window_frame)
        }
        _ => Ok(()),
    }
}

fn check_cast(call: &ScalarFunction) -> Result<()> {
    let [_, Expr::Literal(name, _)] = &call.args[..] else { return Ok(()) };
    let fields = [DataType::Null, name.data_type()].map(|data_type| Arc::new(Field::new("", data_type, true)));
    let named = call
        .func
        .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &[None, Some(name)] });
    match named {
        Ok(field) => check_type(field.data_type()),
        // The name is not a type. DataFusion reports that.
        Err(_) => Ok(()),
    }
}

fn check_type(data_type: &DataType) -> Result<()> {
    match fixed_bytes(data_type) {
        bytes if bytes > MOST_VALUE_BYTES => {
            plan_err!("each value of type {data_type} takes {bytes} bytes; the limit is {MOST_VALUE_BYTES}")
        }
        _ => Ok(()),
    }
}

/// The bytes that each value of a type takes, computed from the type alone. A NULL counts the same, and a list without
/// a fixed length counts as one element. Example: 40 for `FixedSizeList(5, Int64)`.
fn fixed_bytes(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).unwrap_or(0),
        DataType::FixedSizeList(element, length) => {
            fixed_bytes(element.data_type()).saturating_mul(u64::try_from(*length).unwrap_or(0))
        }
        DataType::List(element) | DataType::LargeList(element) | DataType::Map(element, _) => {
            fixed_bytes(element.data_type())
        }
        DataType::Struct(fields) => {
            fields.iter().map(|field| fixed_bytes(field.data_type())).fold(0, u64::saturating_add)
        }
        DataType::Dictionary(_, values) => fixed_bytes(values),
        other => other.primitive_width().map_or(PLAIN_BYTES, |width| width as u64),
    }
}

fn check_centroids(function: &str, args: &[Expr]) -> Result<()> {
    let place = CENTROIDS.iter().find(|(name, _)| *name == function).map(|(_, place)| *place);
    let Some(centroids) = place.and_then(|place| args.get(place)) else { return Ok(()) };
    match constant(centroids) {
        Some(centroids) if centroids > MOST_CENTROIDS => {
            plan_err!("{function} cannot have {centroids} centroids; the limit is {MOST_CENTROIDS}")
        }
        // DataFusion itself refuses an argument that is not a constant or not positive.
        _ => Ok(()),
    }
}

/// The integer value of a constant expression; `None` for NULL, and for an expression that does not simplify to a
/// literal. A value that does not fit into 64 bits counts as `i64::MAX`.
fn constant(expr: &Expr) -> Option<i64> {
    let context = SimplifyContext::builder().with_schema(Arc::new(DFSchema::empty())).build();
    match ExprSimplifier::new(context).simplify(expr.clone()).ok()? {
        Expr::Literal(value, _) if !value.is_null() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => number,
            _ => Some(i64::MAX),
        },
        _ => None,
    }
}

fn check_frame(frame: &WindowFrame) -> Result<()> {
    for bound in [&frame.start_bound, &frame.end_bound] {
        let (WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset)) = bound else { continue };
        if matches!(offset, ScalarValue::UInt64(Some(rows)) if i64::try_from(*rows).is_err()) {
            return plan_err!("a window frame of {offset} {} is too large; the limit is {}", frame.units, i64::MAX);
        }
        if is_negative(offset) {
            return plan_err!(
                "the offset {offset} of a window frame must not be negative; swap PRECEDING and FOLLOWING"
            );
        }
    }
    Ok(())
}

fn is_negative(offset: &ScalarValue) -> bool {
    match offset {
        ScalarValue::IntervalYearMonth(Some(months)) => *months < 0,
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds })) => *days < 0 || *milliseconds < 0,
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds })) => {
            *months < 0 || *days < 0 || *nanoseconds < 0
        }
        _ if offset.is_null() => false,
        _ => ScalarValue::new_zero(&offset.data_type()).is_ok_and(|zero| *offset < zero),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn analyzed(sql: &str) -> Result<LogicalPlan> {
        let state =
            SessionStateBuilder::new().with_default_features().with_analyzer_rule(Arc::new(BoundedCallsRule)).build();
        let plan = SessionContext::new_with_state(state.clone()).sql(sql).await?.into_unoptimized_plan();
        state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
    }

    async fn refusal(sql: &str) -> String {
        analyzed(sql).await.expect_err(sql).strip_backtrace()
    }

    #[tokio::test]
    async fn centroids_are_bounded_however_they_are_written() {
        for call in [
            "approx_percentile_cont(a, 0.5, 9223372036854775807)",
            "approx_percentile_cont(a, 0.5, 1000 * 1000)",
            "approx_percentile_cont(0.5, 10001) WITHIN GROUP (ORDER BY a)",
            "approx_percentile_cont_with_weight(a, 1, 0.5, 1000000000)",
            "approx_percentile_cont(a, 0.5, 1000000) OVER (ORDER BY a)",
        ] {
            let text = refusal(&format!("SELECT {call} FROM (VALUES (1.5), (2.5)) t(a)")).await;
            assert!(text.contains("centroids; the limit is 10000"), "{call}: {text}");
        }
        analyzed("SELECT approx_percentile_cont(a, 0.5, 10000) FROM (VALUES (1.5)) t(a)").await.expect("the limit");
    }

    #[tokio::test]
    async fn types_of_a_fixed_size_are_bounded() {
        for sql in [
            "SELECT arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
            "SELECT arrow_cast([1], 'FixedSizeList(1000000000, Int64)')",
            "SELECT arrow_try_cast(NULL, 'FixedSizeBinary(65537)')",
            "SELECT 1 WHERE EXISTS (SELECT arrow_cast(NULL, 'FixedSizeBinary(70000)'))",
        ] {
            assert!(refusal(sql).await.contains("the limit is 65536"), "{sql}");
        }
        analyzed("SELECT arrow_cast([1, 2], 'FixedSizeList(2, Int64)'), arrow_cast(NULL, 'FixedSizeBinary(16)')")
            .await
            .expect("both are small");
    }

    #[tokio::test]
    async fn frames_do_not_overflow() {
        for frame in [
            "ROWS BETWEEN CURRENT ROW AND 18446744073709551615 FOLLOWING",
            "ROWS BETWEEN 9223372036854775808 PRECEDING AND CURRENT ROW",
            "GROUPS BETWEEN 18446744073709551615 FOLLOWING AND 18446744073709551615 FOLLOWING",
        ] {
            let text = refusal(&format!("SELECT sum(a) OVER (ORDER BY a {frame}) FROM (VALUES (1)) t(a)")).await;
            assert!(text.contains("the limit is 9223372036854775807"), "{frame}: {text}");
        }
        let frame = "ROWS BETWEEN 9223372036854775807 PRECEDING AND 9223372036854775807 FOLLOWING";
        analyzed(&format!("SELECT sum(a) OVER (ORDER BY a {frame}) FROM (VALUES (1)) t(a)")).await.expect("the limit");
    }

    #[tokio::test]
    async fn frames_do_not_end_before_they_start() {
        let dates = "(VALUES (timestamp '2000-01-01'), (timestamp '2000-01-02')) t(a)";
        for frame in ["INTERVAL '-1 day' PRECEDING AND CURRENT ROW", "CURRENT ROW AND INTERVAL '-1 day' FOLLOWING"] {
            let sql = format!("SELECT count(*) OVER (ORDER BY a RANGE BETWEEN {frame}) FROM {dates}");
            assert!(refusal(&sql).await.contains("must not be negative"), "{frame}");
        }
        let frame = "INTERVAL '1 day' PRECEDING AND INTERVAL '0 day' FOLLOWING";
        analyzed(&format!("SELECT count(*) OVER (ORDER BY a RANGE BETWEEN {frame}) FROM {dates}"))
            .await
            .expect("a frame");
    }
}
