//! Aggregate functions that continue from a state. Example: `sum` over one range of sorted rows continues from the
//! state of `sum` over all ranges before it.
//!
//! ```text
//! rows before: 1, 2, 3         state of sum: 6
//! rows of the range: 4, 5      sum(v):              4, 9
//!                              resumed sum(v, 6):  10, 15
//! ```
//!
//! The parts of the state are further arguments with the same value in all rows. All properties of the function
//! itself hold for the function that continues.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, SetMonotonicity, Signature, Volatility};

use crate::aggregates::checked_sum::CheckedSum;
use crate::aggregates::order_insensitive::is_order_insensitive;

/// The name by which [`CheckedSum`] is found. Its own name is `sum`, like the name of DataFusion's function.
const CHECKED_SUM: &str = "checked sum";

/// Functions that may get their rows in parts and in any order.
static FUNCTIONS: LazyLock<Vec<Arc<AggregateUDF>>> = LazyLock::new(|| {
    let functions = all_default_aggregate_functions().into_iter();
    let functions = functions.chain([Arc::new(AggregateUDF::new_from_impl(CheckedSum::default()))]);
    functions.filter(|function| is_order_insensitive(function.name())).collect()
});

/// The function whose [`registered_name`] is `name`, if it can continue from a state.
pub fn resumable(name: &str) -> Option<&'static Arc<AggregateUDF>> {
    FUNCTIONS.iter().find(|function| registered_name(function) == name)
}

/// The name by which [`resumable`] finds `function`. No two functions have the same registered name.
pub fn registered_name(function: &AggregateUDF) -> &str {
    if function.inner().is::<CheckedSum>() { CHECKED_SUM } else { function.name() }
}

/// A function over `arguments` arguments, which are followed by the parts of the state from which it continues.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ResumedAggregate {
    function: Arc<AggregateUDF>,
    arguments: usize,
    signature: Signature,
}

impl ResumedAggregate {
    /// The function named `name`; an error if it cannot continue from a state.
    pub fn new(name: &str, arguments: usize) -> Result<Self> {
        let function = resumable(name).ok_or_else(|| internal_datafusion_err!("{name} cannot go on from a state"))?;
        Ok(Self {
            function: Arc::clone(function),
            arguments,
            signature: Signature::variadic_any(Volatility::Immutable),
        })
    }

    /// The name by which [`resumable`] finds the function.
    pub fn function(&self) -> &str {
        registered_name(&self.function)
    }

    /// Number of arguments of the function itself, without the state.
    pub fn arguments(&self) -> usize {
        self.arguments
    }
}

impl AggregateUDFImpl for ResumedAggregate {
    fn name(&self) -> &str {
        "resumed"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(&types[..self.arguments])
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(&arguments[..self.arguments])
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.default_value(data_type)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.function.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.function.inner().set_monotonicity(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let own = StateFieldsArgs { input_fields: &args.input_fields[..self.arguments], ..args };
        self.function.state_fields(own)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let own = AccumulatorArgs {
            exprs: &args.exprs[..self.arguments],
            expr_fields: &args.expr_fields[..self.arguments],
            ..args
        };
        let accumulator = self.function.accumulator(own)?;
        Ok(Box::new(ResumedAccumulator { accumulator, arguments: self.arguments, resumed: false }))
    }
}

#[derive(Debug)]
struct ResumedAccumulator {
    accumulator: Box<dyn Accumulator>,
    arguments: usize,
    resumed: bool,
}

impl Accumulator for ResumedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (arguments, states) = values.split_at(self.arguments);
        if !self.resumed && states.iter().all(|state| !state.is_empty()) {
            let first: Vec<ArrayRef> = states.iter().map(|state| state.slice(0, 1)).collect();
            self.accumulator.merge_batch(&first)?;
            self.resumed = true;
        }
        self.accumulator.update_batch(arguments)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.accumulator.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.accumulator.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.accumulator.evaluate()
    }

    fn size(&self) -> usize {
        self.accumulator.size() + size_of::<Self>()
    }
}
