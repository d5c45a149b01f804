//! Range partitioning by a key that is a whole number or a day. A scan of a table that is clustered by the key reads
//! one key range per partition. An exchange sends the rows of the other join side to the partition of their key range.
//!
//! Example: the bounds 10 and 25 make three ranges: up to 9, 10 to 24, and from 25 on. NULL is in the first range.
//!
//! Scans declare the ranges as DataFusion's range partitioning, ascending with NULLs first.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, ScalarValue, SplitPoint};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr, RangePartitioning};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::whole_numbers::{is_whole_number, numbers};

/// A key and the bounds between its ranges.
#[derive(Clone, Debug)]
pub struct KeyRanges {
    pub key: Arc<dyn PhysicalExpr>,
    /// The first key of each range except the first range, ascending.
    pub bounds: Arc<[i64]>,
}

impl PartialEq for KeyRanges {
    fn eq(&self, other: &Self) -> bool {
        self.key.eq(&other.key) && self.bounds == other.bounds
    }
}

impl KeyRanges {
    /// The key ranges of `partitioning`; `None` unless it is a range partitioning by one whole-number or day key in the
    /// default sort order.
    pub fn of(partitioning: &Partitioning) -> Option<Self> {
        let Partitioning::Range(ranges) = partitioning else { return None };
        let [sort] = &ranges.ordering()[..] else { return None };
        let bound = |point: &SplitPoint| match point.values() {
            [value] if is_whole_number(&value.data_type()) => {
                Some(numbers(&value.to_array().ok()?).ok()?.value(0)).filter(|_| !value.is_null())
            }
            _ => None,
        };
        let bounds = ranges.split_points().iter().map(bound).collect::<Option<_>>()?;
        (sort.options == Default::default()).then(|| Self { key: Arc::clone(&sort.expr), bounds })
    }

    /// The key ranges of a plan's rows. `None` above an aggregation by grouping sets: it replaces keys by NULL, but
    /// DataFusion still declares the ranges.
    pub fn of_rows(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        Self::of(plan.output_partitioning()).filter(|_| keeps_keys(plan))
    }

    /// The number of ranges.
    pub fn count(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The ranges as DataFusion's partitioning, for a key of type `data_type`.
    pub fn partitioning(&self, data_type: &DataType) -> Result<Partitioning> {
        let points = self.bounds.iter().map(|bound| Ok(SplitPoint::new(vec![value(*bound, data_type)?])));
        let ordering = LexOrdering::from([PhysicalSortExpr::new_default(Arc::clone(&self.key))]);
        Ok(Partitioning::Range(RangePartitioning::try_new(ordering, points.collect::<Result<_>>()?)?))
    }

    /// Splits `batch` by range: the number of each range that has rows in it, and these rows.
    pub(crate) fn parts(&self, batch: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        let keys = numbers(&self.key.evaluate(batch)?.into_array(batch.num_rows())?)?;
        let mut rows = vec![vec![]; self.bounds.len() + 1];
        for (row, key) in (0u32..).zip(&keys) {
            let range = key.map_or(0, |key| self.bounds.partition_point(|bound| *bound <= key));
            rows[range].push(row);
        }
        let some = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        some.map(|(range, rows)| Ok((range, take_record_batch(batch, &UInt32Array::from(rows))?))).collect()
    }
}

/// Whether the rows of a range-partitioned plan still have their keys, because the plan has no aggregation by grouping
/// sets. Inputs that are not range-partitioned do not matter, for example a build side that all partitions read.
fn keeps_keys(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let aggregate = plan.downcast_ref::<AggregateExec>();
    let has_sets = aggregate.is_some_and(|aggregate| aggregate.group_expr().has_grouping_set());
    let is_in_ranges = |plan: &&Arc<dyn ExecutionPlan>| matches!(plan.output_partitioning(), Partitioning::Range(_));
    !has_sets && plan.children().into_iter().filter(is_in_ranges).all(keeps_keys)
}

/// Adjacent ranges as one range, from `first` to `last` inclusive. NULL is not in it.
#[derive(Clone, Copy, Debug)]
pub struct OwnRange {
    pub first: i64,
    pub last: i64,
}

impl OwnRange {
    /// The ranges with the numbers `ranges`. Example: with the bounds 10 and 25, the ranges `0..2` go up to 24.
    pub fn of(bounds: &[i64], ranges: std::ops::Range<usize>) -> Self {
        let first = ranges.start.checked_sub(1).map_or(i64::MIN, |before| bounds[before]);
        Self { first, last: bounds.get(ranges.end - 1).map_or(i64::MAX, |end| end - 1) }
    }

