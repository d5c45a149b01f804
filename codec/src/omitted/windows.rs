//! Window functions: IGNORE NULLS, whether they run backwards, and frame bounds that DataFusion's encoding changes.
//!
//! Example: the encoding changes a bound of type Float16. `RANGE BETWEEN 1 PRECEDING AND CURRENT ROW`
//! over Float16 keys would then select other rows without an error.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{ReversedUDWF, WindowFrame, WindowFrameBound};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::window::{
    PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr, create_udwf_window_expr};
use hwacha_operators::scalars::{decode_scalar, encode_scalar, survives};
use hwacha_operators::tree::{WindowWalk, window_function};
use hwacha_proto::exchange::{Scalar, WindowFunctionRest};

/// One entry per window function of the plan. The list is empty if DataFusion's encoding of all functions is complete.
pub(crate) fn window_functions(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<WindowFunctionRest>> {
    let mut rests = vec![];
    plan.apply(|node| {
        for function in functions(node).unwrap_or_default() {
            let frame = function.get_window_frame();
            let (start, end) = (rest_of_bound(&frame.start_bound)?, rest_of_bound(&frame.end_bound)?);
            rests.push(WindowFunctionRest { start, end, ..rest(function.as_ref())? });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = rests.iter().all(|rest| *rest == WindowFunctionRest::default());
    Ok(if nothing { vec![] } else { rests })
}

/// The functions of a window operator.
pub(crate) fn functions(node: &Arc<dyn ExecutionPlan>) -> Option<&[Arc<dyn WindowExpr>]> {
    let bounded = node.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr);
    bounded.or_else(|| node.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr))
}

fn aggregate(function: &dyn WindowExpr) -> Option<&AggregateFunctionExpr> {
    let function = function.as_any();
    let plain = function.downcast_ref::<PlainAggregateWindowExpr>().map(PlainAggregateWindowExpr::get_aggregate_expr);
    let sliding = || function.downcast_ref::<SlidingAggregateWindowExpr>();
    plain.or_else(|| sliding().map(SlidingAggregateWindowExpr::get_aggregate_expr))
}

fn rest(function: &dyn WindowExpr) -> Result<WindowFunctionRest> {
    if let Some(aggregate) = aggregate(function) {
        return Ok(WindowFunctionRest { reversed: aggregate.is_reversed(), ..WindowFunctionRest::default() });
    }
    let Some(standard) = window_function(function) else { return Ok(WindowFunctionRest::default()) };
    let WindowWalk { is_reversed: reversed, ignores_nulls: ignore_nulls } = WindowWalk::of(standard)?;
    Ok(WindowFunctionRest { ignore_nulls, reversed, ..WindowFunctionRest::default() })
}

/// The value of a bound if DataFusion's encoding changes it.
fn rest_of_bound(bound: &WindowFrameBound) -> Result<Option<Scalar>> {
    match bound {
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) if !survives(value) => {
            encode_scalar(value).map(Some)
        }
        _ => Ok(None),
    }
}

fn restored_frame(frame: &Arc<WindowFrame>, rest: &WindowFunctionRest) -> Result<Arc<WindowFrame>> {
    let bound = |bound: &WindowFrameBound, value: &Option<Scalar>| -> Result<WindowFrameBound> {
        let Some(value) = value else { return Ok(bound.clone()) };
        Ok(match bound {
            WindowFrameBound::Preceding(_) => WindowFrameBound::Preceding(decode_scalar(value)?),
            WindowFrameBound::Following(_) => WindowFrameBound::Following(decode_scalar(value)?),
            WindowFrameBound::CurrentRow => return internal_err!("the current row has come with a distance"),
        })
    };
    let (start, end) = (bound(&frame.start_bound, &rest.start)?, bound(&frame.end_bound, &rest.end)?);
    Ok(Arc::new(WindowFrame::new_bounds(frame.units, start, end)))
}

pub(super) fn with_rests(
    node: &Arc<dyn ExecutionPlan>,
    functions: &[Arc<dyn WindowExpr>],
    rests: &[&WindowFunctionRest],
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = Arc::clone(node.children()[0]);
    let functions = functions.iter().zip(rests).map(|(function, rest)| with_rest(function, rest, &input));
    let functions = functions.collect::<Result<Vec<_>>>()?;
    if let Some(bounded) = node.downcast_ref::<BoundedWindowAggExec>() {
        let (mode, parallel) = (bounded.input_order_mode.clone(), !bounded.partition_keys().is_empty());
        return Ok(Arc::new(BoundedWindowAggExec::try_new(functions, input, mode, parallel)?));
    }
    let parallel = functions.iter().all(|function| !function.partition_by().is_empty());
    Ok(Arc::new(WindowAggExec::try_new(functions, input, parallel)?))
}

fn with_rest(
    function: &Arc<dyn WindowExpr>,
    rest: &WindowFunctionRest,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn WindowExpr>> {
    let (partition_by, order_by) = (function.partition_by(), function.order_by());
    let frame = restored_frame(function.get_window_frame(), rest)?;
    if let Some(found) = aggregate(function.as_ref()) {
        let found = Arc::new(if rest.reversed { reversed_aggregate(found, input)? } else { found.clone() });
        return Ok(match function.as_any().is::<PlainAggregateWindowExpr>() {
            true => Arc::new(PlainAggregateWindowExpr::new(found, partition_by, order_by, frame, None)),
            false => Arc::new(SlidingAggregateWindowExpr::new(found, partition_by, order_by, frame, None)),
        });
    }
    let Some(found) = window_function(function.as_ref()) else {
        return internal_err!("window function {} has lost what it is", function.name());
    };
    let found = restored_standard(found, rest, input)?;
    Ok(Arc::new(StandardWindowExpr::new(found, partition_by, order_by, frame)))
}

fn reversed_aggregate(
    aggregate: &AggregateFunctionExpr,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<AggregateFunctionExpr> {
    AggregateExprBuilder::new(Arc::new(aggregate.fun().clone()), aggregate.expressions())
        .schema(input.schema())
        .alias(aggregate.name())
        .with_ignore_nulls(aggregate.ignore_nulls())
        .with_distinct(aggregate.is_distinct())
        .with_reversed(true)
        .build()
}

fn restored_standard(
    function: &WindowUDFExpr,
    rest: &WindowFunctionRest,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn StandardWindowFunctionExpr>> {
    let create =
        |fun| create_udwf_window_expr(fun, function.args(), &input.schema(), function.name().into(), rest.ignore_nulls);
    if !rest.reversed {
        return create(function.fun());
    }
    // A backward function can only be made by reversing a forward one.
    let ReversedUDWF::Reversed(forwards) = function.fun().reverse_expr() else {
        return internal_err!("window function {} cannot run backwards", function.name());
    };
    let Some(backwards) = create(&forwards)?.reverse_expr() else {
        return internal_err!("window function {} cannot run backwards", function.name());
    };
    Ok(backwards)
}
