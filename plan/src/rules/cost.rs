//! What joins and groups cost, in nanoseconds from their start to their end, on the cores that there are.
//!
//! The weights were measured once on one machine; only their relations matter.

use datafusion::physical_plan::joins::PartitionMode;
use hwacha_execution::session::OptimizerOptions;

use crate::cluster::Cluster;
use crate::estimate::Estimate;

/// One process can hold a larger table than every executor should be sent.
const COLLECTED_TO_BROADCAST: f64 = 8.0;
/// To find a row's partition and move the row there: for the row, and for each of its bytes.
const ROUTE_ROW: f64 = 10.0;
const ROUTE_BYTE: f64 = 0.4;
/// For each value without a fixed length, whose bytes lie anywhere.
const ROUTE_TEXT: f64 = 100.0;
/// To bring a byte to another executor, both ends counted.
const EXCHANGE_BYTE: f64 = 1.5;
/// To test a row by the keys of a build side before it is brought anywhere.
const TEST_ROW: f64 = 20.0;
/// Rows are tested where at most this share of them is expected to pass.
const SELECTIVE: f64 = 0.5;
/// More keys make no filter that is worth it.
const FILTER_KEYS: f64 = 8e6;
/// To give a row out of a join.
const OUTPUT_ROW: f64 = 5.0;
const OUTPUT_BYTE: f64 = 0.3;
/// To find a row's group, in the caches or beyond them; for each key, and more for each without a fixed length.
const GROUP_ROW: f64 = 20.0;
const GROUP_ROW_AWAY: f64 = 50.0;
const GROUP_KEY: f64 = 6.0;
const GROUP_TEXT: f64 = 50.0;

/// What there is to run joins on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    pub cluster: Cluster,
    /// Build sides above these sizes are never collected.
    pub collected_bytes: f64,
    pub collected_rows: f64,
    /// Whether scans test rows by the keys of build sides in other stages.
    pub row_filters: bool,
}

/// Rows that enter or leave a join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub rows: f64,
    pub row_bytes: f64,
    /// How many values of a row have no fixed length.
    pub row_texts: f64,
}

impl Rows {
    pub(super) fn of(given: &Estimate) -> Self {
        Self { rows: given.rows, row_bytes: given.row_bytes(), row_texts: given.texts() }
    }

    fn bytes(self) -> f64 {
        self.rows * self.row_bytes
    }

    fn output(self) -> f64 {
        self.rows * (OUTPUT_ROW + OUTPUT_BYTE * self.row_bytes)
    }

    fn route(self) -> f64 {
        self.rows * (ROUTE_ROW + ROUTE_BYTE * self.row_bytes + ROUTE_TEXT * self.row_texts)
    }
}

/// The sides of a join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides {
    pub build: Rows,
    pub probe: Rows,
    /// The share of the probe side's rows whose keys the build side has.
    pub matching: f64,
}

impl Costs {
    pub(super) fn new(cluster: Cluster, options: &OptimizerOptions) -> Self {
        let more = if cluster.tasks > 1 { 1.0 } else { COLLECTED_TO_BROADCAST };
        Self {
            cluster,
            collected_bytes: options.broadcast_bytes as f64 * more,
            collected_rows: options.broadcast_rows as f64 * more,
            row_filters: options.row_filters,
        }
    }

    /// The cheaper way to join, and its cost. `collects` says whether the build side may be collected at all.
    pub(super) fn join(&self, sides: Sides, output: Rows, collects: bool) -> (PartitionMode, f64) {
        let partitioned = self.partitioned(sides);
        let Sides { build, probe, .. } = sides;
        let fits = build.bytes() <= self.collected_bytes && build.rows <= self.collected_rows;
        let (mode, cost) = match self.collected(build, probe) {
            collected if collects && fits && collected <= partitioned => (PartitionMode::CollectLeft, collected),
            _ => (PartitionMode::Partitioned, partitioned),
        };
        (mode, cost + output.output() / self.cores())
    }

    /// One thread of every task builds the whole table.
    fn collected(&self, build: Rows, probe: Rows) -> f64 {
        let broadcast = build.bytes() * EXCHANGE_BYTE * self.away();
        broadcast + build.rows * build_row(build.rows) + probe.rows * probe_row(build.rows) / self.cores()
    }

    fn partitioned(&self, Sides { build, probe, matching }: Sides) -> f64 {
        let filters = self.row_filters && self.cluster.tasks > 1 && build.rows <= FILTER_KEYS && matching <= SELECTIVE;
        let (tested, probe) = match filters {
            true => (probe.rows * TEST_ROW, Rows { rows: probe.rows * matching, ..probe }),
            false => (0.0, probe),
        };
        let routed = build.route() + probe.route();
        let exchanged = (build.bytes() + probe.bytes()) * EXCHANGE_BYTE * self.away();
        let share = build.rows / self.cores();
        (tested + routed + exchanged + build.rows * build_row(share) + probe.rows * probe_row(share)) / self.cores()
    }

    /// What the rows of one side of a join add to its cost, all cores together; they may be moved by a hash first.
    pub(super) fn one_side(&self, rows: Rows, moves: bool, build_rows: f64, probes: bool, output: Rows) -> f64 {
        let moved = if moves { rows.route() + rows.bytes() * EXCHANGE_BYTE * self.away() } else { 0.0 };
        let row = if probes { probe_row(build_rows) } else { build_row(build_rows) };
        moved + rows.rows * row + output.output()
    }

    /// The cost of pairing every row with every other.
    pub(super) fn cross(&self, build: Rows, probe: Rows, output: Rows) -> f64 {
        let pairs = build.rows * probe.rows * OUTPUT_ROW;
        self.collected(build, probe) + (pairs + output.bytes() * OUTPUT_BYTE) / self.cores()
    }

    fn cores(&self) -> f64 {
        self.cluster.partitions().max(1) as f64
    }

    /// The share of rows that another executor needs.
    fn away(&self) -> f64 {
        let tasks = self.cluster.tasks.max(1) as f64;
        (tasks - 1.0) / tasks
    }
}

/// To find a row's group among so many, all cores together: by keys of which `texts` have no fixed length.
pub(super) fn group_row(groups: f64, keys: usize, texts: usize) -> f64 {
    let found = if groups < 1e5 { GROUP_ROW } else { GROUP_ROW_AWAY };
    found + GROUP_KEY * keys as f64 + GROUP_TEXT * texts as f64
}

/// Tables that leave the caches cost more, row by row.
fn build_row(table_rows: f64) -> f64 {
    if table_rows < 1e5 { 25.0 } else { 60.0 }
}

fn probe_row(table_rows: f64) -> f64 {
    match table_rows {
        rows if rows < 1e5 => 12.0,
        rows if rows < 2e6 => 30.0,
        _ => 60.0,
    }
}