    /// Whether the range overlaps the keys from `least` to `greatest`.
    pub fn meets(&self, least: i64, greatest: i64) -> bool {
        least <= self.last && self.first <= greatest
    }

    /// Predicates over `column` of `schema`. A key is in this range if all of them are true.
    pub(crate) fn tests(&self, column: &Column, schema: &SchemaRef) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let data_type = schema.field(column.index()).data_type();
        let least = Some((Operator::GtEq, self.first)).filter(|_| self.first > i64::MIN);
        let greatest = Some((Operator::LtEq, self.last)).filter(|_| self.last < i64::MAX);
        let test =
            |(operator, bound)| binary(Arc::new(column.clone()), operator, lit(value(bound, data_type)?), schema);
        least.into_iter().chain(greatest).map(test).collect()
    }

    /// The rows of `batch` whose key is in this range. `column` is the position of the key. Rows with a NULL key are
    /// dropped: the scheduler lays out a scan by ranges only if its files have no NULL keys.
    pub(crate) fn rows(&self, batch: RecordBatch, column: usize) -> Result<RecordBatch> {
        let keys = numbers(batch.column(column))?;
        let is_in = |key: i64| self.first <= key && key <= self.last;
        let kept: BooleanArray = keys.iter().map(|key| Some(key.is_some_and(is_in))).collect();
        Ok(filter_record_batch(&batch, &kept)?)
    }
}

/// A key as a value of type `data_type`.
fn value(key: i64, data_type: &DataType) -> Result<ScalarValue> {
    match data_type {
        DataType::Date32 => ScalarValue::Int64(Some(key)).cast_to(&DataType::Int32)?.cast_to(data_type),
        _ => ScalarValue::Int64(Some(key)).cast_to(data_type),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array};

    use super::*;

    fn days(days: &[Option<i32>]) -> RecordBatch {
        let days: ArrayRef = Arc::new(Date32Array::from(days.to_vec()));
        RecordBatch::try_from_iter([("day", days)]).expect("a batch")
    }

    #[test]
    fn each_key_is_in_one_range_and_plans_say_which() {
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("day", 0));
        let ranges = KeyRanges { key, bounds: [-5, 0, 7].into() };
        let partitioning = ranges.partitioning(&DataType::Date32).expect("days have an order");
        assert_eq!(partitioning.partition_count(), 4);
        assert_eq!(KeyRanges::of(&partitioning).expect("by ranges").bounds, ranges.bounds);
        let batch = days(&[None, Some(-6), Some(-5), Some(-1), Some(0), Some(6), Some(7), Some(100)]);
        let parts = ranges.parts(&batch).expect("days are keys");
        let rows: Vec<_> = parts.into_iter().map(|(range, rows)| (range, rows.num_rows())).collect();
        assert_eq!(rows, [(0, 2), (1, 2), (2, 2), (3, 2)]);
        let count = |number: usize| OwnRange::of(&ranges.bounds, number..number + 1).rows(batch.clone(), 0);
        let counts: Vec<_> = (0..4).map(|number| count(number).expect("days are keys").num_rows()).collect();
        assert_eq!(counts, [1, 2, 2, 2]);
        let middle = OwnRange::of(&ranges.bounds, 1..3);
        assert_eq!(middle.rows(batch, 0).expect("days are keys").num_rows(), 4);
        assert!(middle.meets(-9, -5) && middle.meets(6, 9) && !middle.meets(-9, -6) && !middle.meets(7, 9));
    }
}
