//! Inserts the run-time filters that came from other stages into a plan, at the places where the plan tests them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{and, not, or};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, Literal, lit};
use datafusion::physical_expr::utils::{collect_columns, conjunction, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

use super::RuntimeFilter;
use super::key_set::KeySet;
use crate::scan::{file_scan, with_source};

/// Filters by their ids in the plans that test them.
pub type Filters = HashMap<u64, Arc<RuntimeFilter>>;

/// Inserts `filters` into `plan`. If a filter did not arrive, its planned test is removed, because a scan would decode
/// columns for a test that drops no row. A dynamic filter that an operator of the same plan fills stays.
///
/// ```text
/// FilterExec: DynamicFilter 1 AND DynamicFilter 2 AND x > 5      filters: 1
/// FilterExec: n IN (3, 90) AND x > 5                             after
/// ```
pub fn apply(plan: Arc<dyn ExecutionPlan>, filters: &Filters) -> Result<Arc<dyn ExecutionPlan>> {
    let filters = Known { filters, made_here: made_here(&plan)? };
    plan.transform_up(|node| {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let predicate = filters.substituted(filter.predicate(), &filter.input().schema(), false)?;
            if predicate.transformed {
                let filter = FilterExecBuilder::from(filter).with_predicate(predicate.data).build()?;
                return Ok(Transformed::yes(Arc::new(filter)));
            }
        } else if let Some((scan, source)) = parquet(&node)
            && let Some(predicate) = source.filter()
        {
            let predicate = filters.substituted(&predicate, source.table_schema().table_schema(), true)?;
            if predicate.transformed {
                let source = Arc::new(source.with_predicate(predicate.data));
                return with_source(&node, scan, source).map(Transformed::yes);
            }
        }
        Ok(Transformed::no(node))
    })
    .data()
}

/// Whether `plan` tests single rows by the filter with the id `id`. A scan without `pushdown_filters` does not count,
/// because it only skips files and row groups.
pub fn tests_rows(plan: &Arc<dyn ExecutionPlan>, id: u64) -> Result<bool> {
    plan.exists(|node| {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            return mentions(filter.predicate(), id);
        }
        match parquet(node) {
            Some((_, source)) if source.table_parquet_options().global.pushdown_filters => {
                source.filter().map_or(Ok(false), |predicate| mentions(&predicate, id))
            }
            _ => Ok(false),
        }
    })
}

fn parquet(node: &Arc<dyn ExecutionPlan>) -> Option<(&FileScanConfig, &ParquetSource)> {
    let scan = file_scan(node)?;
    Some((scan, scan.file_source().downcast_ref::<ParquetSource>()?))
}

