//! Runs a correlated plan once for all values of its outer references: the *domain*.
//!
//! ```text
//!   subquery of o:                            with the domain d(k), the distinct o.k:
//!     Left Join: a.id = b.id                    Left Join: a.id = b.id AND d.k = e.k
//!       TableScan: a                    ->        Cross Join: TableScan: a, d
//!       Filter: b.y = outer(o.k)                  Filter: b.y = e.k
//!         TableScan: b                              Cross Join: TableScan: b, d AS e
//! ```
//!
//! The result has this property: for each value v of the domain, its rows with the value v are the rows that the plan
//! gives if v replaces the references. A node has the property if all its inputs have it, independent of the nodes
//! above. So outer joins, limits, windows, set operations and aggregations without groups keep their meaning. The cross
//! joins become hash joins when DataFusion pushes the filters into them.
//!
//! The domain may have a NULL, and an outer row with NULL must find it. So rows are joined by
//! `k IS NOT DISTINCT FROM d.k`. This is written as two equalities that are never NULL, `z(k) = z(d.k)` and
//! `(k IS NULL) = (d.k IS NULL)`. `z(k)` is `CASE WHEN k IS NOT NULL THEN k ELSE 0 END`, with the default value of the
//! type as the 0. Both stay right when DataFusion merges them with the keys of other joins. A column that is never NULL
//! needs only `k = d.k`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, NullEquality, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, Join, JoinConstraint, JoinType, LogicalPlan, Projection, SubqueryAlias, lit, when,
};

use super::references::{Reference, free_references, has_value_subquery, provides, subquery_of};
use super::source::readable_again;

/// Prefix of the domain's column names: `__domain_0` has the values of the first reference.
const DOMAIN_COLUMN: &str = "__domain_";

/// All values that the outer references of a plan have.
pub(super) struct Domain<'a> {
    /// The distinct values. The column `__domain_0` belongs to the first of `references`.
    values: LogicalPlan,
    pub(super) references: Vec<Reference>,
    pub(super) aliases: &'a AliasGenerator,
}

/// A plan that runs for all values of the domain, and its columns that have these values.
pub(super) struct Pushed {
    pub(super) plan: LogicalPlan,
    pub(super) keys: Vec<Column>,
}

impl<'a> Domain<'a> {
    /// The domain of `plan`, a subquery or a part of one, over the rows of `outer`. `None` if `plan` refers to no
    /// column of `outer`.
    ///
    /// `base` is `outer` before other subqueries were joined to it. If `base` has all the columns that `plan` refers
    /// to, the domain is read from `base`, so the other subqueries do not run a second time.
    pub(super) fn of(
        plan: &LogicalPlan,
        outer: &LogicalPlan,
        base: &LogicalPlan,
        aliases: &'a AliasGenerator,
    ) -> Result<Option<Self>> {
        let mut references = free_references(plan)?;
        references.retain(|reference| provides(outer.schema(), &reference.column));
        if references.is_empty() {
            return Ok(None);
        }
        for Reference { column, field } in &mut references {
            let declared = outer.schema().qualified_field_from_column(column)?.1;
            if !can_be_key(declared.data_type()) {
                return plan_err!(
                    "a correlated subquery of this form cannot refer to {column}, which is of type {}; \
                     rewrite it as a join",
                    declared.data_type()
                );
            }
            let is_nullable = declared.is_nullable() || has_value_subquery(outer);
            *field = Arc::new(declared.as_ref().clone().with_nullable(is_nullable));
        }
        let columns: Vec<_> = references.iter().map(|reference| reference.column.clone()).collect();
        let has_all = columns.iter().all(|column| provides(base.schema(), column));
        let Some((source, columns)) = readable_again(if has_all { base } else { outer }, columns)? else {
            return plan_err!(
                "a correlated subquery of this form reads the rows of the outer query twice, but these rows may differ \
                 between two reads, for example because of random() or LIMIT without ORDER BY; store the rows in a \
                 table first"
            );
        };
        let name = |(place, column): (usize, Column)| Expr::Column(column).alias(format!("{DOMAIN_COLUMN}{place}"));
        let exprs = columns.into_iter().enumerate().map(name).collect();
        let named = Projection::try_new(exprs, Arc::new(source))?;
        let values = distinct(LogicalPlan::Projection(named))?;
        Ok(Some(Self { values, references, aliases }))
    }

    /// The conditions that join each outer row with the rows for its values.
    pub(super) fn conditions(&self, keys: &[Column]) -> Result<Vec<Expr>> {
        let mut conditions = vec![];
        for (Reference { column, field }, key) in self.references.iter().zip(keys) {
            let outer = Expr::OuterReferenceColumn(Arc::clone(field), column.clone());
            conditions.extend(same(outer, Expr::Column(key.clone()), field)?);
        }
        Ok(conditions)
    }

