//! The function `opaque` returns its argument. DataFusion's rules for `CAST(x) = literal` do not match
//! `opaque(CAST(x)) = literal`. Without it, `CAST(d AS INT) = 5` would become `d = 5.00`, and the row with 5.10 would
//! be missing.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// The name of the function, by which plans on the wire know it.
pub const OPAQUE: &str = "opaque";

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

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the field of {OPAQUE} is its argument's")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [field] = take_function_args(OPAQUE, args.arg_fields)?;
        Ok(Arc::new(field.as_ref().clone().with_name(OPAQUE)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(OPAQUE, args.args)?;
        Ok(value)
    }
}

/// The function `opaque`.
pub fn function() -> Arc<ScalarUDF> {
    Arc::clone(&FUNCTION)
}

/// A call of `opaque`.
pub fn opaque(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function(), vec![expr]))
}

/// A call of `opaque` in a physical plan.
pub(crate) fn opaque_physical(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let options = Arc::new(ConfigOptions::default());
    Ok(Arc::new(ScalarFunctionExpr::try_new(function(), vec![expr], schema, options)?))
}

/// The argument of `expr`, if `expr` is a call of `opaque`.
pub fn opaque_value(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.inner().is::<Opaque>() => call.args.first(),
        _ => None,
    }
}

/// The argument of `expr`, if `expr` is a call of `opaque` in a physical plan.
pub fn opaque_physical_value(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    ScalarFunctionExpr::try_downcast_func::<Opaque>(expr.as_ref())?.args().first()
}
