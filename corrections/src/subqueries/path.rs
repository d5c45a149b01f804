//! The nodes between a correlated condition and the root of its subquery, and whether DataFusion may move the condition
//! past all of them ([`super::kept`]).

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, Distinct, Expr, Filter, LogicalPlan, Operator, Projection, Sort, SubqueryAlias,
};
use hwacha_operators::functions::opaque::OPAQUE;

use super::existence::has_grouping_sets;
use super::references::{becomes_join, has, has_subquery, is_correlated, lateral, provides, reaches_out};

/// The purpose of a subquery.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Asked {
    /// Whether it has a row, for EXISTS and IN.
    Existence,
    /// Its one value, for a scalar subquery.
    Value,
    /// Its rows, for LATERAL.
    Rows,
}

/// The correlated conditions below a node, with the facts that decide which nodes above they may pass.
pub(super) struct Path {
    is_correlated: bool,
    /// The subquery's columns in the conditions, under the names that they have at the node.
    columns: Vec<Column>,
    /// Whether all conditions are `column = expression over the outer row`.
    fixes_columns: bool,
    pub(super) is_aggregated: bool,
}

pub(super) struct Walk {
    pub(super) asked: Asked,
}

impl Walk {
    /// The path up to `plan`; `None` if DataFusion gets the subquery wrong.
    pub(super) fn walk(&self, plan: &LogicalPlan) -> Result<Option<Path>> {
        if !is_correlated(plan) {
            return Ok(Some(Path { is_correlated: false, columns: vec![], fixes_columns: true, is_aggregated: false }));
        }
        match plan {
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::SubqueryAlias(alias) if lateral(plan).is_none() => self.alias(alias),
            LogicalPlan::Sort(Sort { expr, input, fetch: None }) => {
                let is_passed = !expr.iter().any(|key| key.expr.contains_outer());
                Ok(self.walk(input)?.filter(|_| is_passed))
            }
            LogicalPlan::Distinct(Distinct::All(input)) if self.asked == Asked::Existence => Ok(self
                .walk(input)?
                .filter(|path| !path.is_aggregated)
                .map(|path| Path { is_aggregated: true, ..path })),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            // Joins are refused too, because DataFusion's decorrelation visits both sides of a join with one shared
            // state. For EXISTS it drops a LIMIT on the side without the condition. It also adds the condition's
            // columns to every plan that is equal to the plan with the condition.
            _ => Ok(None),
        }
    }

    fn filter(&self, filter: &Filter) -> Result<Option<Path>> {
        let Some(mut path) = self.walk(&filter.input)? else { return Ok(None) };
        let schema = filter.input.schema();
        // DataFusion turns this filter into a join before it moves conditions, and conditions from below may not pass
        // a join.
        if path.is_correlated && has(&filter.predicate, becomes_join) {
            return Ok(None);
        }
        for test in split_conjunction(&filter.predicate) {
            let is_moved = test.contains_outer();
            if reaches_out(test, &[filter.input.as_ref()])? && (!is_moved || has_subquery(test)) {
                return Ok(None);
            }
            // A filter above an aggregation is a HAVING. A correlated HAVING must not be moved. For a scalar or LATERAL
            // subquery, DataFusion computes a wrong result if no row meets the condition, so only EXISTS and IN may
            // have HAVING.
            if path.is_aggregated && (is_moved || self.asked != Asked::Existence) {
                return Ok(None);
            }
            if is_moved {
                path.is_correlated = true;
                path.fixes_columns &= fixes_column(test, schema);
                path.columns.extend(test.column_refs().into_iter().cloned());
            }
        }
        path.columns.sort();
        path.columns.dedup();
        Ok(path.fits(schema).then_some(path))
    }

    fn projection(&self, projection: &Projection) -> Result<Option<Path>> {
        let Some(path) = self.walk(&projection.input)? else { return Ok(None) };
        let is_compensated =
            !path.is_aggregated || self.asked == Asked::Existence || projection.expr.iter().all(is_undone_over_no_rows);
        Ok((is_compensated && path.passes(&projection.expr, &projection.input)?).then_some(path))
    }

    fn alias(&self, alias: &SubqueryAlias) -> Result<Option<Path>> {
        let Some(mut path) = self.walk(&alias.input)? else { return Ok(None) };
        // For LATERAL, DataFusion looks up columns by the names that they have below the alias.
        if self.asked == Asked::Rows || !path.fits(alias.input.schema()) {
            return Ok(None);
        }
        for column in &mut path.columns {
            column.relation = Some(alias.alias.clone());
        }
        Ok(path.is_selected(&alias.schema).then_some(path))
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Option<Path>> {
        let Some(path) = self.walk(&aggregate.input)? else { return Ok(None) };
        if path.is_aggregated || has_grouping_sets(aggregate) {
            return Ok(None);
        }
        let groups = &aggregate.group_expr;
        let is_right = if aggregate.aggr_expr.is_empty() {
            self.asked == Asked::Existence
        } else {
            path.fixes_columns
                && !path.columns.is_empty()
                && match self.asked {
                    Asked::Existence => !groups.is_empty(),
                    Asked::Value => groups.iter().all(|group| path.is_column(group)),
                    Asked::Rows => true,
                }
        };
        let passes = path.passes(groups, &aggregate.input)? && path.passes(&aggregate.aggr_expr, &aggregate.input)?;
        Ok((is_right && passes).then_some(Path { is_aggregated: true, ..path }))
    }
}

impl Path {
    fn is_column(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(column) if self.columns.contains(column))
    }

