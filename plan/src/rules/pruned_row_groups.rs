//! Removes row groups without matching rows from scans, before the other row groups are assigned to tasks.
//!
//! A scan skips such row groups itself, but only when it opens the file. Planning has read the footers, so it can
//! remove them earlier. The remaining bytes may then be few enough for one task, and otherwise they are dealt out
//! evenly. Example: a query reads two single days, which lie in two of 80 row groups of 10 MiB.
//!
//! ```text
//!   before: file_groups={[f.parquet]}                                            80 row groups
//!   after:  file_groups={[f.parquet:100..110 MiB, f.parquet:200..210 MiB]}       2 row groups
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_expr::{conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::ExecutionPlan;
use hwacha_execution::session::hwacha_options;
use hwacha_operators::scan::{FilePart, FileRows, ScanLayout, file_scan, is_free, laid_out, scan_layout};
use hwacha_operators::tree::reads_a_scalar_subquery;

use crate::footers::{Footers, begin, column_statistics, contain, end_of, is_stored_as_it_is};

/// Prunes row groups of Parquet scans if no operator relies on the partitioning or the order of the scan.
#[derive(Debug)]
pub struct PrunedRowGroupsRule {
    pub footers: Footers,
}

impl PhysicalOptimizerRule for PrunedRowGroupsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !hwacha_options(config).optimizer.pruned_row_groups {
            return Ok(plan);
        }
        plan.transform_up(|node| match file_scan(&node).and_then(|scan| self.pruned(scan, scan_layout(&node)?)) {
            Some(layout) => laid_out(&node, layout).map(Transformed::yes),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "pruned_row_groups"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl PrunedRowGroupsRule {
    /// The layout without row groups that cannot match; `None` if it has no such row groups. If no row group can
    /// match, one row group stays, because a scan needs a file.
    fn pruned(&self, scan: &FileScanConfig, layout: ScanLayout) -> Option<ScanLayout> {
        let source = scan.file_source().downcast_ref::<ParquetSource>()?;
        let is_unordered = is_free(scan) && scan.output_ordering.is_empty();
        if !is_unordered || !source.table_parquet_options().global.pruning {
            return None;
        }
        let table = source.table_schema();
        let filter = source.filter()?;
        // The value of a scalar subquery is not known yet.
        let known =
            split_conjunction(&filter).into_iter().filter(|test| !reads_a_scalar_subquery([*test]).unwrap_or(true));
        let predicate = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(table.table_schema()))
            .with_max_in_list_size(source.max_in_list_size())
            .build(conjunction(known.cloned()))?;
        let mut has_pruned = false;
        let mut left_of = |part: &FilePart| {
            let file = &layout.files[part.file];
            let footer = self.footers.get(file);
            let left = footer.and_then(|footer| unpruned(file, part, &footer, table.file_schema(), &predicate));
            has_pruned |= left.is_some();
            left.unwrap_or_else(|| vec![part.clone()])
        };
        let partition = |parts: &Vec<FilePart>| parts.iter().flat_map(&mut left_of).collect();
        let mut partitions: Vec<Vec<_>> = layout.partitions.iter().map(partition).collect();
        if !has_pruned {
            return None;
        }
        if partitions.iter().all(Vec::is_empty) {
            partitions[0].push(self.first(&layout)?);
        }
        Some(layout.with_partitions(partitions))
    }

    /// The first row group that a scan reads.
    fn first(&self, layout: &ScanLayout) -> Option<FilePart> {
        layout.parts().find_map(|(file, part)| {
            let footer = self.footers.get(file)?;
            let all = footer.row_groups();
            let number = all.iter().position(|row_group| contain(file, &[part], row_group))?;
            Some(FilePart::new(part.file, FileRows::Bytes(begin(&all[number])?..end_of(file, all, number)?)))
        })
    }
}

/// The row groups of a part that may match, as runs; `None` if all of them may match.
fn unpruned(
    file: &PartitionedFile,
    part: &FilePart,
    footer: &ParquetMetaData,
    schema: &Schema,
    predicate: &PruningPredicate,
) -> Option<Vec<FilePart>> {
    let all = footer.row_groups();
    // A part names a run of row groups by its byte range, so row groups must be stored in the order of the footer.
    if !all.windows(2).all(|pair| begin(&pair[0]) < begin(&pair[1])) {
        return None;
    }
    let may_match = predicate.prune(&RowGroups { footer, schema }).ok()?;
    let (kept, pruned): (Vec<_>, Vec<_>) =
        (0..all.len()).filter(|number| contain(file, &[part], &all[*number])).partition(|number| may_match[*number]);
    if pruned.is_empty() {
        return None;
    }
    let runs = kept.chunk_by(|one, next| one + 1 == *next);
    let rows = |run: &[usize]| Some(FileRows::Bytes(begin(&all[run[0]])?..end_of(file, all, run[run.len() - 1])?));
    runs.map(|run| Some(FilePart::new(part.file, rows(run)?))).collect()
}

/// The statistics of a file's row groups.
struct RowGroups<'a> {
    footer: &'a ParquetMetaData,
    /// The columns of the table that are read from files. Partition columns are not among them.
    schema: &'a Schema,
}

impl RowGroups<'_> {
    fn converter(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let converter = column_statistics(self.footer, field)?;
        let index = converter.parquet_column_index()?;
        is_stored_as_it_is(self.footer, index, field).then(|| converter.with_missing_null_counts_as_zero(false))
    }
}

impl PruningStatistics for RowGroups<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.converter(column)?.row_group_mins(self.footer.row_groups()).ok()
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.converter(column)?.row_group_maxes(self.footer.row_groups()).ok()
    }

    fn num_containers(&self) -> usize {
        self.footer.num_row_groups()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.converter(column)?.row_group_null_counts(self.footer.row_groups()).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.footer.row_groups().iter().map(|row_group| row_group.num_rows() as u64);
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
