//! Aggregate functions in addition to DataFusion's own, and properties of all aggregate functions.

pub mod checked_sum;
pub mod float_extreme;
pub mod merged;
pub mod order_insensitive;
pub mod resumed;

use datafusion::logical_expr::AggregateUDF;

use self::float_extreme::FloatExtreme;
use self::merged::MergedAggregate;

/// The name of the function behind `function`: the function whose states a `MergedAggregate` merges, or the function
/// that a `FloatExtreme` replaces. Otherwise the name of `function` itself.
pub fn own_name(function: &AggregateUDF) -> &str {
    let inner = function.inner();
    let merged = inner.downcast_ref::<MergedAggregate>().map(MergedAggregate::own_name);
    let extreme = inner.downcast_ref::<FloatExtreme>().map(FloatExtreme::function);
    merged.or(extreme).unwrap_or(function.name())
}
