//! Hwacha's settings inside DataFusion's configuration, and the configuration that plans are made with.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{config_namespace, extensions_options};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;

config_namespace! {
    /// How plans are made; in SQL, `SET hwacha.optimizer.broadcast_bytes = …`.
    pub struct OptimizerOptions {
        /// Whether queries are spread over executors at all.
        pub distributed: bool, default = true
        /// Queries whose scans read fewer bytes than this run as one task on one executor.
        pub single_task_bytes: usize, default = 4 << 20
        /// Whether a query is planned again for all executors when its plan proves too small: the operators of a
        /// one-task query emit more than four times the expected rows, or memory runs out.
        pub replan: bool, default = true
        /// A build side is sent to every executor only if its estimated bytes are at most this, and only if that
        /// costs no more than hashing both sides.
        pub broadcast_bytes: usize, default = 32 << 20
        /// A build side is sent to every executor only if its estimated rows are at most this.
        pub broadcast_rows: usize, default = 1_000_000
        /// Whether joins are ordered by their estimated cost; else they keep the order of the query.
        pub join_order: bool, default = true
        /// Whether rows are aggregated before they are joined if that saves more than a fifth of the cost.
        pub eager_aggregates: bool, default = true
        /// Minimum estimated row count of the input that `eager_aggregates` aggregates before a join.
        pub eager_aggregate_rows: usize, default = 50_000
        /// Whether scans, or filters directly above them, test single rows by the keys of the joins above.
        pub row_filters: bool, default = true
        /// Whether rows are ranked, and dropped by a limit such as `rank() <= 3`, also before the exchange.
        pub window_limits: bool, default = true
        /// Whether executors read key ranges of clustered files, instead of hashing, where joins and aggregations need
        /// equal keys on one executor.
        pub key_ranges: bool, default = true
        /// Whether each executor scans rows from all over a file.
        pub interleaved_scans: bool, default = true
        /// Whether aggregations without GROUP BY over one table, under different conditions, read the table once; only
        /// with `shared_subplans`.
        pub shared_scans: bool, default = true
        /// Whether equal parts of a plan run once.
        pub shared_subplans: bool, default = true
        /// Equal parts run separately if the scans of all of them together read fewer bytes than this.
        pub shared_subplan_bytes: usize, default = 1 << 20
        /// Whether stages change once the sizes of their inputs are known.
        pub adaptive: bool, default = true
        /// Whether all tasks share the partitions of a join's probe side that are much larger than the others; only
        /// with `adaptive`.
        pub split_partitions: bool, default = true
        /// Minimum size in bytes of a partition that `split_partitions` shares.
        pub split_partition_bytes: usize, default = 16 << 20
        /// Whether tasks share large sorts, and rankings and running aggregates without PARTITION BY, by key ranges.
        pub ranges: bool, default = true
        /// Minimum estimated input in bytes of a sort, ranking or running aggregate that `ranges` shares.
        pub range_bytes: usize, default = 64 << 20
        /// Bytes of input per task: with less input, a stage runs as fewer tasks than planned; only with `adaptive`.
        pub adaptive_task_bytes: usize, default = 4 << 20
    }
}

config_namespace! {
    /// What expressions mean; in SQL, `SET hwacha.execution.checked_arithmetic = …`.
    pub struct ExecutionOptions {
        /// Whether a sum, difference or product of whole numbers that does not fit into its type is an error; else it
        /// wraps around. This includes the totals of `sum`.
        pub checked_arithmetic: bool, default = true
    }
}

config_namespace! {
    /// How rows move between stages; in SQL, `SET hwacha.exchange.pipelined = …`.
    pub struct ExchangeOptions {
        /// Whether consumers start while their producers run.
        pub pipelined: bool, default = true
        /// Whether rows are compressed if the network between two executors is slower than the compression.
        pub compression: bool, default = true
    }
}

