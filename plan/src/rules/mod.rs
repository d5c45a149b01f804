//! Rules for plans, one a file or folder, most of them for physical ones. After each the plan is still valid in one process.

mod bounded_calls;
mod byte_lengths;
mod casts;
mod checked_constants;
mod checked_sums;
mod cooperative_joins;
mod cost;
mod counted_set_operations;
mod distributable_joins;
mod eager_aggregates;
mod encodable_generators;
mod encodable_window_filters;
mod encodable_work_tables;
mod float_bounds;
mod full_merges;
mod gated_filters;
mod gated_grouping_sets;
mod guarded_expressions;
mod hashed_merge_joins;
mod interleaved_scans;
mod join_order;
mod kept_null_equality;
mod key_ranges;
mod order_keys;
mod ordered_distinct_limits;
mod pruned_row_groups;
mod row_filters;
mod safe_window_limits;
mod shared_scans;
mod shared_subplans;
mod subqueries;
mod total;
mod whole_partition_shifts;
mod window_limits;

use std::sync::Arc;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub use bounded_calls::BoundedCallsRule;
pub use byte_lengths::ByteLengths;
pub use casts::{CastsRule, ZonedDifferences, ZonedShiftsRule, keep_zones};
pub use checked_constants::CheckedConstantsRule;
pub use checked_sums::CheckedSumsRule;
pub use cooperative_joins::CooperativeJoinsRule;
pub use counted_set_operations::count_copies;
pub use distributable_joins::{DistributableJoinsRule, emits_build_rows};
pub use eager_aggregates::EagerAggregatesRule;
pub use encodable_generators::EncodableGeneratorsRule;
pub use encodable_window_filters::EncodableWindowFiltersRule;
pub use encodable_work_tables::EncodableWorkTablesRule;
pub use float_bounds::FloatBoundsRule;
pub use full_merges::FullMergesRule;
pub use gated_filters::GatedFiltersRule;
pub use gated_grouping_sets::GatedGroupingSetsRule;
pub use guarded_expressions::{GuardedExpressionsRule, GuardedPredicatesRule};
pub use hashed_merge_joins::HashedMergeJoinsRule;
pub use interleaved_scans::InterleavedScansRule;
pub use join_order::JoinOrderRule;
pub use kept_null_equality::{GatedCrossJoinsRule, PlainEqualitiesRule};
pub use key_ranges::KeyRangesRule;
pub use order_keys::{KeyedConstantsRule, key_order};
pub use ordered_distinct_limits::OrderedDistinctLimitsRule;
pub use pruned_row_groups::PrunedRowGroupsRule;
pub use row_filters::RowFiltersRule;
pub use safe_window_limits::SafeWindowLimitsRule;
pub use shared_scans::share_scans;
pub use shared_subplans::SharedSubplansRule;
pub use subqueries::{ExactSubqueriesRule, PlacedSubqueriesRule};
pub use whole_partition_shifts::WholePartitionShiftsRule;
pub use window_limits::WindowLimitsRule;
pub(crate) use window_limits::limits_a_rank;

use crate::footers::Footers;
use crate::planning_budget::checked_physical_rules;
use crate::splitter::Cluster;

/// DataFusion's rules with Hwacha's among them: joins right after their mode was chosen, aggregates below them once it is
/// known which are limited, what is shared right before filters are pushed from joins, the rest at the end. `footers` are
/// those of files that planning has opened.
pub fn physical_rules(
    cluster: Cluster,
    footers: Arc<FileMetadataCache>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let footers = Footers(footers);
    let mut rules = mended_rules();
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
    // What is pruned follows from the bounds.
    rules.push(Arc::new(FloatBoundsRule));
    rules.push(Arc::new(PrunedRowGroupsRule { footers: footers.clone() }));
    rules.push(Arc::new(WindowLimitsRule { cluster }));
    rules.push(Arc::new(RowFiltersRule { cluster }));
    rules.push(Arc::new(KeyRangesRule { cluster, footers: footers.clone() }));
    rules.push(Arc::new(InterleavedScansRule { cluster, footers }));
    rules.push(Arc::new(CooperativeJoinsRule));
    rules.push(Arc::new(EncodableGeneratorsRule));
    rules.push(Arc::new(EncodableWorkTablesRule));
    // Once more, since rules above may have given groups an order.
    rules.push(Arc::new(OrderedDistinctLimitsRule));
    checked_physical_rules(rules)
}

/// DataFusion's rules for physical plans, mended where they give other rows.
pub fn mended_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(HashedMergeJoinsRule));
    rules.insert(1, Arc::new(GatedGroupingSetsRule));
    let limits = position(&rules, "LimitPushPastWindows");
    rules[limits] = Arc::new(SafeWindowLimitsRule(Arc::clone(&rules[limits])));
    rules.insert(limits, Arc::new(WholePartitionShiftsRule));
    rules.push(Arc::new(FullMergesRule));
    rules.push(Arc::new(OrderedDistinctLimitsRule));
    rules
}

/// DataFusion's rules for logical plans, mended where they give other rows or fail.
pub fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let place = |rules: &[Arc<dyn OptimizerRule + Send + Sync>], name: &str| {
        rules.iter().position(|rule| rule.name() == name).expect("DataFusion has a rule of this name")
    };
    let constants = place(&rules, "simplify_expressions");
    rules[constants] = Arc::new(CheckedConstantsRule(Arc::clone(&rules[constants])));
    let subqueries = place(&rules, "decorrelate_predicate_subquery");
    rules.insert(subqueries, Arc::new(ExactSubqueriesRule));
    let joins = place(&rules, "eliminate_cross_join");
    rules[joins] = Arc::new(GatedCrossJoinsRule(Arc::clone(&rules[joins])));
    let keys = place(&rules, "extract_equijoin_predicate");
    rules[keys] = Arc::new(PlainEqualitiesRule(Arc::clone(&rules[keys])));
    let filters = place(&rules, "push_down_filter");
    rules.insert(filters + 1, Arc::new(GuardedPredicatesRule));
    rules
}

/// Where DataFusion's rule of that name is.
fn position(rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>], name: &str) -> usize {
    rules.iter().position(|rule| rule.name() == name).expect("DataFusion has a rule of this name")
}
