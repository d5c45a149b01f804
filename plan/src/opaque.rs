//! The function `opaque`, which gives its argument. DataFusion's rules do not look through a function that they do not
//! know, so they leave alone what is inside.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The name of the function, by which plans on the wire know it.
pub(crate) const OPAQUE: &str = "opaque";

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Opaque::new())));

/// Its argument has any type, and its result is the argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    signature: Signature,
}

impl Opaque {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &str {
        OPAQUE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [data_type] => Ok(data_type.clone()),
            _ => internal_err!("{OPAQUE} has one argument, not {}", types.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [field] => Ok(Arc::new(field.as_ref().clone().with_name(OPAQUE))),
            fields => internal_err!("{OPAQUE} has one argument, not {}", fields.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(OPAQUE, args.args)?;
        Ok(value)
    }
}

/// The function `opaque`.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Arc::clone(&FUNCTION)
}

/// A call of `opaque`.
pub(crate) fn opaque(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function(), vec![expr]))
}

/// The argument of `expr`, if `expr` is a call of `opaque`.
pub(crate) fn opaque_value(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.inner().is::<Opaque>() => call.args.first(),
        _ => None,
    }
}
