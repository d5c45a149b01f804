//! Turns the FILTER of an aggregate window function into a CASE around its first argument, because the encoding of
//! plans leaves out FILTER: `sum(x) FILTER (WHERE p) OVER w` becomes `sum(CASE WHEN p THEN x END) OVER w`.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition, when};
use datafusion::optimizer::AnalyzerRule;

/// The aggregate functions that skip rows whose first argument is NULL.
const SKIPS_NULLS: [&str; 32] = [
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
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
    "max",
    "median",
    "min",
    "percentile_cont",
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
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// Moves the FILTER of aggregate window functions into their first arguments.
#[derive(Debug)]
pub struct EncodableWindowFiltersRule;

impl AnalyzerRule for EncodableWindowFiltersRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            if !matches!(node, LogicalPlan::Window(_)) {
                return Ok(Transformed::no(node));
            }
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(without_filter)?.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "encodable_window_filters"
    }
}

fn without_filter(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut function) = expr else { return Ok(Transformed::no(expr)) };
    let Some(filter) = function.params.filter.take() else {
        return Ok(Transformed::no(Expr::WindowFunction(function)));
    };
    let skips_nulls =
        matches!(&function.fun, WindowFunctionDefinition::AggregateUDF(fun) if SKIPS_NULLS.contains(&fun.name()));
    match function.params.args.first_mut() {
        Some(argument) if skips_nulls => *argument = when(*filter, argument.clone()).end()?,
        _ => {
            return plan_err!(
                "{} cannot have both FILTER and OVER; put a CASE around its argument instead",
                function.fun.name()
            );
        }
    }
    Ok(Transformed::yes(Expr::WindowFunction(function)))
}
