//! The tables of settings: the session's with their bounds, then the server's.
//!
//! A bound keeps one statement from taking the memory of the process, from looping, or from dividing by zero. It is
//! not advice. If a size changes only the time of a query, its bound is very large.

use super::{Setting, Values};

/// A size in bytes that nothing reaches (1 PiB), so it means "always" or "never". Sums of such sizes do not overflow.
const ANY_BYTES: u64 = 1 << 50;
/// A number of rows that nothing reaches (2^40, about 10^12).
const ANY_ROWS: u64 = 1 << 40;
/// The largest buffer that an operator may be given (1 GiB, which is DataFusion's largest default).
const MOST_BUFFER_BYTES: u64 = 1 << 30;
/// Maximum bytes of a format for dates (100).
const MOST_FORMAT_BYTES: usize = 100;

/// Settings that a session may change. DataFusion's defaults are within the bounds.
pub(super) const SESSION_SETTINGS: &[Setting] = &[
    // Operators reserve room for one batch: 64 Ki rows of 100 columns with 16 bytes each take 100 MiB.
    Setting::number("datafusion.execution.batch_size", 1, 65_536),
    Setting { key: "datafusion.execution.time_zone", values: Values::TimeZone },
    Setting::switch("datafusion.execution.enable_recursive_ctes"),
    Setting::switch("datafusion.execution.enable_migration_aggregate"),
    Setting::switch("datafusion.execution.enable_file_stream_work_stealing"),
    Setting::switch("datafusion.execution.enforce_batch_size_in_joins"),
    Setting::switch("datafusion.execution.use_row_number_estimates_to_optimize_partitioning"),
    Setting::words("datafusion.execution.spill_compression", &["uncompressed", "lz4_frame", "zstd"]),
    // Every sort reserves this many bytes from the pool before its first row.
    Setting::number("datafusion.execution.sort_spill_reservation_bytes", 0, MOST_BUFFER_BYTES),
    // An in-place sort concatenates its rows into one array, and the 32-bit offsets of a text array end at 2 GiB.
    Setting::number("datafusion.execution.sort_in_place_threshold_bytes", 0, MOST_BUFFER_BYTES),
    // The number of permits of a semaphore. A batch takes permits by its size, so a batch larger than all permits
    // would wait forever.
    Setting::number("datafusion.execution.sort_pushdown_buffer_capacity", 1 << 20, MOST_BUFFER_BYTES),
    // With a very low limit each batch becomes a file, which would use up the file descriptors.
    Setting::number("datafusion.execution.max_spill_file_size_bytes", 1 << 20, ANY_BYTES),
    // The array of a perfect hash join has four bytes for each number in the range of the keys.
    Setting::number("datafusion.execution.perfect_hash_join_small_build_threshold", 0, 1 << 24),
    Setting::decimal("datafusion.execution.perfect_hash_join_min_key_density", 0.01, 1.0),
    Setting::decimal("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", 0.0, 1.0),
    Setting::number("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", 0, ANY_ROWS),
    Setting::switch("datafusion.execution.parquet.pushdown_filters"),
    Setting::switch("datafusion.optimizer.enable_distinct_aggregation_soft_limit"),
    Setting::switch("datafusion.optimizer.enable_round_robin_repartition"),
    Setting::switch("datafusion.optimizer.enable_topk_aggregation"),
    Setting::switch("datafusion.optimizer.enable_window_limits"),
    Setting::switch("datafusion.optimizer.enable_topk_repartition"),
    Setting::switch("datafusion.optimizer.enable_topk_dynamic_filter_pushdown"),
    Setting::switch("datafusion.optimizer.enable_join_dynamic_filter_pushdown"),
    Setting::switch("datafusion.optimizer.enable_dynamic_filter_pushdown"),
    Setting::switch("datafusion.optimizer.enable_sort_pushdown"),
    Setting::switch("datafusion.optimizer.enable_leaf_expression_pushdown"),
    Setting::switch("datafusion.optimizer.enable_unions_to_filter"),
    Setting::switch("datafusion.optimizer.expand_views_at_output"),
    Setting::switch("datafusion.optimizer.filter_null_join_keys"),
    Setting::switch("datafusion.optimizer.join_reordering"),
    Setting::switch("datafusion.optimizer.prefer_existing_sort"),
    Setting::switch("datafusion.optimizer.prefer_existing_union"),
    Setting::switch("datafusion.optimizer.prefer_hash_join"),
    Setting::switch("datafusion.optimizer.repartition_aggregations"),
    Setting::switch("datafusion.optimizer.repartition_file_scans"),
    Setting::switch("datafusion.optimizer.repartition_joins"),
    Setting::switch("datafusion.optimizer.repartition_sorts"),
    Setting::switch("datafusion.optimizer.repartition_windows"),
    Setting::switch("datafusion.optimizer.top_down_join_key_reordering"),
    // A percentage.
    Setting::number("datafusion.optimizer.default_filter_selectivity", 0, 100),
    // Maximum size of the list of keys that each partition of a build side keeps as a filter: in bytes, then in
    // values.
    Setting::number("datafusion.optimizer.hash_join_inlist_pushdown_max_size", 0, 16 << 20),
    Setting::number("datafusion.optimizer.hash_join_inlist_pushdown_max_distinct_values", 0, 100_000),
    Setting::number("datafusion.optimizer.hash_join_single_partition_threshold", 0, ANY_BYTES),
    Setting::number("datafusion.optimizer.hash_join_single_partition_threshold_rows", 0, ANY_ROWS),
    // Without a pass subqueries are not rewritten and cannot be planned. Passes are repeated while they change the
    // plan. A plan with a constant that fails, such as 1 / 0, counts as changed after each pass.
    Setting::number("datafusion.optimizer.max_passes", 1, 16),
    Setting::number("datafusion.optimizer.repartition_file_min_size", 0, ANY_BYTES),
    Setting::number("datafusion.optimizer.subset_repartition_threshold", 0, ANY_ROWS),
    Setting::words("datafusion.explain.format", &["indent", "tree", "pgjson", "graphviz"]),
    Setting::switch("datafusion.explain.show_statistics"),
    Setting::switch("datafusion.sql_parser.collect_spans"),
    Setting::words(
        "datafusion.sql_parser.default_null_ordering",
        &["nulls_max", "nulls_min", "nulls_first", "nulls_last"],
    ),
    Setting::words(
        "datafusion.sql_parser.dialect",
        &[
            "generic",
            "mysql",
            "postgresql",
            "postgres",
            "hive",
            "sqlite",
            "snowflake",
            "redshift",
            "mssql",
            "clickhouse",
            "bigquery",
            "ansi",
            "duckdb",
            "databricks",
            "spark",
            "sparksql",
        ],
    ),
    Setting::switch("datafusion.sql_parser.enable_ident_normalization"),
    Setting::switch("datafusion.sql_parser.enable_subquery_sort_elimination"),
    Setting::switch("datafusion.sql_parser.map_string_types_to_utf8view"),
    Setting::switch("datafusion.sql_parser.parse_float_as_decimal"),
    Setting::switch("datafusion.sql_parser.support_varchar_with_length"),
    Setting::switch("datafusion.format.safe"),
    Setting::switch("datafusion.format.types_info"),
    Setting::text("datafusion.format.null", MOST_FORMAT_BYTES),
    Setting::text("datafusion.format.date_format", MOST_FORMAT_BYTES),
    Setting::text("datafusion.format.datetime_format", MOST_FORMAT_BYTES),
    Setting::text("datafusion.format.time_format", MOST_FORMAT_BYTES),
    Setting::text("datafusion.format.timestamp_format", MOST_FORMAT_BYTES),
    Setting::text("datafusion.format.timestamp_tz_format", MOST_FORMAT_BYTES),
    Setting::words("datafusion.format.duration_format", &["pretty", "iso8601"]),
    Setting::switch("hwacha.execution.checked_arithmetic"),
    Setting::switch("hwacha.exchange.compression"),
    Setting::switch("hwacha.exchange.pipelined"),
    Setting::switch("hwacha.optimizer.adaptive"),
    Setting::switch("hwacha.optimizer.distributed"),
    Setting::switch("hwacha.optimizer.eager_aggregates"),
    Setting::switch("hwacha.optimizer.interleaved_scans"),
    Setting::switch("hwacha.optimizer.join_order"),
    Setting::switch("hwacha.optimizer.key_ranges"),
    Setting::switch("hwacha.optimizer.ranges"),
    Setting::switch("hwacha.optimizer.replan"),
    Setting::switch("hwacha.optimizer.row_filters"),
    Setting::switch("hwacha.optimizer.shared_scans"),
    Setting::switch("hwacha.optimizer.shared_subplans"),
    Setting::switch("hwacha.optimizer.split_partitions"),
    Setting::switch("hwacha.optimizer.window_limits"),
    Setting::number("hwacha.optimizer.adaptive_task_bytes", 1, ANY_BYTES),
    Setting::number("hwacha.optimizer.broadcast_bytes", 0, ANY_BYTES),
    Setting::number("hwacha.optimizer.broadcast_rows", 0, ANY_ROWS),
    Setting::number("hwacha.optimizer.eager_aggregate_rows", 0, ANY_ROWS),
    Setting::number("hwacha.optimizer.range_bytes", 0, ANY_BYTES),
    Setting::number("hwacha.optimizer.shared_subplan_bytes", 0, ANY_BYTES),
    Setting::number("hwacha.optimizer.single_task_bytes", 0, ANY_BYTES),
    Setting::number("hwacha.optimizer.split_partition_bytes", 0, ANY_BYTES),
];

