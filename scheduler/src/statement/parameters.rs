//! The parameters of a statement, and their types.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The placeholders of a plan, ordered by number, with the types of their values.
///
/// If a placeholder has different types in several places, its type is the type in which values of these types are
/// compared. (DataFusion refuses such a placeholder.) A placeholder in LIMIT is a 64-bit integer. A placeholder of
/// unknown type is text.
pub(super) fn asked_for(plan: &LogicalPlan) -> Result<Schema> {
    let mut found: BTreeMap<(usize, String), Option<DataType>> = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        let is_limit = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|whole| {
            whole.apply(|expr| {
                if let Expr::Placeholder(Placeholder { id, field }) = expr {
                    let number = id.trim_start_matches('$').parse().unwrap_or(usize::MAX);
                    let known = found.entry((number, id.clone())).or_default();
                    let here = field.as_ref().map(|field| field.data_type().clone());
                    *known = joined(known.take(), here.or_else(|| is_limit.then_some(DataType::Int64)));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let field = |((_, id), data_type): (_, Option<DataType>)| Field::new(id, data_type.unwrap_or(DataType::Utf8), true);
    Ok(Schema::new(found.into_iter().map(field).collect::<Vec<_>>()))
}

fn joined(one: Option<DataType>, other: Option<DataType>) -> Option<DataType> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Some(comparison_coercion(&one, &other).unwrap_or(DataType::Utf8)),
        (one, other) => one.or(other),
    }
}
