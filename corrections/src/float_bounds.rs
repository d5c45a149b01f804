//! Lets scans skip files, row groups and pages by comparisons of floats, if statistics can decide the comparison.
//!
//! Statistics of Parquet files leave NaN out, and NaN is greater than all numbers. So statistics cannot show that no
//! value is greater than a number, and DataFusion prunes nothing by a comparison of `order_key(x)`. But NaN fails every
//! upper bound: in a row with `order_key(x) < 5.0`, `x` is a number. For numbers, the minimum and maximum in the
//! statistics are right. So bounds on `x` itself are added to the predicate:
//!
//! ```text
//!   predicate                                    added to the predicate
//!   order_key(x) < 5.0                           x < 5.0
//!   order_key(x) = 5.0                           x >= 5.0 AND x <= 5.0
//!   order_key(x) >= 1.0 AND order_key(x) < 5.0   x >= 1.0 AND x < 5.0
//!   order_key(x) > 5.0                           nothing: NaN passes
//! ```
//!
//! The added bounds follow from the predicate. An equality becomes two bounds, because Bloom filters hash the bits of
//! floats, and -0.0 and 0.0 have different bits. A scan may also test single rows by the predicate, so the bounds let
//! both zeros pass.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, InListExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use hwacha_operators::functions::order_key::keyed_value;
use hwacha_operators::scan::file_scan;

/// Adds bounds of floats to the predicates of Parquet scans.
#[derive(Debug)]
pub struct FloatBoundsRule;

impl PhysicalOptimizerRule for FloatBoundsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match file_scan(&node).and_then(bounded) {
            Some(scan) => Ok(Transformed::yes(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "float_bounds"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan with bounds of floats in its predicate; `None` if no bound follows from the predicate.
fn bounded(scan: &FileScanConfig) -> Option<FileScanConfig> {
    let source = scan.file_source().downcast_ref::<ParquetSource>()?;
    let predicate = source.filter()?;
    let bounds = bounds(&predicate);
    if bounds.is_empty() {
        return None;
    }
    let source = source.with_predicate(conjunction([predicate].into_iter().chain(bounds)));
    Some(FileScanConfigBuilder::from(scan.clone()).with_source(Arc::new(source)).build())
}

/// The bounds on plain values (`x < 5.0`) that follow from a predicate on their keys (`order_key(x) < 5.0`). A value
/// without an upper bound may be NaN, so it gets no bounds.
fn bounds(predicate: &Arc<dyn PhysicalExpr>) -> Vec<Arc<dyn PhysicalExpr>> {
    let all: Vec<Bound> = split_conjunction(predicate).into_iter().flat_map(Bound::of).collect();
    let is_number = |bound: &Bound| all.iter().any(|other| other.is_upper() && other.value.eq(&bound.value));
    all.iter().filter(|bound| is_number(bound)).map(Bound::test).collect()
}

/// The bound `value operator limit` of a float. The limit is a literal that is neither NULL nor NaN.
struct Bound {
    value: Arc<dyn PhysicalExpr>,
    operator: Operator,
    limit: Arc<dyn PhysicalExpr>,
}

impl Bound {
    /// The bounds that follow from one comparison or IN list: `x >= 5.0` and `x <= 5.0` from `order_key(x) = 5.0`.
    fn of(test: &Arc<dyn PhysicalExpr>) -> Vec<Self> {
        if let Some(list) = test.downcast_ref::<InListExpr>() {
            return Self::of_list(list).unwrap_or_default();
        }
        let Some(test) = test.downcast_ref::<BinaryExpr>() else { return vec![] };
        let (value, operator, limit) = match (keyed_value(test.left()), keyed_value(test.right())) {
            (Some(value), None) => (value, Some(*test.op()), test.right()),
            (None, Some(value)) => (value, test.op().swap(), test.left()),
            _ => return vec![],
        };
        if number(limit).is_none() {
            return vec![];
        }
        let operators: &[Operator] = match operator {
            Some(Operator::Eq) => &[Operator::GtEq, Operator::LtEq],
            Some(Operator::Lt) => &[Operator::Lt],
            Some(Operator::LtEq) => &[Operator::LtEq],
            Some(Operator::Gt) => &[Operator::Gt],
            Some(Operator::GtEq) => &[Operator::GtEq],
            _ => &[],
        };
        operators.iter().map(|operator| Self::new(value, *operator, limit)).collect()
    }

    /// The bounds that follow from an IN list of numbers: `x >= -1` and `x <= 3` from `order_key(x) IN (3, -1)`.
    fn of_list(list: &InListExpr) -> Option<Vec<Self>> {
        let value = keyed_value(list.expr()).filter(|_| !list.negated())?;
        let numbers = list.list().iter().map(|item| Some((number(item)?, item))).collect::<Option<Vec<_>>>()?;
        let (_, least) = numbers.iter().min_by(|(one, _), (other, _)| one.total_cmp(other))?;
        let (_, greatest) = numbers.iter().max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        Some(vec![Self::new(value, Operator::GtEq, least), Self::new(value, Operator::LtEq, greatest)])
    }

    fn new(value: &Arc<dyn PhysicalExpr>, operator: Operator, limit: &Arc<dyn PhysicalExpr>) -> Self {
        Self { value: Arc::clone(value), operator, limit: Arc::clone(limit) }
    }

    fn is_upper(&self) -> bool {
        matches!(self.operator, Operator::Lt | Operator::LtEq)
    }

    fn test(&self) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::clone(&self.value), self.operator, self.plain_limit()))
    }

