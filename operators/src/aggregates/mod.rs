//! Aggregate functions beside DataFusion's own, and what is known of the functions of both.

pub mod checked_sum;
pub mod float_extreme;
pub mod merged;
pub mod order_insensitive;
pub mod resumed;

use datafusion::logical_expr::AggregateUDF;

use self::float_extreme::FloatExtreme;
use self::merged::MergedAggregate;

/// The name of DataFusion's function whose states `function` merges or which it replaces over floats. Otherwise the
/// name of `function` itself.
pub fn own_name(function: &AggregateUDF) -> &str {
    let inner = function.inner();
    let merged = inner.downcast_ref::<MergedAggregate>().map(MergedAggregate::own_name);
    let extreme = inner.downcast_ref::<FloatExtreme>().map(FloatExtreme::function);
    merged.or(extreme).unwrap_or(function.name())
}
