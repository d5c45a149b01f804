//! The key ranges of the row groups of a table, from their footers, and the bounds at which to cut them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::Field;
use datafusion::common::ScalarValue;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use hwacha_operators::key_ranges::{KeyRanges, OwnRange};
use hwacha_operators::scan::{FilePart, FileRows, ScanLayout, file_scan, is_free, scan_layout};
use hwacha_operators::whole_numbers::{is_whole_number, numbers};

use crate::estimate;
use crate::footers::{Footers, begin, column_statistics, contain, end_of, has_pages, is_stored_as_it_is};
use crate::tuning::{NARROW_SHARE, ORDERED_ROW_GROUPS, READ_TWICE_SHARE, UNSKIPPED_SHARE};

/// The keys of the row groups that a scan reads.
pub(super) struct KeyLayout {
    layout: ScanLayout,
    files: Vec<File>,
    /// Whether the table is clustered by the key and also by another column in the scan's predicate. The matching rows
    /// may then lie in a few key ranges. Example: order dates rise with the order key, and a query reads one year.
    pub is_uneven: bool,
}

/// Rows whose keys are evenly distributed from `least` to `greatest` inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub least: i64,
    pub greatest: i64,
    pub rows: f64,
}

impl Piece {
    /// Rows for which only the least and the greatest key are known.
    pub(super) fn between((least, greatest): (f64, f64), rows: f64) -> Self {
        Self { least: least.floor() as i64, greatest: greatest.ceil() as i64, rows }
    }

    /// The rows with keys from `least` to `greatest`; `None` if there are none.
    fn within(self, least: i64, greatest: i64) -> Option<Self> {
        let (least, greatest) = (self.least.max(least), self.greatest.min(greatest));
        let keys = |least: i64, greatest: i64| greatest as f64 - least as f64 + 1.0;
        let rows = self.rows * keys(least, greatest) / keys(self.least, self.greatest);
        (least <= greatest).then_some(Self { least, greatest, rows })
    }
}

struct File {
    /// Its index in [`ScanLayout::files`].
    file: usize,
    /// The row groups that the scan reads.
    row_groups: Vec<RowGroup>,
    all_row_groups: usize,
    /// Whether a reader of one key range can skip pages of a row group: keys ascend and pages are indexed.
    has_order: bool,
}

#[derive(Clone, Copy)]
struct RowGroup {
    number: usize,
    begin: i64,
    end: i64,
    keys: Piece,
}

impl KeyLayout {
    /// The table column from which output column `column` of a scan comes, and the layout of its values. `None` for
    /// example if a footer is not cached or lacks key statistics, if an operator relies on the scan's partitions, or if
    /// the scan has only one partition.
    pub(super) fn of(node: &Arc<dyn ExecutionPlan>, column: usize, footers: &Footers) -> Option<(Column, Self)> {
        let (scan, layout) = (file_scan(node)?, scan_layout(node)?);
        let source = scan.file_source().downcast_ref::<ParquetSource>()?;
        let may_move = scan.file_groups.len() > 1 && is_free(scan);
        let table = source.table_schema();
        let key = match source.projection() {
            Some(projection) => projection.iter().nth(column)?.expr.downcast_ref::<Column>()?.clone(),
            None => Column::new(table.table_schema().fields().get(column)?.name(), column),
        };
        let schema = table.file_schema();
        let field = schema.fields().get(key.index()).filter(|field| may_move && is_whole_number(field.data_type()))?;
        let predicate = source.filter();
        let tested = predicate.iter().flat_map(collect_columns).filter(|tested| tested.index() != key.index());
        let tested: Vec<_> = tested.filter(|tested| tested.index() < schema.fields().len()).collect();
        let (mut of_key, mut spans) = (Spans::default(), vec![Spans::default(); tested.len()]);
        let mut files = vec![];
        for (file, parts) in layout.parts_by_file() {
            if parts.iter().any(|part| matches!(part.rows, FileRows::Numbers { .. })) {
                return None;
            }
            let footer = footers.get(file)?;
            files.push(File::of(file, &parts, &footer, field)?);
            of_key.add(&footer, field);
            for (spans, tested) in spans.iter_mut().zip(&tested) {
                spans.add(&footer, schema.field(tested.index()));
            }
        }
        let is_uneven = of_key.are_narrow() && spans.iter().any(Spans::are_narrow);
        // A scan of several files in ranges could change an order that the plan relies on.
        let keeps_order = scan.output_ordering.is_empty() || files.len() == 1;
        keeps_order.then_some((key, Self { layout, files, is_uneven }))
    }

