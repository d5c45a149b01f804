//! `sum` that fails if its total does not fit into its type. DataFusion's `sum` wraps around
//! (apache/datafusion#17539).
//!
//! Whole numbers are added in 128 bits, which no number of rows can overflow, and only the final total is compared
//! with the type. Example: -1, 9223372036854775807 and 1 have a total that fits, in any order of rows. So the result
//! depends neither on the order of rows nor on the task that reads them. A partial sum below a join is not compared
//! with the type, so rows that the join drops cannot make the query fail. The state between partial and final
//! aggregation has 128 bits too:
//!
//! ```text
//!   type                        added in        state
//!   integers, DURATION          128 bits        Decimal128(38, 0)
//!   DECIMAL up to 128 bits      128 bits        Decimal128(38, 0); fails beyond 1.7e38
//!   DECIMAL of 256 bits,        the type        the type; fails at once
//!   INTERVAL
//!   DOUBLE                      DataFusion's own
//! ```

mod distinct;
mod exact;
mod failing;
mod groups;

use std::sync::Arc;

use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit, UInt64Type,
};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature,
};

use distinct::{DistinctSum, SlidingDistinctSum};
use exact::ExactSum;
use failing::FailingSum;
use groups::ExactSums;

/// The type of a state: a total that was not yet compared with the type of the sum.
const STATE: DataType = DataType::Decimal128(38, 0);

/// `sum` with the error that SQL requires if the total does not fit into its type.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckedSum {
    /// DataFusion's function, which adds floats and does everything except adding for the other types.
    sum: Sum,
}

/// Whether `function` with a total of that type can fail although the total of all rows fits.
pub fn may_fail_early(function: &AggregateUDF, data_type: &DataType) -> bool {
    function.inner().is::<CheckedSum>() && failing(data_type).is_some()
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.sum.name()
    }

    fn signature(&self) -> &Signature {
        self.sum.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.sum.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct || !is_exact(args.return_field.data_type()) {
            return self.sum.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), STATE, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type().clone();
        match total(&data_type) {
            None => self.sum.accumulator(args),
            Some(_) if args.is_distinct => Ok(Box::new(DistinctSum::new(self.sum.accumulator(args)?, data_type))),
            Some(total) => Ok(total),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type();
        match total(data_type) {
            Some(total) if !args.is_distinct => Ok(total),
            Some(_) if *data_type == DataType::Int64 => Ok(Box::new(SlidingDistinctSum::default())),
            // For other types DataFusion has no sliding sum of distinct values and returns an error.
            _ => self.sum.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        failing(args.return_field.data_type()).is_none() && self.sum.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match exact_groups(args.return_field.data_type()) {
            Some(totals) => Ok(totals),
            None => self.sum.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.sum.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.sum.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.sum.set_monotonicity(data_type)
    }

    /// `sum(x + 1)` becomes `sum(x) + 1 * count(x)`. Overflow of that product and sum is an error too.
    fn simplify_expr_op_literal(
        &self,
        call: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.sum.simplify_expr_op_literal(call, argument, operator, literal, argument_is_left)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.sum.documentation()
    }
}

/// Whether a total of that type is added in 128 bits and compared with the type only at the end.
fn is_exact(data_type: &DataType) -> bool {
    exact(data_type).is_some()
}

/// An accumulator for a total of that type; `None` for types that DataFusion adds.
fn total(data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    exact(data_type).or_else(|| failing(data_type))
}

fn exact(data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    let of = data_type.clone();
    let total: Box<dyn Accumulator> = match data_type {
        DataType::Int64 => Box::new(ExactSum::<Int64Type>::new(of)),
        DataType::UInt64 => Box::new(ExactSum::<UInt64Type>::new(of)),
        DataType::Decimal32(..) => Box::new(ExactSum::<Decimal32Type>::new(of)),
        DataType::Decimal64(..) => Box::new(ExactSum::<Decimal64Type>::new(of)),
        DataType::Decimal128(..) => Box::new(ExactSum::<Decimal128Type>::new(of)),
        DataType::Duration(TimeUnit::Second) => Box::new(ExactSum::<DurationSecondType>::new(of)),
        DataType::Duration(TimeUnit::Millisecond) => Box::new(ExactSum::<DurationMillisecondType>::new(of)),
        DataType::Duration(TimeUnit::Microsecond) => Box::new(ExactSum::<DurationMicrosecondType>::new(of)),
        DataType::Duration(TimeUnit::Nanosecond) => Box::new(ExactSum::<DurationNanosecondType>::new(of)),
        _ => return None,
    };
    Some(total)
}

fn exact_groups(data_type: &DataType) -> Option<Box<dyn GroupsAccumulator>> {
    let of = data_type.clone();
    let total: Box<dyn GroupsAccumulator> = match data_type {
        DataType::Int64 => Box::new(ExactSums::<Int64Type>::new(of)),
        DataType::UInt64 => Box::new(ExactSums::<UInt64Type>::new(of)),
        DataType::Decimal32(..) => Box::new(ExactSums::<Decimal32Type>::new(of)),
        DataType::Decimal64(..) => Box::new(ExactSums::<Decimal64Type>::new(of)),
        DataType::Decimal128(..) => Box::new(ExactSums::<Decimal128Type>::new(of)),
        DataType::Duration(TimeUnit::Second) => Box::new(ExactSums::<DurationSecondType>::new(of)),
        DataType::Duration(TimeUnit::Millisecond) => Box::new(ExactSums::<DurationMillisecondType>::new(of)),
        DataType::Duration(TimeUnit::Microsecond) => Box::new(ExactSums::<DurationMicrosecondType>::new(of)),
        DataType::Duration(TimeUnit::Nanosecond) => Box::new(ExactSums::<DurationNanosecondType>::new(of)),
        _ => return None,
    };
    Some(total)
}

fn failing(data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    let of = data_type.clone();
    let total: Box<dyn Accumulator> = match data_type {
        DataType::Decimal256(..) => Box::new(FailingSum::<Decimal256Type>::new(of)),
        DataType::Interval(IntervalUnit::YearMonth) => Box::new(FailingSum::<IntervalYearMonthType>::new(of)),
        DataType::Interval(IntervalUnit::DayTime) => Box::new(FailingSum::<IntervalDayTimeType>::new(of)),
        DataType::Interval(IntervalUnit::MonthDayNano) => Box::new(FailingSum::<IntervalMonthDayNanoType>::new(of)),
        _ => return None,
    };
    Some(total)
}

/// The error of a total that does not fit.
fn overflow(data_type: &DataType) -> DataFusionError {
    exec_datafusion_err!(
        "a sum does not fit into {data_type}; cast its argument to a wider type, such as DECIMAL(38, 0)"
    )
}