    /// Whether the unqualified name of each column of the conditions is unique in a schema and among the conditions.
    fn fits(&self, schema: &DFSchema) -> bool {
        let is_only = |column: &Column| {
            let is_known = |other: &Column| other.name != column.name || other == column;
            schema.columns().iter().all(is_known) && self.columns.iter().all(is_known)
        };
        self.columns.iter().all(is_only)
    }

    /// Whether a schema has all columns of the conditions. The schema of an alias lacks the columns that DataFusion
    /// adds below the alias.
    fn is_selected(&self, schema: &DFSchema) -> bool {
        self.columns.iter().all(|column| provides(schema, column))
    }

    /// Whether DataFusion may add the columns of the conditions to `exprs`: no other expression has the name of such a
    /// column, and no expression refers to outer rows.
    fn passes(&self, exprs: &[Expr], input: &LogicalPlan) -> Result<bool> {
        for expr in exprs {
            if reaches_out(expr, &[input])? {
                return Ok(false);
            }
            let (_, name) = expr.qualified_name();
            let has_name = |column: &Column| column.name == name || column.flat_name() == name;
            if !self.is_column(expr) && self.columns.iter().any(has_name) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a condition is true for only one value of a column: `a.k = outer(o.k)`.
fn fixes_column(test: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = test else { return false };
    is_key(left, schema) && !right.any_column_refs() || is_key(right, schema) && !left.any_column_refs()
}

/// Whether `expr` is a column, or a cast of one that maps different values to different values. Otherwise one outer
/// row may have several groups: `CAST(v AS INT) = o.k` is true for the groups 1.2 and 1.4 if `o.k` is 1.
fn is_key(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(Cast { expr, field }) => {
            let from = match expr.as_ref() {
                Expr::Column(column) => schema.qualified_field_from_column(column).map(|(_, from)| from.data_type()),
                _ => return false,
            };
            from.is_ok_and(|from| keeps_apart(from, field.data_type()))
        }
        _ => false,
    }
}

fn keeps_apart(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Date32, Date64, Decimal128, Dictionary, Float32, Float64, Int8, Int16, Int32, LargeUtf8, Timestamp, UInt8,
        UInt16, UInt32, Utf8, Utf8View,
    };
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    match (from, to) {
        (from, to) if from == to => true,
        (Dictionary(_, from), to) => keeps_apart(from, to),
        (from, to) if from.is_integer() && to.is_integer() => {
            let is_same_kind = from.is_signed_integer() == to.is_signed_integer();
            width(to) > width(from) && (is_same_kind || to.is_signed_integer())
        }
        (from, Decimal128(precision, scale)) if from.is_integer() => {
            i32::from(*precision) - i32::from(*scale) >= most_digits(width(from))
        }
        (Decimal128(precision, scale), Decimal128(to_precision, to_scale)) => {
            let whole = |precision: u8, scale: i8| i32::from(precision) - i32::from(scale);
            to_scale >= scale && whole(*to_precision, *to_scale) >= whole(*precision, *scale)
        }
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float32, Float64) => true,
        (Int8 | Int16 | UInt8 | UInt16, Float32) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Date32, Date64 | Timestamp(_, _)) => true,
        _ => false,
    }
}

/// The maximum number of digits of an integer with `bytes` bytes: 5 for 2 bytes, because 65,535 has 5 digits.
fn most_digits(bytes: usize) -> i32 {
    match bytes {
        1 => 3,
        2 => 5,
        4 => 10,
        _ => 20,
    }
}

/// Whether DataFusion computes the right value of an expression over aggregates for an outer row without matching
/// rows. DataFusion replaces each aggregate by its value over no rows: `count(*) + 1` gives 1. If the expression has no
/// aggregate, DataFusion gives NULL. NULL is wrong for a constant, and for an expression that the simplifier turns into
/// a constant, such as `count(*) * 0`.
fn is_undone_over_no_rows(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => is_undone_over_no_rows(&alias.expr),
        Expr::Cast(cast) => is_undone_over_no_rows(&cast.expr),
        Expr::Negative(inner) => is_undone_over_no_rows(inner),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (left.as_ref(), right.as_ref());
            let is_number = |side: &Expr| matches!(side, Expr::Literal(value, _) if !is_null_or_zero(value));
            let is_harmless = |side: &Expr| is_number(side) || is_undone_over_no_rows(side);
            is_arithmetic(*op) && is_harmless(left) && is_harmless(right) && !(is_number(left) && is_number(right))
        }
        Expr::ScalarFunction(function) => {
            matches!(function.name(), OPAQUE | "coalesce" | "round" | "abs" | "ceil" | "floor" | "trunc" | "nullif")
                && function.args.first().is_some_and(is_undone_over_no_rows)
                && !function.args.iter().any(Expr::contains_outer)
        }
        _ => false,
    }
}

/// Whether a literal operand may turn the whole expression into a constant: `count(*) * 0` becomes 0.
fn is_null_or_zero(value: &ScalarValue) -> bool {
    value.is_null() || ScalarValue::new_zero(&value.data_type()).map_or(true, |zero| zero == *value)
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(
        op,
        Operator::Plus
            | Operator::Minus
            | Operator::Multiply
            | Operator::Divide
            | Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
    )
}