    /// The keys of each row group, limited to the keys in `asked` if that is known.
    pub(super) fn pieces(&self, asked: Option<(f64, f64)>) -> Vec<Piece> {
        let all = Piece::between(asked.unwrap_or((f64::MIN, f64::MAX)), 0.0);
        let row_groups = self.files.iter().flat_map(|file| &file.row_groups);
        row_groups.filter_map(|row_group| row_group.keys.within(all.least, all.greatest)).collect()
    }

    /// Whether each partition can read one of these ranges without reading many rows twice: at most `READ_TWICE_SHARE`
    /// of the rows in `asked`. For each bound within the keys of a row group, one more partition reads the row group,
    /// or only a part of it if pages can be skipped.
    pub(super) fn suits(&self, bounds: &[i64], asked: Option<(f64, f64)>) -> bool {
        let mut again = 0.0;
        for file in &self.files {
            let part = if file.has_order { UNSKIPPED_SHARE } else { 1.0 };
            for RowGroup { keys, .. } in &file.row_groups {
                let within = |bound: &i64| keys.least < *bound && *bound <= keys.greatest;
                again += bounds.iter().filter(|bound| within(bound)).count() as f64 * keys.rows * part;
            }
        }
        again <= READ_TWICE_SHARE * self.pieces(asked).iter().map(|piece| piece.rows).sum::<f64>()
    }

    /// The layout in which each partition reads the row groups with keys of its range.
    pub(super) fn by_ranges(self, ranges: KeyRanges) -> ScanLayout {
        let own = |number: usize| OwnRange::of(&ranges.bounds, number..number + 1);
        let partition = |own: OwnRange| self.files.iter().flat_map(|file| file.parts(&own)).collect();
        let partitions = (0..ranges.count()).map(|number| partition(own(number))).collect();
        ScanLayout { partitions, ranges: Some(ranges), ..self.layout }
    }
}

impl File {
    fn of(file: &PartitionedFile, parts: &[&FilePart], footer: &ParquetMetaData, key: &Field) -> Option<Self> {
        let all = footer.row_groups();
        let converter = column_statistics(footer, key)?.with_missing_null_counts_as_zero(false);
        if !is_stored_as_it_is(footer, converter.parquet_column_index()?, key) {
            return None;
        }
        let least = numbers(&converter.row_group_mins(all).ok()?).ok()?;
        let greatest = numbers(&converter.row_group_maxes(all).ok()?).ok()?;
        let missing = converter.row_group_null_counts(all).ok()?;
        // A part names row groups by their byte range, so row groups must be stored in the order of the footer.
        if !all.windows(2).all(|pair| begin(&pair[0]) < begin(&pair[1])) {
            return None;
        }
        let mut row_groups = vec![];
        for (number, row_group) in all.iter().enumerate().filter(|(_, row_group)| contain(file, parts, row_group)) {
            let is_known = least.is_valid(number) && greatest.is_valid(number) && missing.is_valid(number);
            if !is_known || missing.value(number) > 0 || least.value(number) > greatest.value(number) {
                return None;
            }
            let end = end_of(file, all, number)?;
            let (least, greatest) = (least.value(number), greatest.value(number));
            let keys = Piece { least, greatest, rows: row_group.num_rows() as f64 };
            row_groups.push(RowGroup { number, begin: begin(row_group)?, end, keys });
        }
        let is_ascending = row_groups.windows(2).all(|pair| pair[0].keys.greatest <= pair[1].keys.least);
        let has_order = row_groups.len() >= ORDERED_ROW_GROUPS && is_ascending && all.iter().all(has_pages);
        Some(Self { file: parts[0].file, row_groups, all_row_groups: all.len(), has_order })
    }