    /// The limit in the order of plain floats, where -0.0 is less than 0.0. Their keys are equal. So a bound that lets
    /// one of them pass must let both pass: `x >= -0.0` for `order_key(x) >= 0.0`.
    fn plain_limit(&self) -> Arc<dyn PhysicalExpr> {
        let zero = match self.operator {
            Operator::GtEq => -0.0,
            Operator::LtEq => 0.0,
            _ => return Arc::clone(&self.limit),
        };
        if number(&self.limit) != Some(0.0) {
            return Arc::clone(&self.limit);
        }
        let literal = self.limit.downcast_ref::<Literal>().expect("limits are literals").value();
        let zero = ScalarValue::Float64(Some(zero)).cast_to(&literal.data_type());
        zero.map_or_else(|_| Arc::clone(&self.limit), |zero| Arc::new(Literal::new(zero)) as Arc<dyn PhysicalExpr>)
    }
}

/// The value of a float literal; `None` for NULL, NaN and all other expressions.
fn number(expr: &Arc<dyn PhysicalExpr>) -> Option<f64> {
    let number = match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Float16(value) => value.map(f64::from),
        ScalarValue::Float32(value) => value.map(f64::from),
        ScalarValue::Float64(value) => *value,
        _ => None,
    };
    number.filter(|number| !number.is_nan())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::ScalarFunctionExpr;
    use datafusion::physical_expr::expressions::{Column, in_list, lit};

    use super::*;
    use hwacha_operators::functions::order_key::order_key;

    fn schema() -> Schema {
        Schema::new(["x", "y"].map(|name| Field::new(name, DataType::Float64, true)).to_vec())
    }

    fn key(name: &str) -> Arc<dyn PhysicalExpr> {
        let schema = schema();
        let column = Column::new(name, schema.index_of(name).expect("a column"));
        let key = ScalarFunctionExpr::try_new(order_key(), vec![Arc::new(column)], &schema, Arc::default());
        Arc::new(key.expect("floats have keys"))
    }

    fn comparison(
        left: Arc<dyn PhysicalExpr>,
        operator: Operator,
        right: Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, operator, right))
    }

    fn shown(tests: impl IntoIterator<Item = Arc<dyn PhysicalExpr>>) -> Vec<String> {
        bounds(&conjunction(tests)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn upper_bounds_tell_that_a_value_is_a_number() {
        let (below, above) =
            (comparison(key("x"), Operator::Lt, lit(5.0)), comparison(key("x"), Operator::GtEq, lit(1.0)));
        assert_eq!(shown([Arc::clone(&below)]), ["x@0 < 5"]);
        assert_eq!(shown([above.clone(), below]), ["x@0 >= 1", "x@0 < 5"]);
        assert_eq!(shown([comparison(key("x"), Operator::Eq, lit(5.0))]), ["x@0 >= 5", "x@0 <= 5"]);
        assert_eq!(shown([comparison(lit(5.0), Operator::GtEq, key("x"))]), ["x@0 <= 5"]);
        assert_eq!(shown([above, comparison(key("y"), Operator::Lt, lit(5.0))]), ["y@1 < 5"]);
    }

    #[test]
    fn both_zeros_pass_a_bound_of_zero() {
        for zero in [0.0, -0.0] {
            assert_eq!(shown([comparison(key("x"), Operator::Eq, lit(zero))]), ["x@0 >= -0", "x@0 <= 0"]);
            assert_eq!(shown([comparison(key("x"), Operator::LtEq, lit(zero))]), ["x@0 <= 0"]);
        }
    }

    #[test]
    fn nothing_follows_where_nan_may_pass() {
        let none: [String; 0] = [];
        for operator in [Operator::Gt, Operator::GtEq, Operator::NotEq, Operator::IsNotDistinctFrom] {
            assert_eq!(shown([comparison(key("x"), operator, lit(5.0))]), none, "{operator}");
        }
        assert_eq!(shown([comparison(key("x"), Operator::LtEq, lit(f64::NAN))]), none);
        assert_eq!(shown([comparison(key("x"), Operator::Lt, lit(ScalarValue::Float64(None)))]), none);
        assert_eq!(shown([comparison(key("x"), Operator::Lt, key("y"))]), none);
        let either = comparison(
            comparison(key("x"), Operator::Lt, lit(5.0)),
            Operator::Or,
            comparison(key("x"), Operator::Gt, lit(9.0)),
        );
        assert_eq!(shown([either]), none);
    }

    #[test]
    fn lists_have_a_least_and_a_greatest_number() {
        let list = |numbers: &[f64], negated: bool| {
            let numbers = numbers.iter().map(|number| lit(*number)).collect();
            in_list(key("x"), numbers, &negated, &schema()).expect("a list")
        };
        assert_eq!(shown([list(&[3.0, -1.0, 7.5], false)]), ["x@0 >= -1", "x@0 <= 7.5"]);
        let none: [String; 0] = [];
        assert_eq!(shown([list(&[3.0, f64::NAN], false)]), none);
        assert_eq!(shown([list(&[3.0], true)]), none);
    }
}
