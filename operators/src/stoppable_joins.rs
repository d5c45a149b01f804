//! Lets joins with conditions end when their task is stopped.
//!
//! A join yields after a full batch of matches or at the end of a probe batch. If few rows match, one probe batch can
//! take minutes. So the condition checks for a stop each time it is evaluated:
//!
//! ```text
//!   NestedLoopJoin: filter = a.v + b.v < 0     ->    NestedLoopJoin: filter = unless stopped, a.v + b.v < 0
//! ```

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use hwacha_execution::stop;

/// `plan` with joins that end when their task is stopped. Only for executors, because the condition cannot be
/// encoded.
pub fn stoppable_joins(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let join: Arc<dyn ExecutionPlan> = if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(Some(stoppable(filter))).build()?)
        } else if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            HashJoinExecBuilder::from(join).with_filter(Some(stoppable(filter))).build_exec()?
        } else {
            return Ok(Transformed::no(node));
        };
        Ok(Transformed::yes(join))
    })
    .data()
}

fn stoppable(filter: &JoinFilter) -> JoinFilter {
    let condition = Arc::new(UnlessStopped(Arc::clone(filter.expression())));
    JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// A condition that fails once the task is stopped.
#[derive(Debug, Eq)]
struct UnlessStopped(Arc<dyn PhysicalExpr>);

// `#[derive(PartialEq)]` does not compile for an `Arc<dyn PhysicalExpr>`.
impl PartialEq for UnlessStopped {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for UnlessStopped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for UnlessStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for UnlessStopped {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        stop::check()?;
        self.0.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.0]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([condition]) => Ok(Arc::new(Self(condition))),
            Err(_) => internal_err!("there is one condition"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}
