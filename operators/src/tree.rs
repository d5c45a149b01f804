//! Helpers for plan trees and for the expressions of their nodes.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, internal_datafusion_err, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::windows::WindowUDFExpr;

/// The same operator over other children. All its properties are computed again.
pub fn with_children(
    plan: &Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(plan).replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// The only one of `children`, which are the new inputs of `node`; an error for any other number of inputs.
pub(crate) fn only_input(
    node: &impl ExecutionPlan,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    match <[_; 1]>::try_from(children) {
        Ok([input]) => Ok(input),
        Err(others) => internal_err!("{} has one input, not {}", node.name(), others.len()),
    }
}

/// Whether any expression of `plan` reads a scalar subquery's value.
pub fn reads_scalar_subquery(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(&mut |expr| {
            found |= reads_a_scalar_subquery([expr])?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(found)
    })
}

/// Whether one of the expressions reads a scalar subquery's value.
pub fn reads_a_scalar_subquery<'a>(exprs: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>) -> Result<bool> {
    for expr in exprs {
        if expr.exists(|expr| Ok(expr.is::<ScalarSubqueryExpr>()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The function of a window expression if it is a window function, such as `rank`; `None` for an aggregate.
pub fn window_function(expr: &dyn WindowExpr) -> Option<&WindowUDFExpr> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>()?;
    standard.get_standard_func_expr().as_any().downcast_ref()
}

/// How a window function that does not aggregate walks through its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowWalk {
    /// From the last row to the first.
    pub is_reversed: bool,
    /// IGNORE NULLS.
    pub ignores_nulls: bool,
}

impl WindowWalk {
    /// Reads both flags from the debug text, because DataFusion has no accessors for them. Only the end of the text
    /// is compared: the arguments come before it and may hold any text.
    pub fn of(function: &WindowUDFExpr) -> Result<Self> {
        let text = format!("{function:?}");
        let flags = [false, true].into_iter().flat_map(|first| [(first, false), (first, true)]);
        let mut walks = flags.map(|(is_reversed, ignores_nulls)| Self { is_reversed, ignores_nulls });
        let walk = walks.find(|walk| {
            text.ends_with(&format!("is_reversed: {}, ignore_nulls: {} }}", walk.is_reversed, walk.ignores_nulls))
        });
        walk.ok_or_else(|| internal_datafusion_err!("the fields of a window function are not where they are expected"))
    }
}

/// `expr` with each column moved to the position that `place` gives for it. `schema` belongs to the new positions.
pub fn at_positions(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
    place: impl Fn(usize) -> usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform(|node| match node.downcast_ref::<Column>() {
            Some(column) => {
                let index = place(column.index());
                let moved = Column::new(schema.field(index).name(), index);
                Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>))
            }
            None => Ok(Transformed::no(node)),
        })
        .data()
}

/// The position that a column has before a node's own projection. Without a projection, the position is the same.
pub fn unprojected(projection: Option<&[usize]>, column: usize) -> usize {
    projection.map_or(column, |projection| projection[column])
}

/// Number of columns that come from a join's left side, before the join's own projection: `usize::MAX` if all do.
/// `None` for mark joins, whose mark comes from neither side.
pub fn left_columns(join: &HashJoinExec) -> Option<usize> {
    match join.join_type() {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            Some(join.left().schema().fields().len())
        }
        JoinType::LeftSemi | JoinType::LeftAnti => Some(usize::MAX),
        JoinType::RightSemi | JoinType::RightAnti => Some(0),
        JoinType::LeftMark | JoinType::RightMark => None,
    }
}
