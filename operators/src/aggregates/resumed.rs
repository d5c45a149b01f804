//! Aggregate functions that go on from where the rows before theirs have got: `sum` over a range of sorted rows, say, given
//! the state of `sum` over all ranges before it.
//!
//! The states come as further arguments, which are the same in all rows. What is known of the function itself holds for
//! the one that goes on.

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

/// The name of [`CheckedSum`] among functions, as it is called `sum` like the one that wraps around.
const CHECKED_SUM: &str = "checked sum";

/// Functions that rows may be given to in parts, in any order.
static FUNCTIONS: LazyLock<Vec<Arc<AggregateUDF>>> = LazyLock::new(|| {
    let functions = all_default_aggregate_functions().into_iter();
    let functions = functions.chain([Arc::new(AggregateUDF::new_from_impl(CheckedSum::default()))]);
    functions.filter(|function| is_order_insensitive(function.name())).collect()
});

/// The function of that name, as [`registered_name`] gives it, if it can go on.
pub fn resumable(name: &str) -> Option<&'static Arc<AggregateUDF>> {
    FUNCTIONS.iter().find(|function| registered_name(function) == name)
}

/// A name that no other function has.
pub fn registered_name(function: &AggregateUDF) -> &str {
    if function.inner().is::<CheckedSum>() { CHECKED_SUM } else { function.name() }
}

/// A function over so many arguments, after which the parts of the state that it goes on from follow.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ResumedAggregate {
    function: Arc<AggregateUDF>,
    arguments: usize,
    signature: Signature,
}

impl ResumedAggregate {
    /// An error for functions that cannot go on.
    pub fn new(name: &str, arguments: usize) -> Result<Self> {
        let function = resumable(name).ok_or_else(|| internal_datafusion_err!("{name} cannot go on from a state"))?;
        Ok(Self {
            function: Arc::clone(function),
            arguments,
            signature: Signature::variadic_any(Volatility::Immutable),
        })
    }

    /// The name that the function is found by.
    pub fn function(&self) -> &str {
        registered_name(&self.function)
    }

    /// How many arguments the function itself has.
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
