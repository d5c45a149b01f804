//! Aggregate functions whose input rows are states: `sum` over rows that each carry the state of `sum` over other
//! rows.
//!
//! DataFusion has the mode `PartialReduce` for an aggregation of states. This function works in the ordinary mode
//! `Partial` instead, which emits groups early when memory runs out and stops grouping if that does not reduce the
//! rows:
//!
//! ```text
//! Aggregate partial: by c_name; sum(x)      Aggregate partial: by c_name; merged sum(state)
//!   Join: c_custkey = o_custkey        ->     Join: c_custkey = o_custkey
//!     customer                                  customer
//!     orders                                    Aggregate partial: by o_custkey; sum(x)
//!                                                 orders
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;

use crate::aggregates::resumed::{registered_name, resumable};

/// A function whose arguments are the parts of its own state. `arguments` describes the arguments of the function
/// itself, which are not in the input.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct MergedAggregate {
    function: Arc<AggregateUDF>,
    arguments: Fields,
    signature: Signature,
}

impl MergedAggregate {
    /// The function named `name` over `arguments`; an error if its states cannot be merged in any order.
    pub fn new(name: &str, arguments: Fields) -> Result<Self> {
        let function = resumable(name).ok_or_else(|| internal_datafusion_err!("states of {name} cannot be merged"))?;
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

    /// The function's own name.
    pub(crate) fn own_name(&self) -> &str {
        self.function.name()
    }

    /// The arguments of the function itself.
    pub fn arguments(&self) -> &Fields {
        &self.arguments
    }

    /// Calls `make` with the arguments of the function itself, which its own accumulators need: the fields, and a NULL
    /// literal in place of each expression.
    fn with_own<T>(&self, args: AccumulatorArgs, make: impl FnOnce(AccumulatorArgs) -> T) -> Result<T> {
        let exprs = self.arguments.iter().map(|field| Ok(lit(ScalarValue::try_from(field.data_type())?)));
        let exprs: Vec<Arc<dyn PhysicalExpr>> = exprs.collect::<Result<_>>()?;
        Ok(make(AccumulatorArgs { exprs: &exprs, expr_fields: &self.arguments, ..args }))
    }
}

impl AggregateUDFImpl for MergedAggregate {
    fn name(&self) -> &str {
        "merged"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.return_field(&[])?.data_type().clone())
    }

    fn return_field(&self, _: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(&self.arguments)
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

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.function.state_fields(StateFieldsArgs { input_fields: &self.arguments, ..args })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let own = self.with_own(args, |args| self.function.accumulator(args))??;
        Ok(Box::new(MergedAccumulator(own)))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.with_own(args, |args| self.function.groups_accumulator_supported(args)).unwrap_or(false)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let own = self.with_own(args, |args| self.function.create_groups_accumulator(args))??;
        Ok(Box::new(MergedGroups { own, arguments: self.arguments.clone() }))
    }
}

#[derive(Debug)]
struct MergedAccumulator(Box<dyn Accumulator>);

impl Accumulator for MergedAccumulator {
    fn update_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate()
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

struct MergedGroups {
    own: Box<dyn GroupsAccumulator>,
    arguments: Fields,
}

impl GroupsAccumulator for MergedGroups {
    fn update_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        all_groups: usize,
    ) -> Result<()> {
        let Some(filter) = filter else { return self.own.merge_batch(states, groups, all_groups) };
        // A row that the filter drops still creates its group, for example the only group of a total without GROUP BY.
        let nulls = self.arguments.iter().map(|argument| new_null_array(argument.data_type(), groups.len()));
        let none = BooleanArray::new(BooleanBuffer::new_unset(groups.len()), None);
        self.own.update_batch(&nulls.collect::<Vec<_>>(), groups, Some(&none), all_groups)?;
        let states = states.iter().map(|state| compute::filter(state, filter)).collect::<Result<Vec<_>, _>>()?;
        let groups = groups.iter().zip(filter).filter(|(_, passes)| *passes == Some(true));
        let groups: Vec<_> = groups.map(|(group, _)| *group).collect();
        match groups.is_empty() {
            true => Ok(()),
            false => self.own.merge_batch(&states, &groups, all_groups),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], all_groups: usize) -> Result<()> {
        self.own.merge_batch(states, groups, all_groups)
    }

    fn convert_to_state(&self, states: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        match filter {
            None => Ok(states.to_vec()),
            Some(_) => internal_err!("there is no state of no rows"),
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.own.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.own.state(emit_to)
    }

    fn size(&self) -> usize {
        self.own.size()
    }
}