fn mentions(expr: &Arc<dyn PhysicalExpr>, id: u64) -> Result<bool> {
    let mut found = false;
    expr.apply(|expr| {
        found |= expr.is::<DynamicFilterPhysicalExpr>() && expr.expression_id() == Some(id);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Ids of the filters that operators of `plan` fill themselves.
fn made_here(plan: &Arc<dyn ExecutionPlan>) -> Result<HashSet<u64>> {
    let mut made = HashSet::new();
    plan.apply(|node| {
        made.extend(node.dynamic_expressions_produced().iter().filter_map(|filter| filter.expression_id()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(made)
}

/// The filters that a task knows: those it received, and those that its own operators fill.
struct Known<'a> {
    filters: &'a Filters,
    made_here: HashSet<u64>,
}

impl Known<'_> {
    /// `expr` over rows of `schema`, with the filters inserted. `by_scan` says whether a scan evaluates it.
    fn substituted(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        schema: &Schema,
        by_scan: bool,
    ) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
        let substituted = Arc::clone(expr).transform_down(|expr| {
            let filter = expr.downcast_ref::<DynamicFilterPhysicalExpr>().and_then(|filter| filter.expression_id());
            let Some(id) = filter.filter(|id| !self.made_here.contains(id)) else { return Ok(Transformed::no(expr)) };
            let test = match self.filters.get(&id) {
                Some(filter) => {
                    let keys: Vec<_> = expr.children().into_iter().cloned().collect();
                    let tests = tests(filter, &keys, schema).into_iter();
                    let tests = tests.map(|test| if by_scan { as_one(&keys, test) } else { Ok(test) });
                    conjunction(tests.collect::<Result<Vec<_>>>()?)
                }
                None => lit(true),
            };
            Ok(Transformed::new(test, true, TreeNodeRecursion::Jump))
        })?;
        Ok(substituted
            .update_data(|expr| conjunction(split_conjunction(&expr).into_iter().filter(is_no_truth).cloned())))
    }
}

fn is_no_truth(test: &&Arc<dyn PhysicalExpr>) -> bool {
    test.downcast_ref::<Literal>().is_none_or(|literal| *literal.value() != ScalarValue::Boolean(Some(true)))
}

/// The tests of a run-time filter over `keys`: one for each key set, and one for the columns that are in no tested set.
/// A test first compares columns with their listed values or bounds, by which scans also skip files and row groups.
/// Then it looks the keys up in the set. A set over one column needs no lookup if all values of the column are listed.
fn tests(filter: &RuntimeFilter, keys: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> Vec<Arc<dyn PhysicalExpr>> {
    if filter.is_empty {
        return vec![lit(false)];
    }
    let columns = filter.columns.iter().zip(keys);
    let mut of_columns: Vec<_> = columns.map(|(column, key)| column.test(key, schema, filter.nulls_match)).collect();
    let mut tests = vec![];
    for (columns, set) in filter.sets.iter().filter(|(_, set)| !set.is_full()) {
        let mut parts: Vec<_> = columns.iter().filter_map(|column| of_columns[*column].take()).collect();
        let is_known = matches!(columns[..], [column] if filter.columns[column].is_exact() && !parts.is_empty());
        if !is_known {
            let keys = columns.iter().map(|column| Arc::clone(&keys[*column])).collect();
            parts.push(Arc::new(KeyFilterExpr { keys, set: Arc::clone(set), nulls_pass: filter.nulls_match }));
        }
        tests.push(conjunction(parts));
    }
    let others: Vec<_> = of_columns.into_iter().flatten().collect();
    tests.extend((!others.is_empty()).then(|| conjunction(others)));
    tests
}

/// Wraps `test` in one expression, because a scan splits a predicate at AND and decodes the columns again for each
/// part.
fn as_one(keys: &[Arc<dyn PhysicalExpr>], test: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let used = collect_columns(&test);
    let keys = keys.iter().filter(|key| collect_columns(key).is_subset(&used)).cloned().collect();
    let one = DynamicFilterPhysicalExpr::new(keys, lit(true));
    one.update(test)?;
    one.mark_complete();
    Ok(Arc::new(one))
}

/// Tests whether a row's keys may be in a set of build-side keys. It is made on the executor and never encoded.
struct KeyFilterExpr {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    set: Arc<KeySet>,
    /// Whether a row with NULL in one of its keys passes. No set contains NULL.
    nulls_pass: bool,
}

impl PartialEq for KeyFilterExpr {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && Arc::ptr_eq(&self.set, &other.set) && self.nulls_pass == other.nulls_pass
    }
}

impl Eq for KeyFilterExpr {}

impl Hash for KeyFilterExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keys.hash(state);
    }
}

impl fmt::Debug for KeyFilterExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for KeyFilterExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "KeyFilter [ {} ]", keys.join(", "))
    }
}

