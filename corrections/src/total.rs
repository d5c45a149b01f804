//! Decides which expressions are *total*: they give a value or NULL for every possible row, and never fail.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use hwacha_operators::functions::order_key::keyed_value;

use crate::integer_range::Integers;

/// The most digits of a Decimal128: every number with 38 digits fits into its 128 bits.
const MOST_DIGITS: i32 = 38;

/// Operators that cannot fail.
const ALWAYS: &[Operator] = &[
    Operator::And,
    Operator::Or,
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
];

/// Whether `expr` cannot fail. If the kind of an expression is not listed here, the answer is false.
pub fn is_total(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let known = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        is_total_operation(binary, expr, schema)
    } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        cast.expr().data_type(schema).is_ok_and(|from| widens(&from, cast.cast_type()))
    } else {
        expr.is::<Column>()
            || expr.is::<Literal>()
            || expr.is::<CaseExpr>()
            || expr.is::<InListExpr>()
            || expr.is::<IsNullExpr>()
            || expr.is::<IsNotNullExpr>()
            || expr.is::<LikeExpr>()
            || expr.is::<NotExpr>()
            || keyed_value(expr).is_some()
    };
    known && expr.children().into_iter().all(|child| is_total(child, schema))
}

fn is_total_operation(binary: &BinaryExpr, expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    if ALWAYS.contains(binary.op()) {
        return true;
    }
    let divides = match binary.op() {
        Operator::Plus | Operator::Minus | Operator::Multiply => false,
        Operator::Divide => true,
        _ => return false,
    };
    match expr.data_type(schema) {
        Ok(DataType::Float32 | DataType::Float64) => true,
        Ok(integer) if integer.is_integer() && divides => is_positive(binary.right()),
        Ok(integer) if integer.is_integer() => integers(expr, schema).is_some_and(|numbers| !numbers.may_overflow()),
        Ok(DataType::Decimal128(..)) if !divides || is_positive(binary.right()) => {
            digits(expr, schema).is_some_and(|(whole, scale)| whole + scale <= MOST_DIGITS)
        }
        _ => false,
    }
}

/// The integers that an expression can give; `None` if its type is not an integer type.
fn integers(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Integers> {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Integers::of_value(literal.value());
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return Integers::of_cast(integers(cast.expr(), schema), cast.cast_type());
    }
    match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) if is_arithmetic(*binary.op()) => {
            Integers::of_operation(*binary.op(), integers(binary.left(), schema)?, integers(binary.right(), schema)?)
        }
        _ => Integers::of_type(&expr.data_type(schema).ok()?),
    }
}

fn is_arithmetic(operator: Operator) -> bool {
    matches!(operator, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

/// The maximum numbers of digits before and after the decimal point of a result; `None` if they are not known.
fn digits(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<(i32, i32)> {
    let DataType::Decimal128(precision, scale) = expr.data_type(schema).ok()? else { return None };
    let (precision, scale) = (i32::from(precision), i32::from(scale));
    if scale < 0 {
        return None;
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        let ScalarValue::Decimal128(value, ..) = literal.value() else { return None };
        let length = value.unwrap_or(0).unsigned_abs().checked_ilog10().map_or(1, |length| length as i32 + 1);
        return Some(((length - scale).max(0), scale));
    }
    let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Some((precision - scale, scale)) };
    let ((whole, own), (other, others)) = (digits(binary.left(), schema)?, digits(binary.right(), schema)?);
    match binary.op() {
        Operator::Plus | Operator::Minus => Some((whole.max(other) + 1, own.max(others))),
        Operator::Multiply => Some((whole + other, own + others)),
        // The smallest positive divisor is 10^-`others`, so the division adds at most `others` digits before the point.
        Operator::Divide => Some((whole + others, scale)),
        _ => None,
    }
}

fn is_positive(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(literal) = expr.downcast_ref::<Literal>() else { return false };
    let value = literal.value();
    ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| *value > zero)
}

/// Whether a cast cannot fail, because `to` has a value for every value of `from`. A cast to Float64 may round.
fn widens(from: &DataType, to: &DataType) -> bool {
    let whole_digits = |data_type: &DataType| match data_type {
        DataType::Decimal128(precision, scale) if *scale >= 0 => Some(i32::from(*precision) - i32::from(*scale)),
        other => integer_digits(other),
    };
    match to {
        _ if from == to => true,
        DataType::Float64 => from.is_numeric(),
        DataType::Decimal128(_, scale) => {
            let keeps_scale = !matches!(from, DataType::Decimal128(_, own) if own > scale);
            keeps_scale && whole_digits(from).zip(whole_digits(to)).is_some_and(|(own, most)| own <= most)
        }
        to if to.is_signed_integer() => {
            integer_digits(from).zip(integer_digits(to)).is_some_and(|(own, most)| own < most)
        }
        _ => false,
    }
}

/// The most digits of a value of an integer type; `None` for other types.
pub(crate) fn integer_digits(data_type: &DataType) -> Option<i32> {
    match data_type {
        DataType::Int8 | DataType::UInt8 => Some(3),
        DataType::Int16 | DataType::UInt16 => Some(5),
        DataType::Int32 | DataType::UInt32 => Some(10),
        DataType::Int64 => Some(19),
        DataType::UInt64 => Some(20),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{cast, lit};

    use super::*;

    fn schema() -> Schema {
        let columns = [("a", DataType::Int32), ("b", DataType::Int64), ("c", DataType::UInt16)];
        Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec())
    }

    fn column(name: &str) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new_with_schema(name, &schema()).expect("a column"))
    }

    fn wide(name: &str) -> Arc<dyn PhysicalExpr> {
        cast(column(name), &schema(), DataType::Int64).expect("a cast")
    }

    fn total(left: Arc<dyn PhysicalExpr>, operator: Operator, right: Arc<dyn PhysicalExpr>) -> bool {
        is_total(&(Arc::new(BinaryExpr::new(left, operator, right)) as _), &schema())
    }

    #[test]
    fn whole_numbers_are_total_where_they_cannot_overflow() {
        assert!(total(wide("a"), Operator::Plus, lit(1_i64)));
        assert!(total(wide("a"), Operator::Multiply, wide("a")));
        assert!(total(wide("a"), Operator::Multiply, wide("c")));
        assert!(total(wide("a"), Operator::Minus, lit(ScalarValue::Int64(None))));
        assert!(total(column("b"), Operator::Divide, lit(2_i64)));
        assert!(!total(column("a"), Operator::Plus, lit(1_i32)));
        assert!(!total(column("b"), Operator::Plus, lit(1_i64)));
        assert!(!total(column("b"), Operator::Multiply, column("b")));
        assert!(!total(column("c"), Operator::Minus, lit(1_u16)));
        assert!(!total(column("b"), Operator::Divide, column("b")));
    }
}
