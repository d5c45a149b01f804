//! Rules that correct DataFusion's plans where DataFusion 55.2 gives wrong rows, fails, or does not end.
//!
//! The rules do not depend on a cluster. Each rule also works in one process. Each rule's documentation names the
//! fault that the rule corrects. When DataFusion fixes the fault, the rule can be removed.
//!
//! ```text
//!   analyzer rules      casts, sums, float constants, guarded expressions,      (added by the scheduler's sessions)
//!                       refused constants, subqueries outside of filters
//!   optimizer_rules     subqueries, null equality, constants, merged filters    DataFusion's logical rules, corrected
//!   corrected_rules     merge joins, grouping sets, windows, merges, limits     DataFusion's physical rules, corrected
//!   other rules         pushed filters, bounds of floats, yielding joins        (added to corrected_rules by `plan`)
//!   functions           count_copies before the analyzer, key_order after the   (called by the scheduler)
//!                       logical optimizer
//! ```

mod bounded_calls;
mod byte_lengths;
mod casts;
mod checked_constants;
mod checked_sums;
mod cooperative_joins;
mod counted_set_operations;
mod float_bounds;
mod full_merges;
mod gated_filters;
mod gated_grouping_sets;
mod guarded_expressions;
mod hashed_merge_joins;
mod integer_range;
mod kept_null_equality;
mod order_keys;
mod ordered_distinct_limits;
mod safe_window_limits;
mod subqueries;
pub mod total;
mod whole_partition_shifts;

use std::sync::Arc;

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
pub use float_bounds::FloatBoundsRule;
pub use full_merges::FullMergesRule;
pub use gated_filters::GatedFiltersRule;
pub use gated_grouping_sets::GatedGroupingSetsRule;
pub use guarded_expressions::{GuardedExpressionsRule, GuardedPredicatesRule};
pub use hashed_merge_joins::HashedMergeJoinsRule;
pub use kept_null_equality::{GatedCrossJoinsRule, PlainEqualitiesRule};
pub use order_keys::{KeyedConstantsRule, key_order};
pub use ordered_distinct_limits::OrderedDistinctLimitsRule;
pub use safe_window_limits::SafeWindowLimitsRule;
pub use subqueries::{ExactSubqueriesRule, PlacedSubqueriesRule};
pub use whole_partition_shifts::WholePartitionShiftsRule;

/// DataFusion's rules for physical plans, corrected where they give wrong rows or fail.
pub fn corrected_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
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

/// DataFusion's rules for logical plans, corrected where they give wrong rows or fail.
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

/// The index of the rule `name` in `rules`. Panics if there is no such rule.
pub fn position(rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>], name: &str) -> usize {
    rules.iter().position(|rule| rule.name() == name).expect("DataFusion has a rule of this name")
}
