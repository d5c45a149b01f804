//! The states of aggregate functions over the rows of all earlier ranges. The source of a range exchange adds these
//! states as columns, which have the same value in all rows of a range.
//!
//! ```text
//! range 0: a a b b b b        count of earlier rows: 0
//! range 1: c c d              count of earlier rows: 6, as a column: (c, 6), (c, 6), (d, 6)
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};

use super::evaluate;
use crate::aggregates::resumed::{registered_name, resumable};

/// An aggregate over the rows of all earlier ranges.
#[derive(Clone, Debug)]
pub struct EarlierAggregate {
    aggregate: Arc<AggregateFunctionExpr>,
    states: Vec<FieldRef>,
}

impl EarlierAggregate {
    /// The aggregate of rows with the schema `rows` by the function named `function`; an error for functions that are
    /// not resumable.
    pub fn new(function: &str, arguments: Vec<Arc<dyn PhysicalExpr>>, rows: &SchemaRef) -> Result<Self> {
        let function =
            resumable(function).ok_or_else(|| internal_datafusion_err!("{function} cannot go on from a state"))?;
        let aggregate = AggregateExprBuilder::new(Arc::clone(function), arguments);
        let aggregate = Arc::new(aggregate.schema(Arc::clone(rows)).alias(function.name()).build()?);
        let states = aggregate.state_fields()?;
        Ok(Self { aggregate, states })
    }

    /// The name by which [`resumable`] finds the function.
    pub fn function(&self) -> &str {
        registered_name(self.aggregate.fun())
    }

    pub fn arguments(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.aggregate.expressions()
    }

    /// Whether each part of the aggregate's state has a primitive type, or is a Boolean or a view. The source repeats
    /// the state in each row, so a large state would cost too much.
    pub fn is_small(&self) -> bool {
        let is_small = |data_type: &DataType| {
            data_type.is_primitive()
                || matches!(data_type, DataType::Boolean | DataType::Utf8View | DataType::BinaryView)
        };
        self.states.iter().all(|state| is_small(state.data_type()))
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.function() == other.function() && self.arguments() == other.arguments()
    }

    /// Number of columns of the aggregate's state.
    pub fn columns(&self) -> usize {
        self.states.len()
    }
}

/// `schema` followed by the columns of the aggregates' states, one aggregate after the other.
pub fn with_earlier(schema: SchemaRef, aggregates: &[EarlierAggregate]) -> SchemaRef {
    if aggregates.is_empty() {
        return schema;
    }
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    for (position, state) in aggregates.iter().flat_map(|aggregate| &aggregate.states).enumerate() {
        fields.push(Arc::new(Field::new(format!("__earlier_{position}"), state.data_type().clone(), true)));
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The states of the aggregates over the rows of one batch, as columns of one row.
pub(super) fn states(aggregates: &[EarlierAggregate], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let mut states = vec![];
    for aggregate in aggregates {
        let mut state = State::new(aggregate)?;
        state.add_rows(rows)?;
        states.extend(state.scalars()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?);
    }
    Ok(states)
}

/// The state of one aggregate while rows are added to it.
pub(super) struct State {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn Accumulator>,
}

impl State {
    pub(super) fn new(aggregate: &EarlierAggregate) -> Result<Self> {
        Ok(Self { arguments: aggregate.arguments(), accumulator: aggregate.aggregate.create_accumulator()? })
    }

    pub(super) fn add_rows(&mut self, rows: &RecordBatch) -> Result<()> {
        match rows.num_rows() {
            0 => Ok(()),
            _ => self.accumulator.update_batch(&evaluate(&self.arguments, rows)?),
        }
    }

    /// Adds rows that are already aggregated. `states` are the columns of their states.
    pub(super) fn add_states(&mut self, states: &[ArrayRef]) -> Result<()> {
        match states.iter().all(|state| state.is_empty()) {
            true => Ok(()),
            false => self.accumulator.merge_batch(states),
        }
    }

    pub(super) fn scalars(&mut self) -> Result<Vec<ScalarValue>> {
        self.accumulator.state()
    }
}
