//! Operators that return their input's rows. A kind defines what differs (name, properties, filters); the rest is here.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};

use crate::tree::only_input;

/// A kind of operator that gives its input's rows.
pub trait PassThrough: Clone + fmt::Debug + Send + Sync + 'static {
    /// The operator's name in EXPLAIN.
    const NAME: &'static str;

    /// What EXPLAIN shows after the name.
    fn details(&self) -> String {
        String::new()
    }

    /// The properties of the rows, such as their order and partitioning. By default, the properties of the input.
    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
        Arc::clone(input.properties())
    }

    /// Whether operators above may rely on the input's order.
    fn keeps_order(&self) -> bool {
        true
    }

    /// Whether the operator reports the input's statistics and row count to rules.
    fn tells_statistics(&self) -> bool {
        false
    }

    /// Which filters from above may be pushed down into the input. By default, none.
    fn filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        input: &Arc<dyn ExecutionPlan>,
    ) -> Result<FilterDescription> {
        Ok(FilterDescription::all_unsupported(&filters, &[input]))
    }

    /// Converts the stream of the input's rows. By default, the stream stays as it is.
    fn rows(&self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        rows
    }
}

/// Gives its input's rows.
#[derive(Debug)]
pub struct PassThroughExec<K> {
    kind: K,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl<K: PassThrough> PassThroughExec<K> {
    pub fn new(input: Arc<dyn ExecutionPlan>, kind: K) -> Self {
        let properties = kind.properties(&input);
        Self { kind, input, properties }
    }

    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    pub fn kind(&self) -> &K {
        &self.kind
    }
}

impl<K: PassThrough> DisplayAs for PassThroughExec<K> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", K::NAME, self.kind.details())
    }
}

impl<K: PassThrough> ExecutionPlan for PassThroughExec<K> {
    fn name(&self) -> &str {
        K::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.kind.keeps_order()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(only_input(&*self, children)?, self.kind.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(self.kind.rows(self.input.execute(partition, context)?))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![if self.kind.tells_statistics() { ChildStats::At(partition) } else { ChildStats::Skip }]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(match inputs {
            [input] if self.kind.tells_statistics() => Arc::clone(input),
            _ => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        if self.kind.tells_statistics() { CardinalityEffect::Equal } else { CardinalityEffect::Unknown }
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        self.kind.filters(filters, &self.input)
    }
}
