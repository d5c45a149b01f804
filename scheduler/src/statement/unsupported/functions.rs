//! Calls of functions: refuses DISTINCT, ORDER BY, FILTER, WITHIN GROUP, OVER and IGNORE NULLS where a function would
//! ignore them.
//!
//! The kind of a function decides which of these parts a call may have. So names are looked up in the order of the
//! planner: scalar functions first, then aggregates and window functions. The planner refuses unknown names.

use datafusion::execution::SessionState;
use datafusion::logical_expr::AggregateUDF;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, NullTreatment, ObjectName, OrderByExpr, WindowFrame, WindowSpec, WindowType,
};

use super::{refuse, refused};
use crate::error::Error;

/// Aggregates for which DISTINCT is safe: they carry it out, their result does not depend on it (`max`), or they
/// refuse it themselves. Other aggregates ignore DISTINCT.
const DISTINCT: [&str; 24] = [
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "count",
    "first_value",
    "last_value",
    "max",
    "median",
    "min",
    "percentile_cont",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// With OVER these names mean window functions, although aggregates of the same names exist.
const NO_AGGREGATES: [&str; 3] = ["first_value", "last_value", "nth_value"];

/// Window functions that carry out IGNORE NULLS. Other window functions ignore these words.
const NULLS: [&str; 5] = ["first_value", "lag", "last_value", "lead", "nth_value"];

/// Functions that the planner carries out by name, although they are not registered.
const BUILT_IN: [&str; 4] = ["make_map", "map", "unnest", "unnest_outer"];

/// Aggregates that compute over the value in the ORDER BY among their arguments: `percentile_cont(a, 0.5 ORDER BY c)`
/// is a percentile of `c`.
const ORDERED_SETS: [&str; 4] =
    ["approx_percentile_cont", "approx_percentile_cont_with_weight", "percentile_cont", "quantile_cont"];

pub(super) fn check(function: &Function, state: &SessionState) -> Result<(), Error> {
    // {fn name(…)} and name(…) mean the same.
    let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group } = function;
    if *parameters != FunctionArguments::None {
        return refused(format!("two lists of arguments after {name} are not supported; write one"));
    }
    if let Some(over) = over {
        check_window(over)?;
    }
    let mut call = Call {
        name,
        args: &[],
        is_distinct: false,
        order_by: &[],
        nulls: null_treatment.as_ref(),
        is_filtered: filter.is_some(),
        is_within_group: !within_group.is_empty(),
        is_over: over.is_some(),
    };
    match args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) => {
            return refused(format!(
                "{name}(SELECT …) is not supported; write {name}((SELECT …)), or use array_agg() within the query"
            ));
        }
        FunctionArguments::List(list) => call.take(list),
    }
    call.check(state)
}

/// The rewrites have replaced the names of known windows by their definitions, so a name that is left is unknown.
fn check_window(over: &WindowType) -> Result<(), Error> {
    let name = match over {
        WindowType::NamedWindow(name) => Some(name),
        WindowType::WindowSpec(WindowSpec {
            window_name,
            partition_by: _,
            order_by: _,
            window_frame: None | Some(WindowFrame { units: _, start_bound: _, end_bound: _ }),
        }) => window_name.as_ref(),
    };
    match name {
        Some(name) => Err(Error::invalid(format!(
            "there is no window {name} here; define it with WINDOW in the same SELECT, and use it in the SELECT list, \
             QUALIFY or ORDER BY"
        ))),
        None => Ok(()),
    }
}

/// The parts of a call.
struct Call<'a> {
    name: &'a ObjectName,
    args: &'a [FunctionArg],
    is_distinct: bool,
    order_by: &'a [OrderByExpr],
    nulls: Option<&'a NullTreatment>,
    is_filtered: bool,
    is_within_group: bool,
    is_over: bool,
}