/// Settings that the server alone decides.
pub(super) const SERVER_SETTINGS: &[&str] = &[
    // All sessions share the catalog. Its tables are opened from their definitions, not with the settings of a
    // session.
    "datafusion.catalog.create_default_catalog_and_schema",
    "datafusion.catalog.default_catalog",
    "datafusion.catalog.default_schema",
    "datafusion.catalog.format",
    "datafusion.catalog.has_header",
    "datafusion.catalog.information_schema",
    "datafusion.catalog.location",
    "datafusion.catalog.newlines_in_values",
    "datafusion.execution.collect_statistics",
    "datafusion.execution.listing_table_factory_infer_partitions",
    "datafusion.execution.listing_table_ignore_subdirectory",
    "datafusion.execution.meta_fetch_concurrency",
    "datafusion.execution.split_file_groups_by_statistics",
    "datafusion.optimizer.preserve_file_partitions",
    // A table's reading options come from OPTIONS of CREATE EXTERNAL TABLE, not from the session.
    "datafusion.execution.parquet.binary_as_string",
    "datafusion.execution.parquet.bloom_filter_on_read",
    "datafusion.execution.parquet.coerce_int96",
    "datafusion.execution.parquet.coerce_int96_tz",
    "datafusion.execution.parquet.enable_page_index",
    "datafusion.execution.parquet.force_filter_selections",
    "datafusion.execution.parquet.max_in_list_size",
    "datafusion.execution.parquet.max_predicate_cache_size",
    "datafusion.execution.parquet.metadata_size_hint",
    "datafusion.execution.parquet.pruning",
    "datafusion.execution.parquet.reorder_filters",
    "datafusion.execution.parquet.schema_force_view_types",
    "datafusion.execution.parquet.skip_metadata",
    // Queries use all cores of all executors.
    "datafusion.execution.planning_concurrency",
    "datafusion.execution.target_partitions",
    // The server writes its files without DataFusion.
    "datafusion.execution.keep_partition_by_columns",
    "datafusion.execution.max_buffered_batches_per_output_file",
    "datafusion.execution.minimum_parallel_output_files",
    "datafusion.execution.objectstore_writer_buffer_size",
    "datafusion.execution.soft_max_rows_per_output_file",
    "datafusion.execution.parquet.allow_single_file_parallelism",
    "datafusion.execution.parquet.bloom_filter_fpp",
    "datafusion.execution.parquet.bloom_filter_ndv",
    "datafusion.execution.parquet.bloom_filter_on_write",
    "datafusion.execution.parquet.column_index_truncate_length",
    "datafusion.execution.parquet.compression",
    "datafusion.execution.parquet.content_defined_chunking.enabled",
    "datafusion.execution.parquet.content_defined_chunking.max_chunk_size",
    "datafusion.execution.parquet.content_defined_chunking.min_chunk_size",
    "datafusion.execution.parquet.content_defined_chunking.norm_level",
    "datafusion.execution.parquet.created_by",
    "datafusion.execution.parquet.data_page_row_count_limit",
    "datafusion.execution.parquet.data_pagesize_limit",
    "datafusion.execution.parquet.dictionary_enabled",
    "datafusion.execution.parquet.dictionary_page_size_limit",
    "datafusion.execution.parquet.encoding",
    "datafusion.execution.parquet.max_row_group_bytes",
    "datafusion.execution.parquet.max_row_group_size",
    "datafusion.execution.parquet.maximum_buffered_record_batches_per_stream",
    "datafusion.execution.parquet.maximum_parallel_row_group_writers",
    "datafusion.execution.parquet.skip_arrow_metadata",
    "datafusion.execution.parquet.statistics_enabled",
    "datafusion.execution.parquet.statistics_truncate_length",
    "datafusion.execution.parquet.write_batch_size",
    "datafusion.execution.parquet.writer_version",
    // These settings lead to operators that cannot be sent to executors, to wrong results, or to an optimizer that
    // continues after a rule has refused the plan.
    "datafusion.execution.hash_join_buffering_capacity",
    "datafusion.execution.skip_physical_aggregate_schema_check",
    "datafusion.optimizer.enable_aggregate_dynamic_filter_pushdown",
    "datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery",
    "datafusion.optimizer.enable_piecewise_merge_join",
    "datafusion.optimizer.enable_window_topn",
    "datafusion.optimizer.skip_failed_rules",
    // The server has its own limits for the parser (`parsing/limits.rs`).
    "datafusion.sql_parser.recursion_limit",
    // These settings have no effect in this server.
    "datafusion.execution.coalesce_batches",
    "datafusion.execution.enable_ansi_mode",
    "datafusion.explain.analyze_categories",
    "datafusion.explain.analyze_level",
    "datafusion.explain.logical_plan_only",
    "datafusion.explain.physical_plan_only",
    "datafusion.explain.show_schema",
    "datafusion.explain.show_sizes",
    "datafusion.explain.tree_maximum_render_width",
    "datafusion.optimizer.allow_symmetric_joins_without_pruning",
    "datafusion.optimizer.use_statistics_registry",
    "datafusion.spark.map_key_dedup_policy",
    "datafusion.sql_parser.enable_options_value_normalization",
];
