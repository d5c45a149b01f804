//! Reads what the operators of a plan have measured, in a form that crosses the wire.

use std::sync::Arc;

use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use hwacha_proto::control::OperatorMetrics;

/// The measurements of every operator of `plan`, in pre-order.
pub fn operator_metrics(plan: &Arc<dyn ExecutionPlan>) -> Vec<OperatorMetrics> {
    let mut operators = vec![];
    collect(plan, 0, &mut operators);
    operators
}

fn collect(plan: &Arc<dyn ExecutionPlan>, depth: u32, operators: &mut Vec<OperatorMetrics>) {
    let label = displayable(plan.as_ref()).one_line().to_string().trim_end().to_owned();
    let mut operator = OperatorMetrics { depth, label, ..Default::default() };
    for metric in plan.metrics().iter().flat_map(|metrics| metrics.iter()) {
        match metric.value() {
            MetricValue::OutputRows(count) => operator.output_rows += count.value() as u64,
            MetricValue::OutputBytes(count) => operator.output_bytes += count.value() as u64,
            MetricValue::ElapsedCompute(time) => operator.compute_nanos += time.value() as u64,
            MetricValue::SpilledBytes(count) => operator.spilled_bytes += count.value() as u64,
            MetricValue::Count { name, count } if name == "exchange_bytes" => {
                operator.output_bytes += count.value() as u64;
            }
            MetricValue::Time { name, time } if name == "partition_time" => {
                operator.compute_nanos += time.value() as u64;
            }
            _ => {}
        }
    }
    operators.push(operator);
    for child in plan.children() {
        collect(child, depth + 1, operators);
    }
}

/// Bytes that the operators of `plan` have written to spill files.
pub fn spilled_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0) as u64;
    own + plan.children().into_iter().map(spilled_bytes).sum::<u64>()
}
