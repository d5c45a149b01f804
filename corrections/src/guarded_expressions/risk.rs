//! Decides which expressions can fail for some row.
//!
//! An expression counts only if it is known to be able to fail. Functions that are not listed here count as safe.
//! Sums, differences and products of integers fail if the result does not fit into its type (unless
//! `hwacha.execution.checked_arithmetic` is off). The types often rule out a failure: an integer literal has 64 bits
//! and many columns have 32, so `column + 1` is computed in 64 bits and fits.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};
use hwacha_operators::functions::constant_arithmetic::wraps;
use hwacha_operators::functions::opaque::opaque_value;
use hwacha_operators::lossy_casts::decimal_scale;

use crate::integer_range::Integers;
use crate::total::integer_digits;

/// Functions that fail for text that they cannot parse.
const READ_TEXT: [&str; 9] = [
    "decode",
    "to_date",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
];

/// Functions of numbers that fail if the result is out of range.
const LEAVE_RANGE: [&str; 7] = ["chr", "factorial", "gcd", "lcm", "make_date", "make_time", "power"];

/// Whether the root of an expression may fail, judged by its form alone, without types. Failures of its operands do not
/// count.
pub(super) fn is_suspect(expr: &Expr) -> bool {
    if let Some(value) = opaque_value(expr) {
        return is_suspect(value);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Divide | Operator::Modulo, right, .. }) => !is_safe_divisor(right),
        Expr::BinaryExpr(BinaryExpr { op, .. }) => wraps(*op),
        Expr::Negative(number) => !matches!(number.as_ref(), Expr::Literal(..)),
        Expr::Cast(cast) => !matches!(cast.expr.as_ref(), Expr::Literal(..)),
        Expr::ScalarFunction(call) => READ_TEXT.contains(&call.name()) || LEAVE_RANGE.contains(&call.name()),
        _ => false,
    }
}

/// Whether the root of an expression over the columns of `schema` can fail. Failures of its operands do not count.
pub(super) fn can_fail(expr: &Expr, schema: &DFSchema) -> bool {
    if let Some(value) = opaque_value(expr) {
        return can_fail(value, schema);
    }
    let data_type = |expr: &Expr| expr.get_type(schema).ok();
    is_suspect(expr)
        && match expr {
            Expr::BinaryExpr(BinaryExpr { op, .. }) if wraps(*op) => overflows(expr, schema),
            Expr::Negative(_) => overflows(expr, schema),
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
                [left, right].into_iter().all(|side| data_type(side).is_some_and(|side| is_exact(&side)))
            }
            Expr::Cast(Cast { expr, field }) => {
                data_type(expr).is_some_and(|from| may_refuse(&from, field.data_type()))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let reads_text = args.first().and_then(data_type).is_some_and(|first| is_text(&first));
                reads_text || LEAVE_RANGE.contains(&func.name())
            }
            _ => false,
        }
}

/// Whether an integer sum, difference, product or negation may not fit into its type.
fn overflows(expr: &Expr, schema: &DFSchema) -> bool {
    integers(expr, schema).is_some_and(|numbers| numbers.may_overflow())
}

/// The integers that an expression can give; `None` if its type is not an integer type.
fn integers(expr: &Expr, schema: &DFSchema) -> Option<Integers> {
    match expr {
        Expr::Literal(value, _) => Integers::of_value(value),
        Expr::Cast(Cast { expr, field }) => Integers::of_cast(integers(expr, schema), field.data_type()),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if wraps(*op) => {
            Integers::of_operation(*op, integers(left, schema)?, integers(right, schema)?)
        }
        Expr::Negative(number) => integers(number, schema)?.negated(),
        _ => Integers::of_type(&expr.get_type(schema).ok()?),
    }
}

/// Whether no division by `divisor` fails: the divisor is a constant other than 0 and -1. The least integer divided by
/// -1 does not fit into its type. NULL is safe, because a division by NULL is NULL.
fn is_safe_divisor(divisor: &Expr) -> bool {
    match divisor {
        Expr::Literal(value, _) => {
            let data_type = value.data_type();
            let is_zero = ScalarValue::new_zero(&data_type).map_or(true, |zero| *value == zero);
            let is_negative_one = ScalarValue::new_negative_one(&data_type).is_ok_and(|one| *value == one);
            value.is_null() || !is_zero && !is_negative_one
        }
        // Type coercion casts an integer literal to a wider integer type or a decimal.
        Expr::Cast(cast) => {
            matches!(cast.expr.as_ref(), Expr::Literal(value, _) if value.data_type().is_integer())
                && is_safe_divisor(&cast.expr)
        }
        _ => false,
    }
}

