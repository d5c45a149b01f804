//! The function `local_time` is DataFusion's `to_local_time`, except that its result is nullable only if its argument
//! is nullable. The result of `to_local_time` is always nullable, and the inputs of a UNION would differ in
//! nullability.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, internal_err};
use datafusion::functions::datetime::to_local_time;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The name of the function, by which plans on the wire know it.
pub const LOCAL_TIME: &str = "local_time";

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(LocalTime::new())));

#[derive(Debug, PartialEq, Eq, Hash)]
struct LocalTime {
    signature: Signature,
}

impl LocalTime {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for LocalTime {
    fn name(&self) -> &str {
        LOCAL_TIME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("whether {LOCAL_TIME} may be NULL depends on its argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [field] = take_function_args(LOCAL_TIME, args.arg_fields)?;
        let data_type = to_local_time().return_type(&[field.data_type().clone()])?;
        Ok(Arc::new(Field::new(LOCAL_TIME, data_type, field.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        to_local_time().invoke_with_args(args)
    }
}

/// The function `local_time`.
pub fn local_time() -> Arc<ScalarUDF> {
    Arc::clone(&FUNCTION)
}
