//! Aggregate functions whose value does not depend on the order of their rows.

/// Aggregates whose value does not depend on the order of their rows, except for the last digits of floats.
const ORDER_INSENSITIVE: &[&str] = &[
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "grouping",
    "max",
    "median",
    "min",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "var",
    "var_pop",
    "var_samp",
];

/// Whether the value of an aggregate does not depend on the order of its rows, except for the last digits of floats.
pub(crate) fn is_order_insensitive(aggregate: &str) -> bool {
    ORDER_INSENSITIVE.contains(&aggregate)
}
