//! Rules that change plans, one per file or folder. Most of them change physical plans. After each rule the plan is
//! still valid in one process.

mod cost;
mod distributable_joins;
mod eager_aggregates;
mod encodable_generators;
mod encodable_window_filters;
mod encodable_work_tables;
mod interleaved_scans;
mod join_order;
mod key_ranges;
mod row_filters;
mod shared_scans;
mod shared_subplans;
mod window_limits;

use std::sync::Arc;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use hwacha_corrections::{
    CooperativeJoinsRule, FloatBoundsRule, GatedFiltersRule, OrderedDistinctLimitsRule, corrected_rules, position,
};
use hwacha_execution::planning_budget::checked_physical_rules;

pub use distributable_joins::{DistributableJoinsRule, emits_build_rows};
pub use eager_aggregates::EagerAggregatesRule;
pub use encodable_generators::EncodableGeneratorsRule;
pub use encodable_window_filters::EncodableWindowFiltersRule;
pub use encodable_work_tables::EncodableWorkTablesRule;
pub use interleaved_scans::InterleavedScansRule;
pub use join_order::JoinOrderRule;
pub use key_ranges::KeyRangesRule;
pub use row_filters::RowFiltersRule;
pub use shared_scans::share_scans;
pub use shared_subplans::SharedSubplansRule;
pub use window_limits::WindowLimitsRule;
pub(crate) use window_limits::limits_a_rank;

use crate::cluster::Cluster;
use crate::footers::Footers;

/// DataFusion's rules for physical plans together with Hwacha's rules. `footers` are the footers of files that planning
/// has opened.
///
/// - `JoinOrderRule` runs right after DataFusion has chosen the mode of each join.
/// - `EagerAggregatesRule` and `DistributableJoinsRule` run right after `LimitedDistinctAggregation`.
/// - `SharedSubplansRule` runs right before `FilterPushdown(Post)`, which pushes run-time filters into scans.
/// - `GatedFiltersRule` wraps `FilterPushdown` and `FilterPushdown(Post)`.
/// - All other rules run at the end.
pub fn physical_rules(
    cluster: Cluster,
    footers: Arc<FileMetadataCache>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let footers = Footers(footers);
    let mut rules = corrected_rules();
    let joins = position(&rules, "join_selection");
    rules.insert(joins + 1, Arc::new(JoinOrderRule { cluster }));
    let limits = position(&rules, "LimitedDistinctAggregation");
    rules.insert(limits + 1, Arc::new(EagerAggregatesRule { cluster }));
    rules.insert(limits + 2, Arc::new(DistributableJoinsRule { cluster }));
    let filters = position(&rules, "FilterPushdown(Post)");
    rules.insert(filters, Arc::new(SharedSubplansRule));
    for filters in ["FilterPushdown", "FilterPushdown(Post)"] {
        let filters = position(&rules, filters);
        rules[filters] = Arc::new(GatedFiltersRule(Arc::clone(&rules[filters])));
    }
    rules.push(Arc::new(FloatBoundsRule));
    rules.push(Arc::new(WindowLimitsRule { cluster }));
    rules.push(Arc::new(RowFiltersRule { cluster }));
    rules.push(Arc::new(KeyRangesRule { cluster, footers: footers.clone() }));
    rules.push(Arc::new(InterleavedScansRule { cluster, footers }));
    rules.push(Arc::new(CooperativeJoinsRule));
    rules.push(Arc::new(EncodableGeneratorsRule));
    rules.push(Arc::new(EncodableWorkTablesRule));
    // Runs again after `corrected_rules`, because the rules above may have given groups an order.
    rules.push(Arc::new(OrderedDistinctLimitsRule));
    checked_physical_rules(rules)
}
