//! Arithmetic of whole numbers as a function that fails on overflow, in place of an operator that wraps around.
//!
//! DataFusion always folds constants with operators that wrap around (apache/datafusion#17539). A call of this
//! function is folded too. If the call fails, it stays in the plan, so the query fails only if it evaluates the call:
//!
//! ```text
//!   CASE WHEN a > 0 THEN 9223372036854775807 + 1 END
//!   CASE WHEN a > 0 THEN checked_add(9223372036854775807, 1) END
//! ```

use std::sync::Arc;

use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// The operators that wrap around, with the names of their functions.
const OPERATORS: [(Operator, &str); 3] =
    [(Operator::Plus, "checked_add"), (Operator::Minus, "checked_subtract"), (Operator::Multiply, "checked_multiply")];

/// Whether the operator wraps around over whole numbers.
pub fn wraps(operator: Operator) -> bool {
    OPERATORS.iter().any(|(known, _)| *known == operator)
}

/// The function that applies an operator to two whole numbers of one type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConstantArithmetic {
    operator: Operator,
    name: &'static str,
    data_type: DataType,
    signature: Signature,
}

impl ConstantArithmetic {
    /// The function for `operator`; `None` for operators that do not wrap around.
    pub fn new(operator: Operator, data_type: DataType) -> Option<Self> {
        let (operator, name) = *OPERATORS.iter().find(|(known, _)| *known == operator)?;
        let signature = Signature::exact(vec![data_type.clone(), data_type.clone()], Volatility::Immutable);
        Some(Self { operator, name, data_type, signature })
    }

    /// The function named `name`; `None` if no function has that name.
    pub fn named(name: &str, data_type: DataType) -> Option<Self> {
        let (operator, _) = OPERATORS.iter().find(|(_, known)| *known == name)?;
        Self::new(*operator, data_type)
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The type of the arguments and of the result.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }
}

impl ScalarUDFImpl for ConstantArithmetic {
    fn name(&self) -> &str {
        self.name
    }

    /// The column has the same name as with the operator.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(args.join(&format!(" {} ", self.operator)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.data_type.clone(), is_nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = take_function_args(self.name, args.args)?;
        match self.operator {
            Operator::Plus => apply(&left, &right, add),
            Operator::Minus => apply(&left, &right, sub),
            _ => apply(&left, &right, mul),
        }
    }

    /// If an argument is NULL, the call is NULL. DataFusion simplifies the operators in the same way.
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match args.iter().any(|arg| matches!(arg, Expr::Literal(value, _) if value.is_null())) {
            true => Ok(ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::try_from(&self.data_type)?, None))),
            false => Ok(ExprSimplifyResult::Original(args)),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{ScalarUDF, col, lit};

    use super::*;

    fn evaluate(operator: Operator, left: i64, right: Option<i64>) -> Result<ScalarValue> {
        let function = ConstantArithmetic::new(operator, DataType::Int64).expect("it wraps around");
        let field = Arc::new(Field::new("", DataType::Int64, true));
        let value = function.invoke_with_args(ScalarFunctionArgs {
            args: [Some(left), right].map(|number| ColumnarValue::Scalar(ScalarValue::Int64(number))).to_vec(),
            arg_fields: vec![Arc::clone(&field), Arc::clone(&field)],
            number_rows: 1,
            return_field: field,
            config_options: Arc::default(),
        })?;
        ScalarValue::try_from_array(&value.into_array(1)?, 0)
    }

    #[test]
    fn overflow_is_an_error() {
        let number = |number: i64| ScalarValue::Int64(Some(number));
        assert_eq!(evaluate(Operator::Plus, 1, Some(2)).expect("3"), number(3));
        assert_eq!(evaluate(Operator::Minus, 1, Some(2)).expect("-1"), number(-1));
        assert_eq!(evaluate(Operator::Multiply, 3, Some(2)).expect("6"), number(6));
        assert_eq!(evaluate(Operator::Plus, i64::MAX, None).expect("NULL"), ScalarValue::Int64(None));
        for (operator, left, right) in
            [(Operator::Plus, i64::MAX, 1), (Operator::Minus, i64::MIN, 1), (Operator::Multiply, i64::MIN, -1)]
        {
            evaluate(operator, left, Some(right)).expect_err("it overflows");
        }
        assert!(ConstantArithmetic::new(Operator::Divide, DataType::Int64).is_none());
    }

    #[test]
    fn names_are_those_of_the_operators() {
        let function = ConstantArithmetic::new(Operator::Minus, DataType::Int64).expect("it wraps around");
        let call = ScalarUDF::from(function).call(vec![col("t.a"), lit(1_i64)]);
        assert_eq!(call.schema_name().to_string(), (col("t.a") - lit(1_i64)).schema_name().to_string());
    }
}