impl PhysicalExpr for KeyFilterExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let keys = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut passes = BooleanArray::new(self.set.contains(&keys, rows)?, None);
        for nulls in keys.iter().filter_map(|key| key.logical_nulls()) {
            let valid = BooleanArray::new(nulls.into_inner(), None);
            passes = match self.nulls_pass {
                true => or(&passes, &not(&valid)?)?,
                false => and(&passes, &valid)?,
            };
        }
        Ok(ColumnarValue::Array(Arc::new(passes)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, keys: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { keys, set: Arc::clone(&self.set), nulls_pass: self.nulls_pass }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use datafusion::physical_expr::expressions::Column;

    use super::super::{FilterTap, KeyCollector, KeyRange};
    use super::*;

    type Row<'a> = (Option<i64>, Option<&'a str>);

    fn keys(names: &[&str]) -> Vec<Arc<dyn PhysicalExpr>> {
        names.iter().enumerate().map(|(index, name)| Arc::new(Column::new(name, index)) as _).collect()
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let numbers: Int64Array = rows.iter().map(|(number, _)| *number).collect();
        let words: StringArray = rows.iter().map(|(_, word)| *word).collect();
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("w", Arc::new(words) as _)]).expect("two columns")
    }

    fn tap(names: &[&str], ranges: &[Option<KeyRange>]) -> FilterTap {
        FilterTap { id: 1, keys: keys(names), expected_keys: 10, ranges: ranges.to_vec(), nulls_match: false }
    }

    /// The filter of one task that wrote these rows, encoded and decoded.
    fn filter(rows: &[Row]) -> RuntimeFilter {
        collected(tap(&["n", "w"], &[None; 2]), rows)
    }

    fn numbers(least: i64, values: u64, rows: &[Row]) -> RuntimeFilter {
        collected(tap(&["n"], &[Some(KeyRange { least, values })]), rows)
    }

    /// 100 rows with 100 distinct numbers and 3 distinct words. A list of values has room for 20, so the words are
    /// listed and the numbers are not.
    fn many() -> impl Iterator<Item = Row<'static>> {
        (0..100).map(|number| (Some(1000 + number * 2), Some(["k", "l", "m"][number as usize % 3])))
    }

    fn collected(tap: FilterTap, rows: &[Row]) -> RuntimeFilter {
        let collector = KeyCollector::new(tap);
        for row in rows {
            collector.collect(&batch(&[*row])).expect("keys");
        }
        RuntimeFilter::decode(&collector.filter().encode().expect("values")).expect("it was just encoded")
    }

    fn tested(filter: &RuntimeFilter) -> Vec<Arc<dyn PhysicalExpr>> {
        let keys = keys(&["n", "w"][..filter.columns.len()]);
        tests(filter, &keys, &batch(&[]).schema())
    }

    fn shown(filter: &RuntimeFilter) -> Vec<String> {
        tested(filter).iter().map(ToString::to_string).collect()
    }

    fn passed(filter: RuntimeFilter, rows: &[Row]) -> Vec<bool> {
        let passes = conjunction(tested(&filter)).evaluate(&batch(rows)).expect("booleans");
        let passes = passes.into_array(rows.len()).expect("one value a row");
        let passes = passes.as_any().downcast_ref::<BooleanArray>().expect("booleans");
        passes.iter().map(|passes| passes == Some(true)).collect()
    }

    #[test]
    fn rows_of_any_task_pass_and_others_do_not() {
        let mut merged = filter(&[(Some(3), Some("c")), (Some(9), None)]);
        merged.merge(&filter(&[]));
        merged.merge(&filter(&[(None, Some("z"))]));
        merged.merge(&filter(&[(Some(5), Some("e"))]));
        let rows = [(Some(3), Some("c")), (Some(5), Some("e")), (Some(3), Some("e")), (Some(9), None), (None, None)];
        assert_eq!(passed(merged, &rows), [true, true, false, false, false]);
    }

    #[test]
    fn a_column_of_numbers_is_tested_before_all_keys() {
        let tap = tap(&["n", "w"], &[Some(KeyRange { least: 1000, values: 1000 }), None]);
        let filter = collected(tap, &many().collect::<Vec<_>>());
        let words = "w@1 IN (SET) ([k, l, m]) AND KeyFilter [ n@0, w@1 ]";
        assert_eq!(shown(&filter), ["n@0 >= 1000 AND n@0 <= 1198 AND KeyFilter [ n@0 ]", words]);
        let rows = [(Some(1002), Some("l")), (Some(1003), Some("l")), (Some(1002), Some("k")), (Some(1002), Some("x"))];
        assert_eq!(passed(filter, &rows), [true, false, false, false]);
    }

    #[test]
    fn few_values_are_listed_and_need_no_set() {
        let mut merged = numbers(0, 100, &[(Some(3), None), (None, None), (Some(3), None)]);
        merged.merge(&numbers(0, 100, &[(Some(90), None), (Some(3), None)]));
        assert_eq!(shown(&merged), ["n@0 IN (SET) ([3, 90])"]);
        assert_eq!(
            passed(merged, &[(Some(3), None), (Some(4), None), (Some(90), None), (None, None)]),
            [true, false, true, false]
        );
    }

    #[test]
    fn nulls_pass_where_they_match_each_other() {
        let matching = |rows: &[Row]| {
            let range = Some(KeyRange { least: 0, values: 5000 });
            collected(FilterTap { nulls_match: true, ..tap(&["n", "w"], &[range, None]) }, rows)
        };
        let rows = [(None, Some("a")), (Some(3), Some("b")), (None, None), (Some(5), None), (Some(3), None)];
        assert_eq!(
            passed(matching(&[(None, Some("a")), (Some(3), Some("b"))]), &rows),
            [true, true, false, false, false]
        );
        assert_eq!(passed(matching(&[(None, None), (Some(3), Some("b"))]), &rows), [false, true, true, false, true]);
        let nulls: Vec<_> = many().chain([(None, None), (Some(20), None)]).collect();
        let others =
            [(Some(1000), Some("k")), (Some(1000), Some("l")), (None, None), (Some(20), None), (Some(7), None)];
        assert_eq!(passed(matching(&nulls), &others), [true, false, true, true, false]);
        assert_eq!(
            shown(&matching(&[(None, None)])),
            ["n@0 IS NULL OR false", "(w@1 IS NULL OR false) AND KeyFilter [ n@0, w@1 ]"]
        );
        assert_eq!(shown(&matching(&[])), ["false"]);
    }

    #[test]
    fn numbers_of_a_range_are_found_exactly() {
        let mut merged = numbers(-100, 1000, &[(Some(3), None), (None, None)]);
        merged.merge(&numbers(-100, 1000, &[(Some(-100), None), (Some(899), None)]));
        let rows = [Some(3), Some(-100), Some(899), Some(4), Some(900), None].map(|number| (number, None));
        assert_eq!(passed(merged, &rows), [true, true, true, false, false, false]);
    }

    #[test]
    fn numbers_outside_the_range_void_the_set_and_not_the_list() {
        let mut merged = numbers(0, 10, &[(Some(3), None)]);
        merged.merge(&numbers(0, 10, &[(Some(5), None), (Some(50), None)]));
        assert!(!merged.is_useless());
        let rows = [Some(3), Some(7), Some(50), Some(51), None].map(|number| (number, None));
        assert_eq!(passed(merged.clone(), &rows), [true, false, true, false, false]);
        merged.merge(&numbers(0, 10, &many().collect::<Vec<_>>()));
        assert!(merged.is_useless());
        let rows = [Some(3), Some(7), Some(1198), Some(1199), None].map(|number| (number, None));
        assert_eq!(passed(merged, &rows), [true, true, true, false, false]);
    }

    #[test]
    fn an_empty_build_side_matches_nothing() {
        let mut merged = filter(&[]);
        merged.merge(&filter(&[(None, Some("x"))]));
        assert_eq!(shown(&merged), ["false"]);
    }

    #[test]
    fn bounds_widen_from_task_to_task() {
        let mut merged = filter(&many().collect::<Vec<_>>());
        merged.merge(&filter(&[(Some(-7), Some("a"))]));
        merged.merge(&filter(&[(Some(3), None), (None, Some("z"))]));
        let known = "n@0 >= -7 AND n@0 <= 1198 AND w@1 IN (SET) ([k, l, m, a, z])";
        assert_eq!(shown(&merged), [format!("{known} AND KeyFilter [ n@0, w@1 ]")]);
    }
}
