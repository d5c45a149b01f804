//! Merges sorted partitions by all their sort keys.
//!
//! DataFusion combines a sort with a limit and a sort above it into one sort, but keeps the sort keys of the old
//! merge. So `SELECT * FROM (SELECT a, b FROM t ORDER BY a LIMIT 9) ORDER BY a, b` gives rows that are sorted only by
//! `a`:
//!
//! ```text
//!   SortPreservingMerge: a, fetch=9             SortPreservingMerge: a, b, fetch=9
//!     Sort: TopK(fetch=9) a, b            ->      Sort: TopK(fetch=9) a, b
//!       t, several partitions                       t, several partitions
//! ```
//!
//! Rows in the order of `a, b` are also in the order of `a`, so a merge by all sort keys is always right.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

/// Gives a merge above a sort the sort keys of that sort.
#[derive(Debug)]
pub struct FullMergesRule;

impl PhysicalOptimizerRule for FullMergesRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<SortPreservingMergeExec>().and_then(full) {
            Some(merge) => Ok(Transformed::yes(Arc::new(merge) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "full_merges"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `merge` with all sort keys of the sort below it; `None` unless the keys of `merge` are a proper prefix of the sort's
/// keys.
fn full(merge: &SortPreservingMergeExec) -> Option<SortPreservingMergeExec> {
    let sort = merge.input().downcast_ref::<SortExec>()?;
    let (coarse, fine) = (merge.expr(), sort.expr());
    let is_finer = fine.len() > coarse.len() && fine.iter().zip(coarse.iter()).all(|(one, other)| one == other);
    is_finer.then(|| SortPreservingMergeExec::new(fine.clone(), Arc::clone(merge.input())).with_fetch(merge.fetch()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use datafusion::datasource::MemTable;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::corrected_rules;

    #[tokio::test]
    async fn a_sort_of_limited_rows_sorts_by_all_its_columns() {
        let partition = |number: i64| {
            let a = Int64Array::from_iter((0..60).map(|row| row % 3));
            let b = Int64Array::from_iter((0..60).map(|row| (row * 37 + number * 11) % 101));
            vec![RecordBatch::try_from_iter([("a", Arc::new(a) as _), ("b", Arc::new(b) as _)]).expect("a batch")]
        };
        let partitions: Vec<_> = (0..4).map(partition).collect();
        let state = SessionStateBuilder::new()
            .with_config(SessionConfig::new().with_target_partitions(4))
            .with_default_features()
            .with_physical_optimizer_rules(corrected_rules())
            .build();
        let context = SessionContext::new_with_state(state);
        let table = MemTable::try_new(partitions[0][0].schema(), partitions).expect("a table");
        context.register_table("t", Arc::new(table)).expect("it is registered");
        let sql = "SELECT a, b FROM (SELECT a, b FROM t ORDER BY a LIMIT 200) ORDER BY a, b";
        let batches = context.sql(sql).await.expect("it plans").collect().await.expect("it runs");
        let rows: Vec<_> = batches
            .iter()
            .flat_map(|batch| {
                let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
                column(0).into_iter().zip(column(1)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(rows.len(), 200);
        assert!(rows.is_sorted(), "{rows:?}");
    }
}
