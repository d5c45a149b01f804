//! Stops DataFusion from testing filters on wrong columns and below limits (docs/decisions/005).
//!
//! DataFusion pushes filters down from node to node: filters of the query, and filters that joins, sorts and
//! aggregations make at run time. It looks up the columns of a filter by name in the input of each node. If two
//! columns have the same name, the join keys of one table can drop rows of another table:
//!
//! ```text
//!   Join: e.g = b.g            makes a filter on b.g from the keys of e
//!     Scan: e
//!     Join: c.k = a.k          passes the filter on, by the name g
//!       Scan: c
//!       Join: a.id = b.id      has the columns a.g and b.g, and takes a.g for the column g
//!         Scan: a              drops rows whose a.g is not among the keys of e
//!         Scan: b
//! ```
//!
//! DataFusion also pushes filters below nodes that keep a limited number of rows. The limit then counts only rows that
//! pass the filter, so it keeps different rows. While DataFusion's rule runs, gates stand above nodes with a limit, and
//! above nodes that would resolve the name of a filter's column to a wrong column.

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

/// DataFusion's rule for filter pushdown, run on a plan with gates. The gates are removed afterwards.
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

/// Puts a gate above each input of `plan` that needs one.
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

/// The column names of `plan` under which DataFusion would find a wrong column, in `plan` itself or in its input.
fn misleading(plan: &Arc<dyn ExecutionPlan>) -> HashSet<String> {
    let mut names = repeated(&plan.schema());
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        // A `FilterExec` evaluates the filters that its input refuses, and looks up their columns by name.
        names.extend(repeated(&filter.input().schema()));
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let input = aggregate.input().schema();
        let groups = aggregate.group_expr().expr().iter();
        names.extend(groups.filter(|(expr, name)| !is_named(&input, name, expr)).map(|(_, name)| name.clone()));
    }
    names
}

/// The key names of a semi join that mean another column in the input with index `input`. A semi join outputs the rows
/// of one input. DataFusion also pushes filters on the join's keys into the other input, and looks up the keys there by
/// name. Example: with `a LEFT SEMI JOIN b ON a.g = b.k`, a filter on `a.g` must not test a column `b.g`.
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

/// Whether `name` means the column `expr` in `schema`. Also true if `schema` has no column with this name.
fn is_named(schema: &Schema, name: &str, expr: &Arc<dyn PhysicalExpr>) -> bool {
    let column = expr.downcast_ref::<Column>().map(Column::index);
    schema.index_of(name).map_or(true, |index| column == Some(index))
}

fn repeated(schema: &Schema) -> HashSet<String> {
    let mut seen = HashSet::new();
    let names = schema.fields().iter().map(|field| field.name());
    names.filter(|name| !seen.insert(name.as_str())).cloned().collect()
}

/// Passes the rows of its input on, and stops pushed filters: all, or those on columns with certain names.
type FilterGateExec = PassThroughExec<FilterGate>;

#[derive(Clone, Debug)]
struct FilterGate {
    /// Filters on columns with these names are stopped.
    names: HashSet<String>,
    /// Whether all filters are stopped.
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