impl<'a> Call<'a> {
    /// Takes the parts within the parentheses.
    fn take(&mut self, list: &'a FunctionArgumentList) {
        let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        self.args = args;
        self.is_distinct = match duplicate_treatment {
            Some(DuplicateTreatment::Distinct) => true,
            Some(DuplicateTreatment::All) | None => false,
        };
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => self.nulls = Some(nulls),
                FunctionArgumentClause::OrderBy(order_by) => self.order_by = order_by,
                // The planner refuses these with every function.
                FunctionArgumentClause::Limit(_)
                | FunctionArgumentClause::OnOverflow(_)
                | FunctionArgumentClause::Having(_)
                | FunctionArgumentClause::Separator(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => {}
            }
        }
    }

    fn check(&self, state: &SessionState) -> Result<(), Error> {
        let known = known_as(self.name);
        if BUILT_IN.contains(&known.as_str()) || state.higher_order_functions().contains_key(&known) {
            self.check_names()?;
            return self.check_over_rows();
        }
        if state.scalar_functions().contains_key(&known) {
            return self.check_over_rows();
        }
        let aggregate = state.aggregate_functions().get(&known);
        match aggregate {
            Some(aggregate) if !self.is_over => self.check_over_groups(aggregate, &known),
            Some(aggregate) if !NO_AGGREGATES.contains(&aggregate.name()) => self.check_over_windows(aggregate),
            _ => match state.window_functions().get(&known) {
                Some(function) if self.is_over => self.check_window_function(function.name()),
                _ => Ok(()),
            },
        }
    }

    /// Checks a call of a scalar function, which takes one row at a time.
    fn check_over_rows(&self) -> Result<(), Error> {
        let parts = [
            (self.is_distinct, "DISTINCT"),
            (!self.order_by.is_empty(), "ORDER BY"),
            (self.nulls.is_some(), "IGNORE NULLS or RESPECT NULLS"),
            (self.is_filtered, "FILTER"),
            (self.is_within_group, "WITHIN GROUP"),
            (self.is_over, "OVER"),
        ];
        match parts.iter().find(|(is_there, _)| *is_there) {
            Some((_, part)) => refused(format!(
                "{part} is not supported with {}(), which takes one row at a time; leave it out",
                self.name
            )),
            None => Ok(()),
        }
    }

    fn check_names(&self) -> Result<(), Error> {
        if self.args.iter().all(|arg| matches!(arg, FunctionArg::Unnamed(_))) {
            return Ok(());
        }
        refused(format!("{}() does not support named arguments; write them in order, without names", self.name))
    }

    /// Checks a call of an aggregate without OVER.
    fn check_over_groups(&self, aggregate: &AggregateUDF, known: &str) -> Result<(), Error> {
        self.check_distinct(aggregate)?;
        self.check_stars()?;
        let is_decided_by_groups = aggregate.name() == "grouping";
        refuse([
            (
                is_decided_by_groups && (self.is_filtered || !self.order_by.is_empty()),
                "FILTER and ORDER BY are not supported with grouping(), which looks at no rows; leave them out",
            ),
            (
                (aggregate.supports_within_group_clause() || ORDERED_SETS.contains(&known)) && self.has_two_values(),
                "the first argument of an ordered aggregate must be equal to its ORDER BY expression; write the same \
                 expression in both places, or use WITHIN GROUP (ORDER BY …)",
            ),
        ])
    }

    /// Checks a call of an aggregate with OVER. The planner refuses ORDER BY and WITHIN GROUP.
    fn check_over_windows(&self, aggregate: &AggregateUDF) -> Result<(), Error> {
        self.check_distinct(aggregate)?;
        self.check_stars()?;
        match self.nulls {
            Some(nulls) if !aggregate.supports_null_handling_clause() => {
                refused(format!("{nulls} is not supported with {}(); leave it out", self.name))
            }
            _ => Ok(()),
        }
    }

    /// Checks a call of a window function that is not an aggregate, such as rank(). The planner refuses FILTER, ORDER
    /// BY and WITHIN GROUP.
    fn check_window_function(&self, function: &str) -> Result<(), Error> {
        if self.is_distinct {
            return refused(format!(
                "DISTINCT is not supported with {}() OVER (…); use SELECT DISTINCT in a subquery of FROM",
                self.name
            ));
        }
        match self.nulls {
            Some(nulls) if !NULLS.contains(&function) => {
                refused(format!("{nulls} is not supported with {}(); leave it out", self.name))
            }
            _ => Ok(()),
        }
    }

    fn check_distinct(&self, aggregate: &AggregateUDF) -> Result<(), Error> {
        if self.is_distinct && !DISTINCT.contains(&aggregate.name()) {
            return refused(format!(
                "DISTINCT is not supported with {}(); use SELECT DISTINCT in a subquery of FROM",
                self.name
            ));
        }
        Ok(())
    }

    /// Refuses `DISTINCT *` and `t.*` as arguments. The planner makes `count(*)` of `count(t.*)`, which also counts
    /// rows for which an outer join found no row of `t`.
    fn check_stars(&self) -> Result<(), Error> {
        for arg in self.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if self.is_distinct => refused(format!(
                    "{}(DISTINCT *) is not supported; write SELECT count(*) FROM (SELECT DISTINCT * FROM …)",
                    self.name
                ))?,
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(table)) => refused(format!(
                    "{}({table}.*) is not supported; name a column of {table}, or write count(*) for all rows",
                    self.name
                ))?,
                FunctionArg::Unnamed(_)
                | FunctionArg::Named { name: _, arg: _, operator: _ }
                | FunctionArg::ExprNamed { name: _, arg: _, operator: _ } => {}
            }
        }
        Ok(())
    }

    /// Whether the first argument and the value in ORDER BY differ. The planner would use the value in ORDER BY and
    /// ignore the first argument.
    fn has_two_values(&self) -> bool {
        let ([value, _, ..], [ordered, ..], false) = (self.args, self.order_by, self.is_within_group) else {
            return false;
        };
        match value {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => *value != ordered.expr,
            _ => true,
        }
    }
}

/// The name by which the planner looks up a function. It does not depend on the session's rule for the case of names.
fn known_as(name: &ObjectName) -> String {
    match name.0.as_slice() {
        [part] => match part.as_ident() {
            Some(ident) => IdentNormalizer::default().normalize(ident.clone()),
            None => String::new(),
        },
        _ => name.to_string(),
    }
}