    /// The runs of row groups with keys of `range`. Row groups that also have other keys are in runs of their own.
    fn parts(&self, range: &OwnRange) -> Vec<FilePart> {
        let is_edge = |one: &RowGroup| one.keys.least < range.first || range.last < one.keys.greatest;
        let part = |run: &[&RowGroup]| {
            let rows = match run.len() == self.all_row_groups {
                true => FileRows::All,
                false => FileRows::Bytes(run[0].begin..run[run.len() - 1].end),
            };
            FilePart { has_other_keys: is_edge(run[0]), ..FilePart::new(self.file, rows) }
        };
        let found: Vec<_> =
            self.row_groups.iter().filter(|one| range.meets(one.keys.least, one.keys.greatest)).collect();
        let are_alike =
            |one: &&RowGroup, next: &&RowGroup| one.number + 1 == next.number && is_edge(one) == is_edge(next);
        found.chunk_by(are_alike).map(part).collect()
    }
}

/// The part of a column's value range that row groups span. Example: the values of three row groups are 0-10, 10-20 and
/// 20-30. Each row group spans a third of the range.
#[derive(Clone, Default)]
struct Spans {
    all: Option<(f64, f64)>,
    each: f64,
    row_groups: usize,
}

impl Spans {
    fn add(&mut self, footer: &ParquetMetaData, column: &Field) {
        let row_groups = footer.row_groups();
        if let Some((least, greatest)) = bounds_of(footer, column) {
            for (least, greatest) in
                (0..row_groups.len()).filter_map(|one| value(&least, one).zip(value(&greatest, one)))
            {
                let all = self.all.get_or_insert((least, greatest));
                *all = (all.0.min(least), all.1.max(greatest));
                self.each += greatest - least;
                self.row_groups += 1;
            }
        }
    }

    fn are_narrow(&self) -> bool {
        let all = self.all.map_or(0.0, |(least, greatest)| greatest - least);
        self.row_groups >= ORDERED_ROW_GROUPS && all > 0.0 && self.each / (self.row_groups as f64) < NARROW_SHARE * all
    }
}

fn bounds_of(footer: &ParquetMetaData, column: &Field) -> Option<(ArrayRef, ArrayRef)> {
    let (converter, row_groups) = (column_statistics(footer, column)?, footer.row_groups());
    converter.row_group_mins(row_groups).ok().zip(converter.row_group_maxes(row_groups).ok())
}

fn value(values: &ArrayRef, number: usize) -> Option<f64> {
    estimate::number(&ScalarValue::try_from_array(values, number).ok()?)
}

/// The share of the rows in each range; equal shares if there are no rows.
pub(super) fn shares(pieces: &[Piece], bounds: &[i64]) -> Vec<f64> {
    let ranges = bounds.len() + 1;
    let all: f64 = pieces.iter().map(|piece| piece.rows).sum();
    let mut shares = vec![if all > 0.0 { 0.0 } else { 1.0 / ranges as f64 }; ranges];
    for piece in pieces.iter().filter(|_| all > 0.0) {
        let least = bounds.partition_point(|bound| *bound <= piece.least);
        for (range, share) in shares.iter_mut().enumerate().skip(least) {
            let OwnRange { first, last } = OwnRange::of(bounds, range..range + 1);
            let Some(part) = piece.within(first, last) else { break };
            *share += part.rows / all;
        }
    }
    shares
}