extensions_options! {
    /// Hwacha's settings.
    pub struct HwachaOptions {
        pub optimizer: OptimizerOptions, default = OptimizerOptions::default()
        pub execution: ExecutionOptions, default = ExecutionOptions::default()
        pub exchange: ExchangeOptions, default = ExchangeOptions::default()
    }
}

/// The options as DataFusion's extension. Lists them with the prefix `hwacha.`, which the listing of the macro lacks.
#[derive(Clone, Debug, Default)]
struct NamedOptions(HwachaOptions);

impl ConfigExtension for NamedOptions {
    const PREFIX: &'static str = PREFIX;
}

const PREFIX: &str = "hwacha";

impl ExtensionOptions for NamedOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.0.set(key, value)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let named = |entry: ConfigEntry| ConfigEntry { key: format!("{PREFIX}.{}", entry.key), ..entry };
        self.0.entries().into_iter().map(named).collect()
    }
}

/// Hwacha's settings within `options`; the defaults when the extension is not there.
pub fn hwacha_options(options: &ConfigOptions) -> HwachaOptions {
    options.extensions.get::<NamedOptions>().map(|named| named.0.clone()).unwrap_or_default()
}

/// The configuration that every session starts from.
pub fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_option_extension(NamedOptions::default());
    let options = config.options_mut();
    // A server has only this catalog.
    options.catalog.default_catalog = "hwacha".to_owned();
    options.catalog.default_schema = "public".to_owned();
    options.execution.time_zone = Some(UTC.to_owned());
    // The operator of this DataFusion rule has no encoding. Hwacha's rule for such limits is
    // `plan/src/rules/window_limits.rs`.
    options.optimizer.enable_window_topn = false;
    config
}

/// The time zone of a session that does not set another.
pub const UTC: &str = "UTC";

/// Whether `zone` is a name of a time zone that always equals UTC.
pub fn is_utc(zone: &str) -> bool {
    ["UTC", "Etc/UTC", "GMT", "Z", "+00:00", "+00", "+0000"].contains(&zone)
}

/// The functions that depend on settings, such as the time zone, updated to the settings in `options`.
///
/// If the time zone is UTC, they return timestamps without a zone: with a zone, `to_timestamp` of a text column fails
/// (apache/datafusion#24632).
pub fn functions_of_settings<'a>(
    functions: impl IntoIterator<Item = &'a Arc<ScalarUDF>>,
    options: &ConfigOptions,
) -> Vec<Arc<ScalarUDF>> {
    let mut options = options.clone();
    options.execution.time_zone = options.execution.time_zone.filter(|zone| !is_utc(zone));
    functions.into_iter().filter_map(|function| function.inner().with_updated_config(&options).map(Arc::new)).collect()
}

/// Builds the state, with functions that follow its settings. Without this step, DataFusion gives the functions the
/// zone UTC.
pub fn built(builder: SessionStateBuilder) -> Result<SessionState> {
    let mut state = builder.build();
    for function in functions_of_settings(state.scalar_functions().values(), state.config_options()) {
        state.register_udf(function)?;
    }
    Ok(state)
}

/// The configuration for a plan of `tasks` tasks, which have `partitions` partitions together.
pub fn planning_config(mut config: SessionConfig, partitions: usize, tasks: usize) -> SessionConfig {
    config = config.with_target_partitions(partitions);
    // For `max(a)`, DataFusion drops rows whose `a` is below the maximum so far. If the same aggregation also computes
    // `max(b)` or `max(a + b)`, it needs these rows and gives a wrong result
    // (https://github.com/apache/datafusion/issues/24816).
    config.options_mut().optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    if tasks > 1 {
        let hwacha = hwacha_options(config.options()).optimizer;
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.hash_join_single_partition_threshold = hwacha.broadcast_bytes;
        optimizer.hash_join_single_partition_threshold_rows = hwacha.broadcast_rows;
    }
    config
}
