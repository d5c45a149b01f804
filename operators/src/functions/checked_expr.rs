//! Makes arithmetic of whole numbers fail on overflow: `+`, `-` and `*`, and the negation `-a`.
//!
//! DataFusion's operators wrap around (apache/datafusion#17539) unless the expression has the flag
//! `fail_on_overflow`. The encoding of plans drops this flag (apache/datafusion#24614), so executors set it again
//! when they decode an expression. Division, casts and arithmetic of other types fail on overflow without the flag,
//! except that floats give infinity.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};

use crate::functions::constant_arithmetic::wraps;

/// The expression with a check for overflow. The children of `expr` must already have their checks. Example: `-a`
/// becomes `0 - a`, and the subtraction fails on overflow.
pub fn checked(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Arc<dyn PhysicalExpr> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
        && wraps(*binary.op())
        && integer_type(&expr, schema).is_some()
    {
        return checked_chain(binary);
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>()
        && let Some(zero) = integer_type(&expr, schema).and_then(|data_type| ScalarValue::new_zero(&data_type).ok())
    {
        let difference = BinaryExpr::new(Arc::new(Literal::new(zero)), Operator::Minus, Arc::clone(negative.arg()));
        return Arc::new(difference.with_fail_on_overflow(true));
    }
    expr
}

fn integer_type(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<DataType> {
    expr.data_type(schema).ok().filter(DataType::is_integer)
}

/// Adds the check to each operator of a chain such as `a + b + c`. DataFusion decodes a chain in one step, so the inner
/// operators are not checked yet.
fn checked_chain(binary: &BinaryExpr) -> Arc<dyn PhysicalExpr> {
    let operator = *binary.op();
    let (mut left, mut rights) = (Arc::clone(binary.left()), vec![Arc::clone(binary.right())]);
    while let Some((inner, right)) = operands(&left, operator) {
        rights.push(right);
        left = inner;
    }
    rights
        .into_iter()
        .rev()
        .fold(left, |left, right| Arc::new(BinaryExpr::new(left, operator, right).with_fail_on_overflow(true)))
}

fn operands(
    expr: &Arc<dyn PhysicalExpr>,
    operator: Operator,
) -> Option<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)> {
    let binary = expr.downcast_ref::<BinaryExpr>().filter(|binary| *binary.op() == operator)?;
    Some((Arc::clone(binary.left()), Arc::clone(binary.right())))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array, RecordBatch};
    use arrow::datatypes::{Field, Int32Type};
    use datafusion::common::Result;
    use datafusion::physical_expr::expressions::{Column, cast, lit};

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![Field::new("a", DataType::Int32, true)])
    }

    fn column() -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new("a", 0))
    }

    fn binary(left: Arc<dyn PhysicalExpr>, operator: Operator, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, operator, right))
    }

    fn evaluate(expr: Arc<dyn PhysicalExpr>, values: Vec<Option<i32>>) -> Result<Vec<Option<i32>>> {
        let rows = values.len();
        let batch = RecordBatch::try_new(Arc::new(schema()), vec![Arc::new(Int32Array::from(values))])?;
        let array = checked(expr, &schema()).evaluate(&batch)?.into_array(rows)?;
        Ok(array.as_primitive::<Int32Type>().iter().collect())
    }

    #[test]
    fn overflow_is_an_error_and_nulls_are_not() {
        let one = || lit(1_i32);
        let plus = |right| binary(column(), Operator::Plus, right);
        assert_eq!(evaluate(plus(one()), vec![Some(1), None]).expect("2"), [Some(2), None]);
        for (expr, value) in [
            (plus(one()), i32::MAX),
            (binary(column(), Operator::Minus, one()), i32::MIN),
            (binary(column(), Operator::Multiply, column()), 65_536),
            (Arc::new(NegativeExpr::new(column())) as _, i32::MIN),
            // The inner operator of a chain, and the outer one.
            (binary(plus(one()), Operator::Plus, lit(-5_i32)), i32::MAX),
            (binary(plus(lit(-1_i32)), Operator::Plus, lit(5_i32)), i32::MAX),
        ] {
            let text = evaluate(expr, vec![None, Some(value)]).expect_err("it overflows").strip_backtrace();
            assert!(text.contains("overflow"), "{text}");
        }
        let negative: Arc<dyn PhysicalExpr> = Arc::new(NegativeExpr::new(column()));
        assert_eq!(evaluate(negative, vec![Some(5), None]).expect("-5"), [Some(-5), None]);
    }

    #[test]
    fn other_expressions_stay_as_they_are() {
        let schema = schema();
        let float = cast(column(), &schema, DataType::Float64).expect("a cast");
        for expr in [
            column(),
            binary(Arc::clone(&float), Operator::Plus, lit(1.5)),
            binary(column(), Operator::Divide, lit(2_i32)),
            binary(column(), Operator::Lt, lit(2_i32)),
            Arc::new(NegativeExpr::new(float)),
        ] {
            assert!(Arc::ptr_eq(&checked(Arc::clone(&expr), &schema), &expr), "{expr}");
        }
    }

    #[test]
    fn long_chains_do_not_recurse() {
        let chain = (0..500).fold(column(), |left, _| binary(left, Operator::Plus, lit(1_i32)));
        let checked = checked_chain(chain.downcast_ref().expect("a chain"));
        assert_eq!(checked.to_string().matches('+').count(), 500);
    }
}
