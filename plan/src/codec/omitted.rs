//! What DataFusion 55's encoding of plans leaves out, to be sent beside them: of window functions IGNORE NULLS and whether
//! they run backwards; of aggregations grouping sets without columns; of scans compression and two variants of formats.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{GetExt, Result, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::ReversedUDWF;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::window::{
    PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr, create_udwf_window_expr};
use hwacha_proto::exchange::{ScanRest, SinkNode, WindowFunctionRest};

use crate::localize::file_scan;

/// One entry per window function of the plan; none when nothing is left out.
pub(super) fn window_functions(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<WindowFunctionRest>> {
    let mut rests = vec![];
    plan.apply(|node| {
        rests.extend(functions(node).unwrap_or_default().iter().map(|function| rest(function.as_ref())));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = rests.iter().all(|rest| *rest == WindowFunctionRest::default());
    Ok(if nothing { vec![] } else { rests })
}

/// One entry per aggregation of the plan; none when nothing is left out.
pub(super) fn empty_grouping_sets(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u32>> {
    let mut counts = vec![];
    plan.apply(|node| {
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            let groups = aggregate.group_expr();
            let are_empty = groups.has_grouping_set() && groups.expr().is_empty();
            counts.push(if are_empty { groups.groups().len() as u32 } else { 0 });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = counts.iter().all(|count| *count == 0);
    Ok(if nothing { vec![] } else { counts })
}

/// One entry per scan of files; none when nothing is left out.
pub(super) fn scans(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<ScanRest>> {
    let mut rests = vec![];
    plan.apply(|node| {
        rests.extend(file_scan(node).map(scan_rest));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = rests.iter().all(|rest| *rest == ScanRest::default());
    Ok(if nothing { vec![] } else { rests })
}

/// Gives the decoded plan below a sink back what its encoding left out.
pub(super) fn restore(sink: &SinkNode, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut rests = sink.window_functions.iter();
    let mut counts = sink.empty_grouping_sets.iter();
    let mut scans = sink.scans.iter();
    plan.transform_down(|node| {
        if let Some(functions) = functions(&node) {
            let rests: Vec<_> = rests.by_ref().take(functions.len()).collect();
            if rests.iter().any(|rest| **rest != WindowFunctionRest::default()) {
                return with_rests(&node, functions, &rests).map(Transformed::yes);
            }
        } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>()
            && let Some(count) = counts.next().filter(|count| **count > 0)
        {
            return with_empty_grouping_sets(aggregate, *count as usize).map(Transformed::yes);
        } else if let Some(scan) = file_scan(&node)
            && let Some(rest) = scans.next().filter(|rest| **rest != ScanRest::default())
        {
            return with_scan_rest(scan, rest).map(Transformed::yes);
        }
        Ok(Transformed::no(node))
    })
    .data()
}

/// The functions of a window operator.
fn functions(node: &Arc<dyn ExecutionPlan>) -> Option<&[Arc<dyn WindowExpr>]> {
    let bounded = node.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr);
    bounded.or_else(|| node.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr))
}

fn aggregate(function: &dyn WindowExpr) -> Option<&AggregateFunctionExpr> {
    let function = function.as_any();
    let plain = function.downcast_ref::<PlainAggregateWindowExpr>().map(PlainAggregateWindowExpr::get_aggregate_expr);
    let sliding = || function.downcast_ref::<SlidingAggregateWindowExpr>();
    plain.or_else(|| sliding().map(SlidingAggregateWindowExpr::get_aggregate_expr))
}

fn standard(function: &dyn WindowExpr) -> Option<&WindowUDFExpr> {
    let function = function.as_any().downcast_ref::<StandardWindowExpr>()?;
    function.get_standard_func_expr().as_any().downcast_ref()
}

fn rest(function: &dyn WindowExpr) -> WindowFunctionRest {
    if let Some(aggregate) = aggregate(function) {
        return WindowFunctionRest { ignore_nulls: false, reversed: aggregate.is_reversed() };
    }
    let Some(standard) = standard(function) else { return WindowFunctionRest::default() };
    // These two have no accessors; the derived form for debugging ends in them.
    let shown = format!("{standard:?}");
    WindowFunctionRest {
        ignore_nulls: shown.ends_with("ignore_nulls: true }"),
        reversed: shown.contains("is_reversed: true, ignore_nulls: "),
    }
}

fn with_rests(
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
    let frame = Arc::clone(function.get_window_frame());
    if let Some(found) = aggregate(function.as_ref()) {
        let found = Arc::new(if rest.reversed { reversed_aggregate(found, input)? } else { found.clone() });
        return Ok(match function.as_any().is::<PlainAggregateWindowExpr>() {
            true => Arc::new(PlainAggregateWindowExpr::new(found, partition_by, order_by, frame, None)),
            false => Arc::new(SlidingAggregateWindowExpr::new(found, partition_by, order_by, frame, None)),
        });
    }
    let Some(found) = standard(function.as_ref()) else {
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
    // What runs backwards can only be made by turning round what runs forwards.
    let ReversedUDWF::Reversed(forwards) = function.fun().reverse_expr() else {
        return internal_err!("window function {} cannot run backwards", function.name());
    };
    let Some(backwards) = create(&forwards)?.reverse_expr() else {
        return internal_err!("window function {} cannot run backwards", function.name());
    };
    Ok(backwards)
}

fn with_empty_grouping_sets(aggregate: &AggregateExec, count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let groups = PhysicalGroupBy::new(vec![], vec![], vec![vec![]; count], true);
    Ok(Arc::new(AggregateExec::try_new(
        *aggregate.mode(),
        groups,
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        aggregate.input_schema(),
    )?))
}

/// What the source of Arrow data without a footer calls itself.
const ARROW_STREAM: &str = "arrow_stream";

fn scan_rest(scan: &FileScanConfig) -> ScanRest {
    let source = scan.file_source();
    ScanRest {
        compression: scan.file_compression_type.get_ext().trim_start_matches('.').to_owned(),
        csv_terminator: source.downcast_ref::<CsvSource>().and_then(CsvSource::terminator).map(u32::from),
        arrow_stream: source.file_type() == ARROW_STREAM,
    }
}

fn with_scan_rest(scan: &FileScanConfig, rest: &ScanRest) -> Result<Arc<dyn ExecutionPlan>> {
    let mut source = Arc::clone(scan.file_source());
    if let Some(csv) = source.downcast_ref::<CsvSource>() {
        source = Arc::new(csv.with_terminator(rest.csv_terminator.map(|byte| byte as u8)));
    } else if rest.arrow_stream {
        let stream = ArrowSource::new_stream_file_source(source.table_schema().clone());
        source = match source.projection() {
            Some(projection) => stream.try_pushdown_projection(projection)?.unwrap_or_else(|| Arc::new(stream)),
            None => Arc::new(stream),
        };
    }
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_source(source)
        .with_file_compression_type(FileCompressionType::from_str(&rest.compression)?)
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}
