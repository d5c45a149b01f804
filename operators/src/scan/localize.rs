//! Cuts a decoded stage plan down to one task's share: its own files and nobody else's. Errors of its scans name the
//! file.
//!
//! DataFusion lets the partitions of a scan steal files from each other, so a plan that still held other tasks' files
//! would read them twice.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::conjunction;
use datafusion::physical_plan::ExecutionPlan;

use crate::determinism::is_repeatable;
use crate::exchange::ExchangeSinkExec;
use crate::file_scan::{file_scan, group_bytes, read_position};
use crate::key_ranges::{KeyRanges, OwnRange};
use crate::scan::arrow_files::read_by_name;
use crate::scan::kept_columns::KeptColumns;
use crate::scan::task_source::{Edges, TaskSource};
use crate::scan::wide_dictionaries::read_wide;

/// The part of `plan` that task `task` of `tasks` runs.
pub fn localize(plan: Arc<dyn ExecutionPlan>, task: usize, tasks: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let repeats = must_repeat(&plan)?;
    plan.transform_up(|node| {
        let Some(scan) = file_scan(&node) else {
            return Ok(Transformed::no(node));
        };
        let source = read_by_name(read_wide(scan.file_source()));
        let builder = match scan.output_partitioning.as_ref().and_then(KeyRanges::of) {
            Some(ranges) => share_of_ranges(scan, source, &ranges, task, tasks)?,
            None => {
                let source = TaskSource { inner: source, edges: None };
                let groups = share(&scan.file_groups, task, tasks);
                let own_files = repeats.then(|| Partitioning::UnknownPartitioning(groups.len()));
                FileScanConfigBuilder::from(scan.clone())
                    .with_source(Arc::new(source))
                    .with_file_groups(groups)
                    .with_output_partitioning(own_files.or_else(|| scan.output_partitioning.clone()))
            }
        };
        let builder = builder.with_expr_adapter(Some(Arc::new(KeptColumns)));
        Ok(Transformed::yes(DataSourceExec::from_data_source(builder.build()) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// Whether the plan is a stage whose rows have to come in the same order again: then no partition of a scan may take files
/// from another, which it does not do where the partitioning is known.
fn must_repeat(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    match plan.downcast_ref::<ExchangeSinkExec>() {
        Some(sink) if sink.is_repeatable() => match is_repeatable(sink.input())? {
            true => Ok(true),
            false => internal_err!("the stage has to give its rows in the same order again, and would not"),
        },
        _ => Ok(false),
    }
}

/// The share of a scan whose partitions are ranges of a key: as many of them as every other task has, in order. Which of its
/// files' rows are in which range is only known where they are read.
fn share_of_ranges(
    scan: &FileScanConfig,
    source: Arc<dyn FileSource>,
    ranges: &KeyRanges,
    task: usize,
    tasks: usize,
) -> Result<FileScanConfigBuilder> {
    let per_task = scan.file_groups.len() / tasks;
    if scan.file_groups.len() != ranges.count() || per_task * tasks != ranges.count() {
        return internal_err!("{} ranges of {} cannot be shared by {tasks} tasks", ranges.count(), ranges.key);
    }
    let own = task * per_task..(task + 1) * per_task;
    let (Some(parquet), Some(key)) = (source.downcast_ref::<ParquetSource>(), ranges.key.downcast_ref::<Column>())
    else {
        return internal_err!("only columns of Parquet files are read by ranges, not {}", ranges.key);
    };
    let Some(column) = read_position(parquet, key.index()) else {
        return internal_err!("{key} is not read, whose ranges tell what is read");
    };
    // Where others have rows too, pages are skipped by their keys.
    let tests = OwnRange::of(&ranges.bounds, own.clone()).tests(key, parquet.table_schema().table_schema())?;
    let edges = parquet.with_predicate(conjunction(parquet.filter().into_iter().chain(tests)));
    let each = own.clone().map(|range| OwnRange::of(&ranges.bounds, range..range + 1)).collect();
    let edges = Some(Edges { source: Arc::new(edges), column, ranges: each });
    let source = TaskSource { inner: source, edges };
    // No partition may take files from another.
    let partitioning = Partitioning::UnknownPartitioning(per_task);
    Ok(FileScanConfigBuilder::from(scan.clone())
        .with_source(Arc::new(source))
        .with_file_groups(scan.file_groups[own].to_vec())
        .with_output_partitioning(Some(partitioning)))
}

/// Gives each task the same number of groups and, as far as that allows, the same number of bytes: the largest group
/// goes to the task with the fewest bytes that has room. Every task computes the same division.
fn share(groups: &[FileGroup], task: usize, tasks: usize) -> Vec<FileGroup> {
    let room = groups.len().div_ceil(tasks);
    let mut order: Vec<_> = groups.iter().map(group_bytes).enumerate().collect();
    order.sort_by_key(|&(index, bytes)| (std::cmp::Reverse(bytes), index));
    let mut shares = vec![(0u64, Vec::new()); tasks];
    for (index, bytes) in order {
        let least = shares
            .iter_mut()
            .filter(|(_, indexes)| indexes.len() < room)
            .min_by_key(|(total, _)| *total)
            .expect("the rooms of all tasks hold all groups");
        least.0 += bytes;
        least.1.push(index);
    }
    let mut mine: Vec<_> = shares[task].1.clone();
    mine.sort_unstable();
    let mut mine: Vec<_> = mine.into_iter().map(|index| groups[index].clone()).collect();
    mine.resize_with(room, FileGroup::default);
    mine
}

#[cfg(test)]
mod tests {
    use datafusion::datasource::listing::PartitionedFile;

    use super::*;

    fn group(bytes: u64) -> FileGroup {
        FileGroup::new(vec![PartitionedFile::new(format!("f{bytes}"), bytes)])
    }

    #[test]
    fn each_group_goes_to_one_task_and_bytes_are_even() {
        let groups: Vec<_> = [10, 70, 30, 50, 40].into_iter().map(group).collect();
        let shares: Vec<Vec<u64>> =
            (0..2).map(|task| share(&groups, task, 2).iter().map(group_bytes).collect()).collect();
        assert_eq!(shares, [vec![70, 30, 0], vec![10, 50, 40]]);
    }
}
