//! Every number by which a plan is chosen, with its unit and its origin.
//!
//! - *Measured*: nanoseconds of one core from `hwacha-benchmarks costs`, or a number from the named page of
//!   `docs/decisions/`.
//! - *Format*: a fact about Parquet or Arrow.
//! - *Judgment*: not measured alone. TPC-H and TPC-DS run with it.
//!
//! The measurements are the best of seven rounds on one thread of an AMD EPYC, release build. Keys are 64-bit integers
//! in random order, and each probe row finds its match. Example: probes of a build side of 4 million rows wait for
//! memory, so their weight is 14 times the weight of probes that stay in the caches (57 and 4).
//!
//! Sizes that a session can set are settings (`execution/src/session.rs`).

// Weights of joins and groups, in nanoseconds of one core.

/// Per row: find the hash partition and copy the row there. Measured: 2.7.
pub(crate) const ROUTE_ROW: f64 = 2.7;
/// Per byte of such a row. Measured: 0.11.
pub(crate) const ROUTE_BYTE: f64 = 0.11;
/// Per value of variable length in such a row, because its bytes lie elsewhere in memory. Measured: 13 for texts of 50
/// bytes.
pub(crate) const ROUTE_TEXT: f64 = 13.0;
/// Per byte that moves to another executor, on both ends together. Measured with `hwacha-benchmarks exchange`: 0.8
/// for whole numbers, 1.6 for texts.
pub(crate) const EXCHANGE_BYTE: f64 = 1.2;
/// Per row: a run-time filter tests the row against the keys of a build side. Measured: 4.6.
pub(crate) const TEST_ROW: f64 = 4.6;
/// Per row: a join emits a row. Measured: 3.0.
pub(crate) const OUTPUT_ROW: f64 = 3.0;
/// Per byte of such a row. Measured: 0.09.
pub(crate) const OUTPUT_BYTE: f64 = 0.09;
/// Per row of a build side with fewer rows than [`CACHED_ROWS`]. Measured: 12 with 10 thousand rows, 9 with 100
/// thousand.
pub(crate) const BUILD_ROW: f64 = 10.0;
/// Per row of a build side with more rows. Measured: 19 with 1 million rows, 28 with 4 million.
pub(crate) const BUILD_ROW_AWAY: f64 = 25.0;
/// Per row of a probe side, without the row that the join emits. The build side has fewer rows than [`CACHED_ROWS`].
/// Measured: 2.9 with 10 thousand rows, 4.4 with 100 thousand.
pub(crate) const PROBE_ROW: f64 = 4.0;
/// The same with fewer rows than [`PARTLY_CACHED_ROWS`]. Measured: 41 with 1 million rows.
pub(crate) const PROBE_ROW_PARTLY_AWAY: f64 = 41.0;
/// The same with more rows. Measured: 57 with 4 million rows.
pub(crate) const PROBE_ROW_AWAY: f64 = 57.0;
/// Per row: a row finds its group among fewer groups than [`CACHED_ROWS`]. Measured: 3.0 among 10 thousand.
pub(crate) const GROUP_ROW: f64 = 3.0;
/// Per row: a row finds its group among more groups. Measured: 34 among 4 million.
pub(crate) const GROUP_ROW_AWAY: f64 = 34.0;
/// Per row and key of a group. Measured: 3.9.
pub(crate) const GROUP_KEY: f64 = 3.9;
/// Per row and key of variable length, in addition to [`GROUP_KEY`], among fewer groups than [`CACHED_ROWS`]. Measured:
/// 7 among 10 thousand.
pub(crate) const GROUP_TEXT: f64 = 7.0;
/// The same among more groups. Measured: 60 among 4 million, with texts of 50 bytes.
pub(crate) const GROUP_TEXT_AWAY: f64 = 60.0;
/// Rows of a hash table that stays in the caches of a core. Measured: probes of 100 thousand rows do not wait for
/// memory, and probes of 1 million rows do. This is the geometric mean.
pub(crate) const CACHED_ROWS: f64 = 3e5;
/// Rows of a hash table of which the caches hold a useful share. The geometric mean of 1 and 4 million rows, which were
/// measured.
pub(crate) const PARTLY_CACHED_ROWS: f64 = 2e6;

// One task or many.

/// Bytes of the narrowest rows (8). A query on one task is expected to have at least `single_task_bytes` / 8 rows: 4
/// MiB / 8 = 524,288 rows. Judgment.
pub const NARROWEST_ROW_BYTES: usize = 8;
/// A query usually reads at least one eighth of the bytes of its tables' files. If the files have at least 8 times
/// `single_task_bytes`, the plan for all executors is made first. Judgment.
pub const USUAL_READ_FRACTION: u64 = 8;
/// A query on one task is planned again if its operators emit more than this multiple of the expected rows (4): more
/// than 2,097,152 rows if 524,288 are expected. Judgment.
pub const OUTGROWN_FACTOR: f64 = 4.0;

// Joins: which side is built, how, and in which order.

