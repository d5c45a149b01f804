//! Keeps filters from the wrong columns, and from rows that are limited.
//!
//! DataFusion pushes filters down from node to node: a query's own, and those that joins, sorts and aggregations make as
//! they run. It finds a filter's columns in a node's input by their names. Where two columns have one name, the keys of one
//! table drop rows of another:
//!
//! ```text
//!   Join: e.g = b.g            filter on column 3, g
//!     Scan: e
//!     Join: c.k = a.k          filter on column 3, g, which below is the first g: column 1
//!       Scan: c
//!       Join: a.id = b.id      columns a.g, b.g
//!         Scan: a              g in the keys of e
//! ```
//!
//! It also pushes them below nodes that keep only so many rows, which then keep others. While it does so, gates stand where
//! a name means something else below, and above limits.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{ChildFilterDescription, FilterDescription};
use datafusion::physical_plan::joins::HashJoinExec;
use hwacha_operators::pass_through::{PassThrough, PassThroughExec};
use hwacha_operators::tree::with_children;

/// A rule of DataFusion that pushes filters, among gates.
#[derive(Debug)]
pub struct GatedFiltersRule(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for GatedFiltersRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let gated = plan.transform_up(with_gates).data()?;
        let pushed = self.0.optimize(gated, config)?;
        pushed
            .transform_up(|node| match node.downcast_ref::<FilterGateExec>() {
                Some(gate) => Ok(Transformed::yes(Arc::clone(gate.input()))),
                None => Ok(Transformed::no(node)),
            })
            .data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// `plan` with gates above those of its inputs that need one.
fn with_gates(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let gates = plan.children().into_iter().enumerate().map(|(index, input)| {
        let mut names = misleading(input);
        names.extend(misleading_key(&plan, index));
        let shut = input.fetch().is_some();
        (shut || !names.is_empty()).then(|| FilterGateExec::new(Arc::clone(input), FilterGate { names, shut }))
    });
    let gates: Vec<_> = gates.collect();
    if gates.iter().all(Option::is_none) {
        return Ok(Transformed::no(plan));
    }
    let inputs = gates.into_iter().zip(plan.children()).map(|(gate, input)| match gate {
        Some(gate) => Arc::new(gate),
        None => Arc::clone(input),
    });
    let inputs = inputs.collect();
    Ok(Transformed::yes(with_children(&plan, inputs)?))
}

/// The names of columns of `plan` that DataFusion would find another column by, in it or below.
fn misleading(plan: &Arc<dyn ExecutionPlan>) -> HashSet<String> {
    let mut names = repeated(&plan.schema());
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        // It takes what its input refuses back by names.
        names.extend(repeated(&filter.input().schema()));
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let input = aggregate.input().schema();
        let groups = aggregate.group_expr().expr().iter();
        names.extend(groups.filter(|(expr, name)| !is_named(&input, name, expr)).map(|(_, name)| name.clone()));
    }
    names
}

/// The keys of a semi join that has them from the input whose rows it gives, and would be tested in the other.
fn misleading_key(plan: &Arc<dyn ExecutionPlan>, input: usize) -> Vec<String> {
    let Some(join) = plan.downcast_ref::<HashJoinExec>() else { return vec![] };
    let keys = join.on().iter().map(|(left, right)| match join.join_type() {
        JoinType::LeftSemi if input == 1 => Some((left, right)),
        JoinType::RightSemi if input == 0 => Some((right, left)),
        _ => None,
    });
    let other = plan.children()[input].schema();
    let named = keys.flatten().filter_map(|(given, tested)| {
        let name = given.downcast_ref::<Column>()?.name();
        (!is_named(&other, name, tested)).then(|| name.to_owned())
    });
    named.collect()
}

/// Whether a name, if `schema` has it at all, is that of `expr` there.
fn is_named(schema: &Schema, name: &str, expr: &Arc<dyn PhysicalExpr>) -> bool {
    let column = expr.downcast_ref::<Column>().map(Column::index);
    schema.index_of(name).map_or(true, |index| column == Some(index))
}

fn repeated(schema: &Schema) -> HashSet<String> {
    let mut seen = HashSet::new();
    let names = schema.fields().iter().map(|field| field.name());
    names.filter(|name| !seen.insert(name.as_str())).cloned().collect()
}

/// Gives its input's rows, and lets filters pass that do not look at columns of certain names.
type FilterGateExec = PassThroughExec<FilterGate>;

#[derive(Clone, Debug)]
struct FilterGate {
    names: HashSet<String>,
    /// Whether no filter passes.
    shut: bool,
}

impl PassThrough for FilterGate {
    const NAME: &'static str = "FilterGateExec";

    fn filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        input: &Arc<dyn ExecutionPlan>,
    ) -> Result<FilterDescription> {
        if self.shut {
            return Ok(FilterDescription::all_unsupported(&filters, &[input]));
        }
        let schema = input.schema();
        let fields = schema.fields().iter().enumerate();
        let open = fields.filter(|(_, field)| !self.names.contains(field.name())).map(|(index, _)| index).collect();
        let passing = ChildFilterDescription::from_child_with_allowed_indices(&filters, open, input)?;
        Ok(FilterDescription::new().with_child(passing))
    }
}
