//! Statistics inside reports.

use hwacha_model::{HeavyPartition, StoreUse, TaskStats};

use crate::control;

impl From<TaskStats> for control::TaskStats {
    fn from(stats: TaskStats) -> Self {
        Self {
            output_rows: stats.output_rows,
            output_bytes: stats.output_bytes,
            heavy: stats
                .heavy
                .into_iter()
                .map(|heavy| control::HeavyPartition { partition: heavy.partition, bytes: heavy.bytes })
                .collect(),
            received_bytes: stats.received_bytes,
            spilled_bytes: stats.spilled_bytes,
            compute_nanos: stats.compute_nanos,
            store: Some(stats.store.into()),
        }
    }
}

impl From<control::TaskStats> for TaskStats {
    fn from(stats: control::TaskStats) -> Self {
        Self {
            output_rows: stats.output_rows,
            output_bytes: stats.output_bytes,
            heavy: stats
                .heavy
                .into_iter()
                .map(|heavy| HeavyPartition { partition: heavy.partition, bytes: heavy.bytes })
                .collect(),
            received_bytes: stats.received_bytes,
            spilled_bytes: stats.spilled_bytes,
            compute_nanos: stats.compute_nanos,
            store: stats.store.unwrap_or_default().into(),
        }
    }
}

impl From<StoreUse> for control::StoreUse {
    fn from(used: StoreUse) -> Self {
        let StoreUse { requests, retries, bytes, cached_bytes, wait_nanos } = used;
        Self { requests, retries, bytes, cached_bytes, wait_nanos }
    }
}

impl From<control::StoreUse> for StoreUse {
    fn from(used: control::StoreUse) -> Self {
        let control::StoreUse { requests, retries, bytes, cached_bytes, wait_nanos } = used;
        Self { requests, retries, bytes, cached_bytes, wait_nanos }
    }
}