    /// Every row of `plan` once for each value of the domain.
    pub(super) fn cross(&self, plan: LogicalPlan) -> Result<Pushed> {
        if matches!(&plan, LogicalPlan::EmptyRelation(row) if row.produce_one_row && row.schema.fields().is_empty()) {
            return self.scan();
        }
        let Pushed { plan: values, keys } = self.scan()?;
        let join = joined(plan, values, JoinType::Inner, None)?;
        Ok(Pushed { plan: LogicalPlan::Join(join), keys })
    }

    /// The values of the domain, under an alias of their own.
    pub(super) fn scan(&self) -> Result<Pushed> {
        let values = SubqueryAlias::try_new(Arc::new(self.values.clone()), self.aliases.next("__domain"))?;
        Ok(Pushed { keys: values.schema.columns(), plan: LogicalPlan::SubqueryAlias(values) })
    }

    pub(super) fn same_keys(&self, left: &[Column], right: &[Column]) -> Result<Vec<Expr>> {
        let mut conditions = vec![];
        for ((left, right), Reference { field, .. }) in left.iter().zip(right).zip(&self.references) {
            conditions.extend(same(Expr::Column(left.clone()), Expr::Column(right.clone()), field)?);
        }
        Ok(conditions)
    }

    /// Whether a plan refers to columns of the domain.
    pub(super) fn concerns(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(free_references(plan)?.iter().any(|reference| self.place(&reference.column).is_some()))
    }

    fn place(&self, column: &Column) -> Option<usize> {
        self.references.iter().position(|reference| reference.column == *column)
    }

    /// [`Self::inner`] for each expression, under its old name.
    pub(super) fn named_inner(&self, exprs: &[Expr], keys: &[Column], input: &LogicalPlan) -> Result<Vec<Expr>> {
        let names = NamePreserver::new_for_projection();
        let inner = |expr: &Expr| {
            let name = names.save(expr);
            Ok(name.restore(self.inner(expr.clone(), keys, &[input])?))
        };
        exprs.iter().map(inner).collect()
    }

    /// Replaces outer references by the domain's columns, `keys`. Refuses an inner subquery that refers to the domain.
    pub(super) fn inner(&self, expr: Expr, keys: &[Column], inputs: &[&LogicalPlan]) -> Result<Expr> {
        expr.transform(|part| {
            if let Some(subquery) = subquery_of(&part) {
                for Reference { column, .. } in free_references(&subquery.subquery)? {
                    let is_of_domain = self.place(&column).is_some();
                    if is_of_domain && !inputs.iter().any(|input| provides(input.schema(), &column)) {
                        return refuse("another subquery");
                    }
                }
            }
            Ok(match part {
                Expr::OuterReferenceColumn(field, column) => match self.place(&column) {
                    Some(place) => Transformed::yes(Expr::Column(keys[place].clone())),
                    None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                },
                other => Transformed::no(other),
            })
        })
        .data()
    }
}

pub(super) fn refuse<T>(what: &str) -> Result<T> {
    plan_err!("a correlated subquery cannot refer to outer columns within {what}; rewrite it as a join")
}

pub(super) fn distinct(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), columns, vec![])?))
}

pub(super) fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    condition: Option<Expr>,
) -> Result<Join> {
    let (left, right, null_equality) = (Arc::new(left), Arc::new(right), NullEquality::NullEqualsNothing);
    Join::try_new(left, right, vec![], condition, join_type, JoinConstraint::On, null_equality, false)
}

/// Equalities that are all true if and only if both sides are equal or both NULL. On a nullable column they are never
/// NULL. On other columns the only equality is `left = right`.
fn same(left: Expr, right: Expr, field: &Field) -> Result<Vec<Expr>> {
    // No outer row has NULL in this column. The domain may have NULL, because it may be read from a plan below a filter
    // of the outer rows. A plain equality never matches that NULL.
    if !field.is_nullable() {
        return Ok(vec![left.eq(right)]);
    }
    let zero = lit(ScalarValue::new_default(field.data_type())?);
    let value = |side: &Expr| when(side.clone().is_not_null(), side.clone()).otherwise(zero.clone());
    Ok(vec![value(&left)?.eq(value(&right)?), left.is_null().eq(right.is_null())])
}

/// Whether equal values of a type are identical, so that one value can stand for all of them in the domain. Floats are
/// not: 0.0 equals -0.0.
fn can_be_key(data_type: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Duration,
        FixedSizeBinary, LargeBinary, LargeUtf8, Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    match data_type {
        Boolean | Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(_, _) | Duration(_) => true,
        Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _) => true,
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => true,
        other => other.is_integer(),
    }
}
