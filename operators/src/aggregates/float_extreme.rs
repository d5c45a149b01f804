//! `min` and `max` of floats, in the order of [`crate::functions::order_key`].
//!
//! DataFusion's `min` and `max` of a group compare floats by Rust's partial order, in which NaN is neither less nor
//! greater than a number. `min` starts from the greatest finite number and `max` from the least
//! (<https://github.com/apache/datafusion/issues/24432>). So `max` of [NaN, 1.0] is 1.0 while `max` of [1.0, NaN] is
//! NaN, and `max` of [-Infinity] is -1.8e308. The functions here compare by IEEE 754's total order, which is the order
//! of `order_key` for the values that `order_key` gives.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::datatypes::{
    ArrowNativeTypeOp, ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type,
};
use datafusion::common::{Result, internal_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// The least or the greatest float. The arguments must be results of `order_key`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FloatExtreme {
    name: &'static str,
    /// DataFusion's function.
    function: Arc<AggregateUDF>,
    /// A new value replaces the kept value if its comparison with the kept value has this result: `Less` for `min`,
    /// `Greater` for `max`.
    replaces: Ordering,
    signature: Signature,
}

impl FloatExtreme {
    fn new(name: &'static str, function: Arc<AggregateUDF>, replaces: Ordering) -> Self {
        Self { name, function, replaces, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// The name of DataFusion's function.
    pub(crate) fn function(&self) -> &str {
        self.function.name()
    }

    fn groups<T: ArrowPrimitiveType + Send>(&self, data_type: &DataType) -> Box<dyn GroupsAccumulator> {
        let replaces = self.replaces;
        let start = match replaces {
            Ordering::Less => T::Native::MAX_TOTAL_ORDER,
            Ordering::Equal | Ordering::Greater => T::Native::MIN_TOTAL_ORDER,
        };
        let replace = move |kept: &mut T::Native, next: T::Native| {
            if next.compare(*kept) == replaces {
                *kept = next;
            }
        };
        Box::new(PrimitiveGroupsAccumulator::<T, _>::new(data_type, replace).with_starting_value(start))
    }
}

/// The function that replaces DataFusion's `function` over floats; `None` for all but `min` and `max`.
pub fn float_extreme(function: &str) -> Option<Arc<AggregateUDF>> {
    let extreme = match function {
        "min" => FloatExtreme::new("float_min", min_udaf(), Ordering::Less),
        "max" => FloatExtreme::new("float_max", max_udaf(), Ordering::Greater),
        _ => return None,
    };
    Some(Arc::new(AggregateUDF::new_from_impl(extreme)))
}

/// The function that has the name `name` in plans on the wire.
pub fn float_extreme_named(name: &str) -> Option<Arc<AggregateUDF>> {
    float_extreme(name.strip_prefix("float_")?)
}

impl AggregateUDFImpl for FloatExtreme {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.function.state_fields(args)
    }

    /// Without groups, DataFusion already compares by the total order.
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        args.return_field.data_type().is_floating()
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type();
        Ok(match data_type {
            DataType::Float16 => self.groups::<Float16Type>(data_type),
            DataType::Float32 => self.groups::<Float32Type>(data_type),
            DataType::Float64 => self.groups::<Float64Type>(data_type),
            other => return internal_err!("{} is of floats, not of {other}", self.name),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
    use datafusion::logical_expr::EmitTo;

    use super::*;

    fn groups(name: &'static str, replaces: Ordering) -> Box<dyn GroupsAccumulator> {
        FloatExtreme::new(name, max_udaf(), replaces).groups::<Float64Type>(&DataType::Float64)
    }

    /// The result of each of five groups, as text.
    fn found(mut accumulator: Box<dyn GroupsAccumulator>, values: &[Option<f64>], rows: &[usize]) -> Vec<String> {
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        accumulator.update_batch(&[values], rows, None, 5).expect("floats");
        let found = accumulator.evaluate(EmitTo::All).expect("floats");
        found.as_primitive::<Float64Type>().iter().map(|value| format!("{:?}", value.expect("a value"))).collect()
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_infinities_count() {
        let (nan, least, greatest) = (Some(f64::NAN), Some(f64::NEG_INFINITY), Some(f64::INFINITY));
        let values = [nan, Some(1.0), Some(1.0), nan, least, greatest, None, nan];
        let rows = [0, 0, 1, 1, 2, 3, 3, 4];
        let max = found(groups("float_max", Ordering::Greater), &values, &rows);
        assert_eq!(max, ["NaN", "NaN", "-inf", "inf", "NaN"]);
        let min = found(groups("float_min", Ordering::Less), &values, &rows);
        assert_eq!(min, ["1.0", "1.0", "-inf", "inf", "NaN"]);
    }

    #[test]
    fn a_group_of_no_rows_has_no_extreme() {
        let mut max = groups("float_max", Ordering::Greater);
        let values: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(3.0)]));
        let none = BooleanArray::from(vec![true, false]);
        max.update_batch(&[values], &[0, 1], Some(&none), 2).expect("floats");
        let found = max.evaluate(EmitTo::All).expect("floats");
        assert_eq!(found.null_count(), 2);
    }

    #[test]
    fn plans_on_the_wire_know_both_by_name() {
        for function in ["min", "max"] {
            let extreme = float_extreme(function).expect("one of both");
            assert_eq!(float_extreme_named(extreme.name()), Some(extreme));
        }
        assert_eq!(float_extreme("sum"), None);
        assert_eq!(float_extreme_named("max"), None);
    }
}
