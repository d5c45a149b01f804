//! Keeps the null equality of each join (apache/datafusion#16356).
//!
//! A DataFusion join has one null equality for all its keys: either NULL matches NULL, as for
//! `a.k IS NOT DISTINCT FROM b.k`, or it matches nothing, as for `a.k = b.k`. Two of DataFusion's rules mix both kinds
//! of keys:
//!
//! - `eliminate_cross_join` collects the keys of adjacent inner joins and of a WHERE above them. It then gives all of
//!   them the null equality of the topmost join.
//! - `extract_equijoin_predicate` moves the equalities of a join's filter to the join's keys, even if NULLs match in
//!   these keys.
//!
//! A plan before and after `eliminate_cross_join`, as DataFusion runs it:
//!
//! ```text
//!   Inner Join: b.s = t.s                      Inner Join: b.s = t.s
//!     Inner Join: a.k = b.k, NULLs match  ->     Inner Join: a.k = b.k          NULLs of k are lost
//! ```
//!
//! Here `eliminate_cross_join` runs on a plan with gates around each inner join in which NULLs match, so the rule does
//! not see these joins. `extract_equijoin_predicate` is skipped for joins with keys in which NULLs match.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, JoinType, NullEquality, Result, internal_err};
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's `eliminate_cross_join`, run with gates around inner joins in which NULLs match. If every inner join
/// already has keys, the rule is skipped to save time: its run time grows with the cube of the join count.
#[derive(Debug)]
pub struct GatedCrossJoinsRule(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for GatedCrossJoinsRule {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !has_join(&plan, is_inner_without_keys)? {
            return Ok(Transformed::no(plan));
        }
        if !has_join(&plan, is_inner_with_null_matches)? {
            return self.0.rewrite(plan, config);
        }
        let gated = plan.transform_up_with_subqueries(with_gates).data()?;
        let rewritten = self.0.rewrite(gated, config)?;
        rewritten.transform_data(|plan| plan.transform_up_with_subqueries(without_gate))
    }
}

/// DataFusion's `extract_equijoin_predicate`, skipped for joins with keys in which NULLs match.
#[derive(Debug)]
pub struct PlainEqualitiesRule(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for PlainEqualitiesRule {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull => match join.on.is_empty() {
                // The null equality does not matter yet, because there are no keys.
                true => {
                    let plain = Join { null_equality: NullEquality::NullEqualsNothing, ..join };
                    self.0.rewrite(LogicalPlan::Join(plain), config)
                }
                false => Ok(Transformed::no(LogicalPlan::Join(join))),
            },
            other => self.0.rewrite(other, config),
        }
    }
}

fn is_inner_with_null_matches(join: &Join) -> bool {
    join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty()
}

fn is_inner_without_keys(join: &Join) -> bool {
    join.join_type == JoinType::Inner && join.on.is_empty()
}

fn has_join(plan: &LogicalPlan, is_such: impl Fn(&Join) -> bool) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Join(join) if is_such(join));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Puts a gate above an inner join in which NULLs match, and one above each of its inputs.
fn with_gates(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(join) if is_inner_with_null_matches(&join) => {
            let (left, right) = (Arc::new(gate(join.left)), Arc::new(gate(join.right)));
            let join = LogicalPlan::Join(Join { left, right, ..join });
            Ok(Transformed::yes(gate(Arc::new(join))))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn gate(input: Arc<LogicalPlan>) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(JoinGate { input: Arc::unwrap_or_clone(input) }) })
}

fn without_gate(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
    match extension.node.as_any().downcast_ref::<JoinGate>() {
        Some(gate) => Ok(Transformed::yes(gate.input.clone())),
        None => Ok(Transformed::no(node)),
    }
}

/// A node that passes the rows of its input on. `eliminate_cross_join` stops at this node, because it is not a join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
struct JoinGate {
    input: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for JoinGate {
    fn name(&self) -> &str {
        "JoinGate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "JoinGate")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input }),
            Err(others) => internal_err!("a gate has one input, not {}", others.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::optimizer_rules;

    const TABLES: &str = "WITH a(k, s) AS (VALUES (1, 'x'), (NULL, 'y')), b(k, s) AS (VALUES (1, 'x'), (NULL, 'x')),
        t(s, n) AS (VALUES ('x', 1)) ";

    async fn optimized(sql: &str) -> LogicalPlan {
        let state = SessionStateBuilder::new().with_default_features().with_optimizer_rules(optimizer_rules()).build();
        let context = SessionContext::new_with_state(state);
        let frame = context.sql(&format!("{TABLES}{sql}")).await.expect("it plans");
        frame.into_optimized_plan().expect("it is optimized")
    }

    /// The keys of all joins, each with a flag that says whether NULLs match.
    fn keys(plan: &LogicalPlan) -> Vec<(String, bool)> {
        let mut keys = vec![];
        plan.apply_with_subqueries(|node| {
            assert!(!matches!(node, LogicalPlan::Extension(_)), "no gate is left");
            if let LogicalPlan::Join(join) = node {
                let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
                keys.extend(join.on.iter().map(|(left, right)| (format!("{left} = {right}"), nulls_match)));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("nothing fails");
        keys.sort();
        keys
    }

    #[tokio::test]
    async fn each_join_keeps_its_null_equality() {
        let k = ("a.k = b.k".to_owned(), true);
        for (sql, others) in [
            ("SELECT n FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k JOIN t ON b.s = t.s", vec!["b.s = t.s"]),
            ("SELECT n FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k, t WHERE b.s = t.s", vec!["b.s = t.s"]),
            ("SELECT 1 FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k WHERE a.s = b.s", vec![]),
            ("SELECT 1 FROM a LEFT JOIN b ON a.k IS NOT DISTINCT FROM b.k WHERE a.s = b.s", vec![]),
        ] {
            let mut expected = vec![k.clone()];
            expected.extend(others.into_iter().map(|key| (key.to_owned(), false)));
            let plan = optimized(sql).await;
            assert_eq!(keys(&plan), expected, "{sql}\n{plan}");
        }
    }

    #[tokio::test]
    async fn plain_joins_are_put_together_as_before() {
        let plan = optimized("SELECT n FROM a, t, b WHERE a.k = b.k AND b.s = t.s").await;
        assert_eq!(keys(&plan).len(), 2, "{plan}");
        assert!(!plan.to_string().contains("Cross Join"), "{plan}");
    }
}