/// A build side that one process collects may be this many times larger than one that is sent to every executor.
/// Judgment.
pub(crate) const COLLECTED_TO_BROADCAST: f64 = 8.0;
/// Relations of a join region up to which all join orders are tried (10). There are 3^10 = 59,049 pairs of a set of
/// relations and a subset. Judgment: with one relation more, planning takes three times as long.
pub(crate) const EXHAUSTIVE_RELATIONS: usize = 10;
/// The least share of rows that an anti join is assumed to keep. Judgment: the keys of both sides are rarely the same.
pub(crate) const LEAST_UNMATCHED: f64 = 0.1;
/// Keys of a build side above which no run-time filter is expected to pay. Judgment: a Bloom filter of the maximum size
/// (4 MiB) then has only four bits per key.
pub(crate) const FILTER_KEYS: f64 = 8e6;
/// A build side can become a stage of its own if it has at most this share of the keys of the nearest exchange below it
/// (page 014). Judgment.
pub(crate) const FIRST_KEYS_SHARE: f64 = 0.5;
/// Minimum rows of the probe side for which that extra stage can pay (page 014). Judgment.
pub(crate) const FIRST_PROBE_ROWS: f64 = 50_000.0;
/// Bytes of a build side that the further tasks of a join together may read again, even if fewer bytes of the probe
/// side would move otherwise (page 020). Judgment.
pub(crate) const REREAD_BYTES: f64 = 1e6;

// Where rows are tested by run-time filters (page 015).

/// A scan tests single rows if at most this share passes. If more scattered rows pass, skipping the other rows costs
/// more than decoding them. Measured: page 015.
pub(crate) const SCAN_TESTED_SHARE: f64 = 0.02;
/// A filter above a scan tests rows if at most this share of the rows passes. Judgment.
pub(crate) const FILTERED_SHARE: f64 = 0.5;
/// A scan that tests single rows leaves out a run-time filter if more than this share of the rows passes it. Judgment.
pub(crate) const USELESS_SHARE: f64 = 0.9;

// Aggregates and ranks before an exchange or a join.

/// Aggregation before a join must leave less than this share of the cost above it, because estimates can be wrong.
/// Judgment.
pub(crate) const EAGER_COST_SHARE: f64 = 0.8;
/// Ranks are limited before the exchange too if at most this share of the rows is left. Judgment: rows can be sorted
/// twice.
pub(crate) const RANKED_SHARE: f64 = 0.5;
/// Most different conditions of aggregations that share one scan: each row is tested by all of them. Judgment.
pub(crate) const SHARED_SCAN_TESTS: usize = 32;

// Placement of scans (pages 008 and 010).

/// A partition shares its row groups above this multiple of the even share of the bytes. Not below: each sharer decodes
/// the dictionaries. Measured: page 008.
pub(crate) const UNEVEN_SHARE: f64 = 1.02;
/// Least row groups of which a partition should read rows: one row group can have all rows of a query. Judgment.
pub(crate) const READ_ROW_GROUPS: usize = 3;
/// Rows of a data page. Format: the default of most writers.
pub(crate) const PAGE_ROWS: usize = 20_000;
/// Maximum runs of pages that each sharer reads of one row group. Judgment.
pub(crate) const SHARER_TURNS: usize = 4;
/// Most reads for a partition's whole row groups of a file, if other partitions of the task can take reads from it.
/// Judgment.
pub(crate) const OPENED_PARTS: usize = 4;
/// If the keys of this number of row groups ascend, the rows within a row group are assumed to ascend too. Judgment.
pub(crate) const ORDERED_ROW_GROUPS: usize = 3;
/// Assumed share of a row group that is still read if the reader skips pages by the key. Judgment.
pub(crate) const UNSKIPPED_SHARE: f64 = 0.1;
/// The largest share of the rows that two partitions may both read. Judgment.
pub(crate) const READ_TWICE_SHARE: f64 = 0.25;
/// If row groups span on average less than this share of a column's range, a condition on it selects few row groups.
/// Judgment.
pub(crate) const NARROW_SHARE: f64 = 0.5;
/// No key range may have more than this many times the average bytes of a range. Judgment.
pub(crate) const RANGE_SKEW: f64 = 1.5;
/// No key range may have more than this share of the rows of one input. Judgment: a join can remove the rows of the
/// other inputs.
pub(crate) const RANGE_SHARE: f64 = 0.75;
/// At least this share of the bytes of a region must stay where they are read. Judgment.
pub(crate) const STAYING_SHARE: f64 = 0.5;

// Estimates without statistics.

/// Share of rows that a predicate of unknown selectivity keeps. Judgment.
pub(crate) const UNKNOWN_FRACTION: f64 = 0.25;
/// Share of rows that `<`, `<=`, `>` or `>=` keeps if the range is unknown. Judgment: as System R.
pub(crate) const UNKNOWN_RANGE: f64 = 1.0 / 3.0;
/// Share of rows that match a pattern with a fixed beginning (`LIKE 'a%'`). Judgment.
pub(crate) const PREFIX_FRACTION: f64 = 0.05;
/// Share of rows that match a pattern without a fixed beginning (`LIKE '%a%'`). Judgment.
pub(crate) const PATTERN_FRACTION: f64 = 0.1;
/// The least share of rows that a condition is assumed to keep, because an estimate is no proof. Judgment.
pub(crate) const LEAST_FRACTION: f64 = 1e-6;
/// Least row count of a source without statistics. Judgment.
pub(crate) const UNKNOWN_ROWS: f64 = 1000.0;
/// Bytes of a text in memory in addition to its uncompressed bytes in a file. Format: the view.
pub(crate) const VIEW_BYTES: f64 = 16.0;
/// Bytes of a value of variable length of unknown size. Judgment.
pub(crate) const VARIABLE_BYTES: f64 = 24.0;
