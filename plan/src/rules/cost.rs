//! Estimated costs of joins and groups, in nanoseconds.
//!
//! [`Costs::join`] and [`Costs::cross`] give elapsed time, with all cores of the cluster at work. [`Costs::one_side`]
//! and [`group_row`] give CPU time, summed over all cores. The weights are in `tuning`.

use datafusion::physical_plan::joins::PartitionMode;
use hwacha_execution::session::OptimizerOptions;

use crate::cluster::Cluster;
use crate::estimate::Estimate;
use crate::tuning::{
    BUILD_ROW, BUILD_ROW_AWAY, CACHED_ROWS, COLLECTED_TO_BROADCAST, EXCHANGE_BYTE, FILTER_KEYS, FILTERED_SHARE,
    GROUP_KEY, GROUP_ROW, GROUP_ROW_AWAY, GROUP_TEXT, GROUP_TEXT_AWAY, OUTPUT_BYTE, OUTPUT_ROW, PARTLY_CACHED_ROWS,
    PROBE_ROW, PROBE_ROW_AWAY, PROBE_ROW_PARTLY_AWAY, ROUTE_BYTE, ROUTE_ROW, ROUTE_TEXT, TEST_ROW,
};

/// The cluster that runs the joins, and the limits for collected build sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    pub cluster: Cluster,
    /// Largest build side that is collected, in bytes and in rows.
    pub collected_bytes: f64,
    pub collected_rows: f64,
    /// Whether run-time filters test rows by the keys of build sides in other stages.
    pub row_filters: bool,
}

/// Rows that enter or leave a join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub rows: f64,
    pub row_bytes: f64,
    /// Values of variable length per row.
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

    /// The cheaper mode of a join, and its cost. `collects` says whether the build side may be collected at all.
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

    /// The elapsed time if each task collects the build side. One thread of each task builds the whole hash table.
    fn collected(&self, build: Rows, probe: Rows) -> f64 {
        let broadcast = build.bytes() * EXCHANGE_BYTE * self.away();
        broadcast + build.rows * build_row(build.rows) + probe.rows * probe_row(build.rows) / self.cores()
    }

    fn partitioned(&self, Sides { build, probe, matching }: Sides) -> f64 {
        let filters =
            self.row_filters && self.cluster.tasks > 1 && build.rows <= FILTER_KEYS && matching <= FILTERED_SHARE;
        let (tested, probe) = match filters {
            true => (probe.rows * TEST_ROW, Rows { rows: probe.rows * matching, ..probe }),
            false => (0.0, probe),
        };
        let routed = build.route() + probe.route();
        let exchanged = (build.bytes() + probe.bytes()) * EXCHANGE_BYTE * self.away();
        let share = build.rows / self.cores();
        (tested + routed + exchanged + build.rows * build_row(share) + probe.rows * probe_row(share)) / self.cores()
    }

    /// The CPU time that the rows of one side add to a join. `moves` says whether a hash exchange moves the rows first.
    /// `probes` says whether the rows are the probe side. The build side has `build_rows` rows.
    pub(super) fn one_side(&self, rows: Rows, moves: bool, build_rows: f64, probes: bool, output: Rows) -> f64 {
        let moved = if moves { rows.route() + rows.bytes() * EXCHANGE_BYTE * self.away() } else { 0.0 };
        let row = if probes { probe_row(build_rows) } else { build_row(build_rows) };
        moved + rows.rows * row + output.output()
    }

    /// The elapsed time of a cross join.
    pub(super) fn cross(&self, build: Rows, probe: Rows, output: Rows) -> f64 {
        let pairs = build.rows * probe.rows * OUTPUT_ROW;
        self.collected(build, probe) + (pairs + output.bytes() * OUTPUT_BYTE) / self.cores()
    }

    fn cores(&self) -> f64 {
        self.cluster.partitions().max(1) as f64
    }

    /// The share of the rows of an exchange that move to another executor.
    fn away(&self) -> f64 {
        let tasks = self.cluster.tasks.max(1) as f64;
        (tasks - 1.0) / tasks
    }
}

/// Nanoseconds per row to find its group among `groups` groups. `texts` of the `keys` keys have a variable length.
pub(super) fn group_row(groups: f64, keys: usize, texts: usize) -> f64 {
    let (found, text) = if groups < CACHED_ROWS { (GROUP_ROW, GROUP_TEXT) } else { (GROUP_ROW_AWAY, GROUP_TEXT_AWAY) };
    found + GROUP_KEY * keys as f64 + text * texts as f64
}

/// Nanoseconds per row to build a hash table of `table_rows` rows.
fn build_row(table_rows: f64) -> f64 {
    if table_rows < CACHED_ROWS { BUILD_ROW } else { BUILD_ROW_AWAY }
}

/// Nanoseconds per row to probe a hash table of `table_rows` rows.
fn probe_row(table_rows: f64) -> f64 {
    match table_rows {
        rows if rows < CACHED_ROWS => PROBE_ROW,
        rows if rows < PARTLY_CACHED_ROWS => PROBE_ROW_PARTLY_AWAY,
        _ => PROBE_ROW_AWAY,
    }
}
