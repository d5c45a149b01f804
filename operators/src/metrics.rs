//! Reads the metrics of a plan's operators into their wire form.

use std::sync::Arc;

use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use hwacha_model::StoreUse;
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
    operator.store = Some(store_use(plan)).filter(|used| *used != StoreUse::default()).map(Into::into);
    operators.push(operator);
    for child in plan.children() {
        collect(child, depth + 1, operators);
    }
}

/// Rows that all operators of `plan` have emitted so far, added up.
pub fn given_rows(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.output_rows()).unwrap_or(0) as u64;
    own + plan.children().into_iter().map(given_rows).sum::<u64>()
}

/// The cost of all operators of a plan together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes written to spill files.
    pub spilled_bytes: u64,
    /// Compute time in nanoseconds, on all cores together.
    pub compute_nanos: u64,
    pub store: StoreUse,
}

/// What one operator asked of the stores of remote files, by the metrics of [`hwacha_storage::Usage`].
fn store_use(operator: &Arc<dyn ExecutionPlan>) -> StoreUse {
    let mut used = StoreUse::default();
    for metric in operator.metrics().iter().flat_map(|metrics| metrics.iter()) {
        let value = metric.value().as_usize() as u64;
        match metric.value().name() {
            "store_requests" => used.requests += value,
            "store_retries" => used.retries += value,
            "store_bytes" => used.bytes += value,
            "cached_bytes" => used.cached_bytes += value,
            "store_wait" => used.wait_nanos += value,
            _ => {}
        }
    }
    used
}

impl Cost {
    /// The cost of running `plan` so far.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut cost = Self::default();
        if let Some(metrics) = plan.metrics() {
            cost.spilled_bytes = metrics.spilled_bytes().unwrap_or(0) as u64;
            cost.compute_nanos = metrics.elapsed_compute().unwrap_or(0) as u64;
        }
        cost.store = store_use(plan);
        plan.children().into_iter().map(Self::of).fold(cost, Self::with)
    }

    /// The sum of both costs.
    pub fn with(self, other: Self) -> Self {
        Self {
            spilled_bytes: self.spilled_bytes + other.spilled_bytes,
            compute_nanos: self.compute_nanos + other.compute_nanos,
            store: self.store.with(other.store),
        }
    }
}
