//! Expressions: the patterns name all fields of each kind that the planner carries out. Other kinds are refused with a
//! remedy.

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Array, Expr, Interval, LambdaFunction, Map, TypedString};

use super::types::{self, Purpose};
use super::{functions, refuse, refused};
use crate::error::Error;

pub(super) fn check(expr: &Expr, state: &SessionState) -> Result<(), Error> {
    match expr {
        Expr::Function(function) => functions::check(function, state),
        // The planner refuses FORMAT and ARRAY.
        Expr::Cast { kind: _, expr: _, data_type, array: _, format: _ } => types::check(data_type, Purpose::Cast),
        Expr::TypedString(TypedString { data_type, value: _, uses_odbc_syntax: _ }) => {
            types::check(data_type, Purpose::Cast)
        }
        Expr::Trim { trim_where: _, trim_what: _, expr: _, trim_characters } => refuse([(
            trim_characters.as_ref().is_some_and(|characters| characters.len() > 1),
            "trim() takes one text of characters; write them together, as in trim(x, 'ab')",
        )]),
        _ => check_kind(expr),
    }
}

/// Accepts the kinds without ignored fields, and refuses the kinds that are not supported at all.
fn check_kind(expr: &Expr) -> Result<(), Error> {
    match expr {
        // `check` handles these.
        Expr::Function(_)
        | Expr::Cast { kind: _, expr: _, data_type: _, array: _, format: _ }
        | Expr::TypedString(TypedString { data_type: _, value: _, uses_odbc_syntax: _ })
        | Expr::Trim { trim_where: _, trim_what: _, expr: _, trim_characters: _ } => Ok(()),
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::CompoundFieldAccess { root: _, access_chain: _ }
        | Expr::Value(_)
        | Expr::Nested(_)
        | Expr::Tuple(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(_, _)
        | Expr::Subquery(_)
        | Expr::Exists { subquery: _, negated: _ }
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_)
        // The planner refuses operators that it does not know.
        | Expr::UnaryOp { op: _, expr: _ }
        | Expr::BinaryOp { left: _, op: _, right: _ }
        // ANY and SOME mean the same.
        | Expr::AnyOp { left: _, compare_op: _, right: _, is_some: _ }
        | Expr::AllOp { left: _, compare_op: _, right: _ }
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(_, _)
        | Expr::IsNotDistinctFrom(_, _)
        | Expr::InList { expr: _, list: _, negated: _ }
        | Expr::InSubquery { expr: _, subquery: _, negated: _ }
        | Expr::Between { expr: _, negated: _, low: _, high: _ }
        // The planner refuses LIKE ANY.
        | Expr::Like { negated: _, any: _, expr: _, pattern: _, escape_char: _ }
        | Expr::ILike { negated: _, any: _, expr: _, pattern: _, escape_char: _ }
        | Expr::SimilarTo { negated: _, expr: _, pattern: _, escape_char: _ }
        | Expr::AtTimeZone { timestamp: _, time_zone: _ }
        // EXTRACT (… FROM …) and EXTRACT (…, …) mean the same.
        | Expr::Extract { field: _, syntax: _, expr: _ }
        // The planner refuses a scale or a unit here.
        | Expr::Ceil { expr: _, field: _ }
        | Expr::Floor { expr: _, field: _ }
        | Expr::Position { expr: _, r#in: _ }
        // SUBSTRING with commas, SUBSTR and SUBSTRING … FROM … FOR mean the same.
        | Expr::Substring { expr: _, substring_from: _, substring_for: _, special: _, shorthand: _ }
        | Expr::Overlay { expr: _, overlay_what: _, overlay_from: _, overlay_for: _ }
        | Expr::Case { case_token: _, end_token: _, operand: _, conditions: _, else_result: _ }
        // The planner refuses the names of a STRUCT's fields in front of its values.
        | Expr::Struct { values: _, fields: _ }
        | Expr::Named { expr: _, name: _ }
        | Expr::Dictionary(_)
        | Expr::Map(Map { entries: _ })
        // ARRAY[…] and […] mean the same.
        | Expr::Array(Array { elem: _, named: _ })
        // The planner refuses all but the first field, and precisions.
        | Expr::Interval(Interval {
            value: _,
            leading_field: _,
            leading_precision: _,
            last_field: _,
            fractional_seconds_precision: _,
        })
        // The planner refuses types of parameters, and lambdas in functions that take none.
        | Expr::Lambda(LambdaFunction { params: _, body: _, syntax: _ }) => Ok(()),
        // The planner refuses the other kinds too, but without a remedy.
        Expr::JsonAccess { value: _, path: _ } => {
            refused("a path after : is not supported; use brackets for the fields of a STRUCT, as in value['field']")
        }
        Expr::Collate { expr: _, collation: _ } => {
            refused("COLLATE is not supported, since texts are compared by their bytes; use lower() to ignore case")
        }
        Expr::RLike { negated: _, expr: _, pattern: _, regexp: _ } => {
            refused("RLIKE and REGEXP are not supported; use ~ or regexp_like()")
        }
        Expr::Convert { is_try: _, expr: _, data_type: _, charset: _, target_before_value: _, styles: _ } => {
            refused("CONVERT is not supported; write CAST (… AS …), or TRY_CAST")
        }
        Expr::IsNormalized { expr: _, form: _, negated: _ } => refused("IS NORMALIZED is not supported; leave it out"),
        Expr::InUnnest { expr: _, array_expr: _, negated: _ } => {
            refused("IN UNNEST is not supported; use array_has(array, value)")
        }
        Expr::MemberOf(_) => refused("MEMBER OF is not supported; use array_has(array, value)"),
        Expr::Prefixed { prefix: _, value: _ } => {
            refused("a character set before a string is not supported; leave it out, since all strings are UTF-8")
        }
        Expr::MatchAgainst { columns: _, match_value: _, opt_search_modifier: _ } => {
            refused("MATCH … AGAINST is not supported; use LIKE or regexp_like()")
        }
        Expr::OuterJoin(_) => refused("(+) is not supported; write LEFT JOIN or RIGHT JOIN"),
        Expr::Prior(_) => refused("PRIOR is not supported; write WITH RECURSIVE"),
    }
}