/// Whether a division of numbers of this type by zero is an error. It is for integers and decimals, not for floats.
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer() || decimal_digits(data_type).is_some()
}

/// Whether a cast from `from` to `to` can fail for some value.
fn may_refuse(from: &DataType, to: &DataType) -> bool {
    let (from, to) = (plain(from), plain(to));
    if from == to {
        return false;
    }
    if is_text(from) {
        return !is_text(to) && !matches!(to, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    }
    if !from.is_numeric() || !to.is_numeric() || to.is_floating() {
        return false;
    }
    if from.is_floating() || from.is_signed_integer() && to.is_unsigned_integer() {
        return true;
    }
    // Rounding may add a digit. Example: 9.99 becomes 10.0.
    let rounds = decimal_scale(from).is_some_and(|from| decimal_scale(to).is_none_or(|to| to < from));
    let needed = integer_digits(from).or_else(|| Some(decimal_digits(from)? + i32::from(rounds)));
    let fits = match (integer_digits(to), decimal_digits(to)) {
        (Some(digits), _) => needed.is_some_and(|needed| needed < digits),
        (None, Some(digits)) => needed.is_some_and(|needed| needed <= digits),
        (None, None) => false,
    };
    !fits
}

/// The type of a dictionary's values.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(plain(data_type), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The maximum number of digits before the decimal point in a decimal type; `None` for other types.
fn decimal_digits(data_type: &DataType) -> Option<i32> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(i32::from(*precision) - i32::from(*scale)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col};

    use super::*;

    #[test]
    fn arithmetic_fails_that_may_not_fit() {
        let columns = [("small", DataType::Int32), ("long", DataType::Int64), ("float", DataType::Float64)];
        let fields = columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec();
        let schema = DFSchema::try_from(Schema::new(fields)).expect("three columns");
        let number = |number: i64| Expr::Literal(ScalarValue::Int64(Some(number)), None);
        let wide = || cast(col("small"), DataType::Int64);
        for (expr, fails) in [
            (wide() + number(1), false),
            (wide() * wide() - number(5), false),
            (-wide(), false),
            (col("float") * col("float"), false),
            (col("small") + col("small"), true),
            (col("long") + number(1), true),
            (col("long") - number(1), true),
            (col("long") * number(2), true),
            (col("long") * number(1), false),
            (-col("long"), true),
            (wide() * wide() * wide(), true),
            (col("long") / number(2), false),
            (col("long") / number(0), true),
            (col("long") / number(-1), true),
            (col("long") % number(-1), true),
        ] {
            assert_eq!(can_fail(&expr, &schema), fails, "{expr}");
        }
    }

    #[test]
    fn casts_fail_that_lose_something() {
        let decimal = |precision, scale| DataType::Decimal128(precision, scale);
        for (from, to, refuses) in [
            (DataType::Int32, DataType::Int64, false),
            (DataType::Int64, DataType::Int32, true),
            (DataType::Int32, DataType::UInt64, true),
            (DataType::Int64, DataType::Float64, false),
            (DataType::Float64, DataType::Int64, true),
            (DataType::Int64, decimal(20, 0), false),
            (DataType::Int64, decimal(15, 2), true),
            (decimal(7, 2), decimal(15, 2), false),
            (decimal(15, 2), decimal(7, 2), true),
            (decimal(7, 2), DataType::Int64, false),
            (DataType::Utf8View, DataType::Int32, true),
            (DataType::Utf8, DataType::Date32, true),
            (DataType::Utf8, DataType::Utf8View, false),
            (DataType::Date32, DataType::Utf8, false),
            (DataType::Boolean, DataType::Int32, false),
        ] {
            assert_eq!(may_refuse(&from, &to), refuses, "{from} to {to}");
        }
    }
}
