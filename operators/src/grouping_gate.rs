//! A gate above aggregations by grouping sets. It passes the rows on and hides the properties that DataFusion claims
//! for these rows.
//!
//! DataFusion copies properties of the input to the output of such an aggregation (apache/datafusion#16965): columns
//! are constant, equal to each other, ordered or unique, or rows are partitioned by them. But the rows of a set have
//! NULL in the columns that the set leaves out. Example: `SELECT a, count(*) FROM t WHERE a = 0 GROUP BY ROLLUP (a)`
//! gives the rows 0 and NULL, but DataFusion treats `a` as a constant:
//!
//! - The final aggregation treats its input as sorted by `a` and emits a group as soon as `a` changes, so the output
//!   has a group several times.
//! - ORDER BY and windows over `a` sort nothing.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::filter_pushdown::FilterDescription;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};

use crate::pass_through::{PassThrough, PassThroughExec};

/// Gives its input's rows and claims no order, partitioning or constants for them.
pub type GroupingGateExec = PassThroughExec<GroupingGate>;

/// The kind of a [`GroupingGateExec`].
#[derive(Clone, Debug)]
pub struct GroupingGate;

impl PassThrough for GroupingGate {
    const NAME: &'static str = "GroupingGateExec";

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
        Arc::new(PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        ))
    }

    fn keeps_order(&self) -> bool {
        false
    }

    fn tells_statistics(&self) -> bool {
        true
    }

    /// All filters pass. The aggregation below knows which columns are in all of its sets.
    fn filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        input: &Arc<dyn ExecutionPlan>,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &[input])
    }
}
