//! Finds where an expression compares floats and intervals, and puts keys there.

use std::mem::take;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunction, InList, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    AggregateUDF, Between, BinaryExpr, Case, Expr, ExprSchemable, Operator, SortExpr, WindowFunctionDefinition,
};
use hwacha_operators::aggregates::float_extreme::float_extreme;
use hwacha_operators::functions::order_key::{ORDER_KEY, holds_keyed, key_of, order_key};

/// Operators that compare two values.
const COMPARISONS: [Operator; 8] = [
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
];

/// Scalar functions that compare their arguments, or the elements of their arguments.
const COMPARING: [&str; 22] = [
    "array_distinct",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_max",
    "array_min",
    "array_position",
    "array_positions",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_sort",
    "array_union",
    "greatest",
    "least",
    "map_extract",
    "nullif",
];

/// Aggregate functions that compare the values of their argument.
const ORDERING: [&str; 8] = [
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "max",
    "median",
    "min",
    "percentile_cont",
];

/// Puts keys into expressions over the columns of `schema`.
pub(super) struct OrderKeys<'a> {
    pub schema: &'a DFSchema,
}

impl OrderKeys<'_> {
    /// `expr` with keys in each comparison of floats or intervals, at its root and in all its parts.
    pub(super) fn compared(&self, expr: Expr) -> Result<Expr> {
        expr.transform_up(|expr| self.keyed(expr)).data()
    }

    /// `expr` with keys if its root compares floats or intervals. Its parts are not visited.
    pub(super) fn keyed(&self, expr: Expr) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match expr {
            Expr::AggregateFunction(call) => Expr::AggregateFunction(self.aggregated(call)?),
            Expr::WindowFunction(call) => Expr::WindowFunction(Box::new(self.windowed(*call)?)),
            other => return with_operands(other, &|operand| self.key(operand)),
        }))
    }

    fn aggregated(&self, mut call: AggregateFunction) -> Result<AggregateFunction> {
        let extreme = self.extreme(&call)?;
        let params = &mut call.params;
        if params.distinct || ORDERING.contains(&call.func.name()) {
            params.args = self.keys(take(&mut params.args))?;
        }
        params.order_by = self.sorts(take(&mut params.order_by))?;
        if let Some(extreme) = extreme {
            call.func = extreme;
        }
        Ok(call)
    }

    /// The function that replaces `min` or `max` over floats. In windows, DataFusion's own `min` and `max` are right.
    fn extreme(&self, call: &AggregateFunction) -> Result<Option<Arc<AggregateUDF>>> {
        let (Some(extreme), [argument]) = (float_extreme(call.func.name()), &call.params.args[..]) else {
            return Ok(None);
        };
        Ok(argument.get_type(self.schema)?.is_floating().then_some(extreme))
    }

    fn windowed(&self, mut call: WindowFunction) -> Result<WindowFunction> {
        let is_ordering = match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => ORDERING.contains(&function.name()),
            WindowFunctionDefinition::WindowUDF(_) => false,
        };
        let params = &mut call.params;
        if params.distinct || is_ordering {
            params.args = self.keys(take(&mut params.args))?;
        }
        params.partition_by = self.keys(take(&mut params.partition_by))?;
        params.order_by = self.sorts(take(&mut params.order_by))?;
        Ok(call)
    }

    pub(super) fn sorts(&self, sorts: Vec<SortExpr>) -> Result<Vec<SortExpr>> {
        sorts.into_iter().map(|sort| Ok(SortExpr { expr: self.key(sort.expr)?, ..sort })).collect()
    }

    fn keys(&self, exprs: Vec<Expr>) -> Result<Vec<Expr>> {
        exprs.into_iter().map(|expr| self.key(expr)).collect()
    }

    /// The key of an expression, with the expression's name.
    pub(super) fn named_key(&self, expr: &Expr) -> Result<Expr> {
        let name = NamePreserver::new_for_projection().save(expr);
        Ok(name.restore(self.key(self.compared(expr.clone())?)?))
    }

    /// The expression that is compared instead of `expr`: its key, or `expr` itself if its type has no keys or its
    /// values already are keys.
    pub(super) fn key(&self, expr: Expr) -> Result<Expr> {
        Ok(match expr {
            Expr::Literal(value, metadata) => Expr::Literal(key_of(value)?, metadata),
            Expr::Alias(mut alias) => {
                alias.expr = Box::new(self.key(*alias.expr)?);
                Expr::Alias(alias)
            }
            expr if !holds_keyed(&expr.get_type(self.schema)?) || self.is_key(&expr)? => expr,
            expr => call_of_key(expr),
        })
    }

    /// Whether the values of an expression already are keys. This holds for a call of `order_key`, and for an integer
    /// or decimal that is cast to a float: the cast never gives -0.0 or NaN.
    fn is_key(&self, expr: &Expr) -> Result<bool> {
        Ok(match expr {
            Expr::ScalarFunction(call) => call.func.name() == ORDER_KEY,
            Expr::Cast(cast) => {
                let from = cast.expr.get_type(self.schema)?;
                cast.field.data_type().is_floating() && (from.is_integer() || from.is_decimal())
            }
            _ => false,
        })
    }
}

/// A call of `order_key`.
pub(super) fn call_of_key(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(order_key(), vec![expr]))
}

/// `expr` with `key` applied to each operand that it compares.
pub(super) fn with_operands(expr: Expr, key: &dyn Fn(Expr) -> Result<Expr>) -> Result<Transformed<Expr>> {
    let boxed = |expr: Box<Expr>| Ok::<_, DataFusionError>(Box::new(key(*expr)?));
    let each = |exprs: Vec<Expr>| exprs.into_iter().map(key).collect::<Result<Vec<_>>>();
    Ok(Transformed::yes(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if COMPARISONS.contains(&op) => {
            Expr::BinaryExpr(BinaryExpr::new(boxed(left)?, op, boxed(right)?))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            Expr::Between(Between::new(boxed(expr)?, negated, boxed(low)?, boxed(high)?))
        }
        Expr::InList(InList { expr, list, negated }) => Expr::InList(InList::new(boxed(expr)?, each(list)?, negated)),
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) => {
            let cases = when_then_expr.into_iter().map(|(when, then)| Ok((boxed(when)?, then)));
            Expr::Case(Case::new(Some(boxed(expr)?), cases.collect::<Result<_>>()?, else_expr))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if COMPARING.contains(&func.name()) => {
            Expr::ScalarFunction(ScalarFunction::new_udf(func, each(args)?))
        }
        other => return Ok(Transformed::no(other)),
    }))
}
