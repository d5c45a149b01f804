//! Makes a generated series encodable if the query reads none of its columns. Example: `SELECT 1 FROM
//! generate_series(1, 9)`.
//!
//! ```text
//!   LazyMemory: no column    ->    Projection: no column
//!                                    LazyMemory: value
//! ```
//!
//! The encoding of `LazyMemoryExec` contains only the generator, so a decoded `LazyMemoryExec` always has the
//! generator's column. An empty projection above it drops the column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// Moves the empty projection of every generated series into an operator of its own.
#[derive(Debug)]
pub struct EncodableGeneratorsRule;

impl PhysicalOptimizerRule for EncodableGeneratorsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<LazyMemoryExec>() {
            Some(series) if series.schema().fields().is_empty() => {
                let whole = LazyMemoryExec::try_new(generated_schema(series)?, series.generators().clone())?;
                let nothing = Vec::<ProjectionExpr>::new();
                Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(nothing, Arc::new(whole))?) as _))
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "encodable_generators"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The schema of the generated rows, from the first batch of a copy of the generator.
fn generated_schema(series: &LazyMemoryExec) -> Result<SchemaRef> {
    for generator in series.generators() {
        let copy = generator.read().reset_state();
        let batch = copy.write().generate_next_batch()?;
        if let Some(batch) = batch {
            return Ok(batch.schema());
        }
    }
    // A series without rows may have a column of any type.
    Ok(Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)])))
}