/// Bounds of `ranges` ranges with equal row counts; `None` if there are too few keys. Example: pieces of 1,000 rows
/// each have the keys 0-999 and 0-1999. The bounds of four ranges are 333, 666 and 1000.
pub(super) fn even_bounds(pieces: &[Piece], ranges: usize) -> Option<Vec<i64>> {
    // The density (rows per key) changes where a piece begins or ends.
    let mut changes = vec![];
    for piece in pieces {
        let density = piece.rows / (piece.greatest as f64 - piece.least as f64 + 1.0);
        changes.push((piece.least, density));
        changes.push((piece.greatest.checked_add(1)?, -density));
    }
    changes.sort_by_key(|(key, _)| *key);
    let each = pieces.iter().map(|piece| piece.rows).sum::<f64>() / ranges as f64;
    let (mut bounds, mut density, mut before) = (vec![], 0.0f64, 0.0f64);
    for pair in changes.windows(2) {
        let ((key, change), (next, _)) = (pair[0], pair[1]);
        density += change;
        let rows = density * (next as f64 - key as f64);
        while bounds.len() + 1 < ranges && each * (bounds.len() + 1) as f64 <= before + rows && rows > 0.0 {
            let wanted = each * (bounds.len() + 1) as f64 - before;
            bounds.push(key.saturating_add((wanted / density) as i64));
        }
        before += rows;
    }
    let least = changes.first().map(|(least, _)| *least);
    let is_rising = least < bounds.first().copied() && bounds.windows(2).all(|pair| pair[0] < pair[1]);
    (bounds.len() + 1 == ranges && is_rising).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(has_order: bool, keys: &[(i64, i64)]) -> KeyLayout {
        let row_group = |(number, (least, greatest)): (usize, &(i64, i64))| {
            let keys = Piece { least: *least, greatest: *greatest, rows: 1000.0 };
            let begin = 4 + 100 * number as i64;
            RowGroup { number, begin, end: begin + 100, keys }
        };
        let row_groups = keys.iter().enumerate().map(row_group).collect();
        let file = PartitionedFile::new("f", 4 + 100 * keys.len() as u64);
        let layout = ScanLayout { files: vec![file], partitions: vec![], tasks: 1, ranges: None };
        let files = vec![File { file: 0, row_groups, all_row_groups: keys.len(), has_order }];
        KeyLayout { layout, files, is_uneven: false }
    }

    #[test]
    fn ranges_have_as_many_rows_whatever_their_keys() {
        let even = |keys: &[(i64, i64)], ranges| even_bounds(&layout(true, keys).pieces(None), ranges);
        assert_eq!(even(&[(1, 1000), (1001, 2000), (2001, 42_000), (42_001, 43_000)], 2), Some(vec![2001]));
        assert_eq!(even(&[(0, 999), (0, 1999)], 4), Some(vec![333, 666, 1000]));
        assert_eq!(even(&[(7, 7), (7, 7)], 4), None);
        // The bound would be the least key, so the first range would be empty.
        assert_eq!(even(&[(0, 0), (0, 0), (1, 10)], 2), None);
    }

    #[test]
    fn only_keys_that_are_asked_for_count() {
        let keys = layout(true, &[(0, 999), (1000, 1999), (2000, 2999), (3000, 3999)]);
        let asked = Some((2500.0, 1e30));
        assert_eq!(even_bounds(&keys.pieces(asked), 3), Some(vec![3000, 3500]));
        let percent =
            |asked| shares(&keys.pieces(asked), &[3000, 3500]).iter().map(|share| (share * 100.0).round()).collect();
        let (some, all): (Vec<_>, Vec<_>) = (percent(asked), percent(None));
        assert_eq!((some, all), (vec![33.0; 3], vec![75.0, 13.0, 13.0]));
        // All four partitions read a part of the last row group. Only partition 0 reads the others.
        let bounds = [3200, 3400, 3600];
        assert!(keys.suits(&bounds, None));
        assert!(!keys.suits(&bounds, Some((3100.0, 3999.0))));
    }

    #[test]
    fn each_range_reads_the_row_groups_that_have_its_keys() {
        let keys = layout(true, &[(1, 10), (10, 20), (20, 30), (30, 40)]);
        let ranges = KeyRanges { key: Arc::new(Column::new("k", 0)), bounds: [10, 25].into() };
        let read = |part: &FilePart| match &part.rows {
            FileRows::Bytes(bytes) => (bytes.start, bytes.end, part.has_other_keys),
            other => panic!("{other:?} where parts of the file are read"),
        };
        let partitions = keys.by_ranges(ranges).partitions;
        let read: Vec<Vec<_>> = partitions.iter().map(|parts| parts.iter().map(read).collect()).collect();
        let expected = [
            vec![(4, 104, true)],
            vec![(4, 104, true), (104, 204, false), (204, 304, true)],
            vec![(204, 304, true), (304, 404, false)],
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn tables_out_of_order_do_not_suit() {
        let bounds = [250, 500, 750];
        let all = [(0, 999); 4];
        assert!(!layout(false, &all).suits(&bounds, None));
        let in_order = [(0, 249), (250, 499), (499, 749), (750, 999)];
        assert!(layout(true, &in_order).suits(&bounds, None));
        assert!(!layout(false, &[(0, 400), (400, 999)]).suits(&bounds, None));
    }
}
