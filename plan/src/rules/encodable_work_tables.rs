//! Gives the work tables of recursive queries a form that can be encoded.
//!
//! ```text
//!   WorkTable: b    ->    Projection: b
//!                           WorkTable: a, b
//! ```
//!
//! A projected `WorkTableExec` has only the names of the selected columns, not their positions. So the rule refuses a
//! query in which several columns have the same selected name.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, not_impl_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::work_table::WorkTableExec;

/// Moves the projection of every work table into an operator of its own.
#[derive(Debug)]
pub struct EncodableWorkTablesRule;

impl PhysicalOptimizerRule for EncodableWorkTablesRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| {
            let Some(query) = node.downcast_ref::<RecursiveQueryExec>() else {
                return Ok(Transformed::no(node));
            };
            let recursive = widen(Arc::clone(query.recursive_term()), query.name(), &query.schema())?;
            let widened = RecursiveQueryExec::try_new(
                query.name().to_owned(),
                query.schema(),
                Arc::clone(query.static_term()),
                recursive,
                query.is_distinct(),
            )?;
            Ok(Transformed::yes(Arc::new(widened) as Arc<dyn ExecutionPlan>))
        })
        .data()
    }

    fn name(&self) -> &str {
        "encodable_work_tables"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn widen(plan: Arc<dyn ExecutionPlan>, name: &str, full: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| match node.downcast_ref::<WorkTableExec>() {
        Some(table) if table.name() == name && table.schema().fields() != full.fields() => {
            let columns = columns(&table.schema(), full, name)?;
            let table = WorkTableExec::new(name.to_owned(), Arc::clone(full), None)?;
            Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(columns, Arc::new(table))?) as _))
        }
        _ => Ok(Transformed::no(node)),
    })
    .data()
}

fn columns(picked: &Schema, full: &Schema, name: &str) -> Result<Vec<(Arc<dyn PhysicalExpr>, String)>> {
    picked
        .fields()
        .iter()
        .map(|field| {
            if full.fields().iter().filter(|other| other.name() == field.name()).count() != 1 {
                return not_impl_err!(
                    "the recursive query \"{name}\" has more than one column named \"{}\"; give each column its own \
                     name",
                    field.name()
                );
            }
            let column = Column::new_with_schema(field.name(), full)?;
            Ok((Arc::new(column) as Arc<dyn PhysicalExpr>, field.name().clone()))
        })
        .collect()
}
