//! Derives facts about the row count of a subquery from its plan: none or some, exactly one, at most one.

use datafusion::common::Result;
use datafusion::logical_expr::{
    Aggregate, Distinct, EmptyRelation, Expr, FetchType, Filter, LogicalPlan, Projection, SkipType, Sort,
    SubqueryAlias, Window,
};

/// Whether a subquery has rows.
pub(super) enum Existence {
    Known(bool),
    /// The subquery has rows if and only if this simpler plan has rows.
    Of(LogicalPlan),
}

/// Whether `plan` has rows.
///
/// An aggregation without groups has one row even if its input is empty. DataFusion's decorrelation adds groups to it,
/// and over an empty input an aggregation with groups has no row (<https://github.com/apache/datafusion/issues/24960>).
pub(super) fn existence(plan: &LogicalPlan) -> Result<Existence> {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Window(Window { input, .. })
        | LogicalPlan::Sort(Sort { input, fetch: None, .. })
        | LogicalPlan::Distinct(Distinct::All(input)) => existence(input),
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Ok(Existence::Known(true)),
        LogicalPlan::Aggregate(aggregate) if !has_grouping_sets(aggregate) => existence(&aggregate.input),
        LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (_, FetchType::Literal(Some(0))) => Ok(Existence::Known(false)),
            (SkipType::Literal(0), FetchType::Literal(_)) => existence(&limit.input),
            _ => Ok(Existence::Of(plan.clone())),
        },
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row, .. }) => Ok(Existence::Known(*produce_one_row)),
        _ => Ok(Existence::Of(plan.clone())),
    }
}

/// Whether `plan` has exactly one row for any content of its tables.
pub(super) fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Sort(Sort { input, fetch: None, .. }) => has_one_row(input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// Whether `plan` has at most one row for each outer row, for any content of its tables.
pub(super) fn has_at_most_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::Sort(Sort { input, .. })
        | LogicalPlan::Distinct(Distinct::All(input)) => has_at_most_one_row(input),
        LogicalPlan::Limit(limit) => {
            matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))) || has_at_most_one_row(&limit.input)
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}

pub(super) fn has_grouping_sets(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_)))
}

/// Whether an aggregation only removes duplicates.
pub(super) fn is_distinct(aggregate: &Aggregate) -> bool {
    aggregate.aggr_expr.is_empty() && !has_grouping_sets(aggregate)
}
