//! Which remote files each task reads, as one number, so that the task goes to the executor whose cache has them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use hwacha_model::{OutputKind, StageId};
use hwacha_operators::scan::{FileRows, ScanLayout, file_scan, scan_layout};

use super::StagePlan;
use super::adaptivity::sources;

/// The numbers of [`hwacha_model::Stage::reads`] of `stage`, given the plan and the task count of each stage. A task that
/// reads what another stage forwards has the number of the task that forwards it, so that the rows stay on one executor.
pub(super) fn cached_reads(stages: &dyn Fn(StageId) -> (StagePlan, usize), stage: StageId) -> Vec<u64> {
    let (plan, tasks) = stages(stage);
    let mut scans = vec![];
    remote_scans(&plan, &mut scans);
    if scans.is_empty() {
        let mut forwarded = sources(&plan).into_iter().filter(|spec| spec.kind == OutputKind::Forward);
        return forwarded.next().map_or_else(Vec::new, |spec| cached_reads(stages, spec.stage));
    }
    (0..tasks).map(|task| largest(&scans, task)).collect()
}

fn remote_scans(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<(ObjectStoreUrl, ScanLayout)>) {
    if let (Some(scan), Some(layout)) = (file_scan(plan), scan_layout(plan))
        && scan.object_store_url != ObjectStoreUrl::local_filesystem()
    {
        found.push((scan.object_store_url.clone(), layout));
    }
    plan.children().into_iter().for_each(|child| remote_scans(child, found));
}

/// The first byte or row of a part. Tasks that share a file begin at different places.
fn begin(rows: &FileRows) -> u64 {
    match rows {
        FileRows::All => 0,
        FileRows::Bytes(bytes) => bytes.start as u64,
        FileRows::Numbers { runs, .. } => runs.first().map_or(0, |run| run.start as u64),
    }
}

/// The hash of the largest part that `task` reads. Another query over the same table with the same number of tasks reads
/// the same part in the same task.
fn largest(scans: &[(ObjectStoreUrl, ScanLayout)], task: usize) -> u64 {
    let parts = scans.iter().filter(|(_, layout)| task < layout.tasks).flat_map(|(store, layout)| {
        let own = layout.partitions[layout.of_task(task)].iter().flatten();
        own.map(move |part| (store, &layout.files[part.file], part))
    });
    let largest = parts.max_by_key(|(_, file, part)| part.bytes(file));
    let mut hasher = DefaultHasher::new();
    largest.map(|(store, file, part)| (store, &file.object_meta.location, begin(&part.rows))).hash(&mut hasher);
    hasher.finish()
}
