//! Reduces the batch size of queries with long constants.
//!
//! A projection copies a constant into each row of a batch. Example: a list of two million numbers has 16 MB, and its
//! copies in a batch of 8,192 rows have 131 GB. They are allocated before any memory limit counts them.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use hwacha_proto::control::Setting;

/// The setting of the number of rows in a batch.
const BATCH_SIZE: &str = "datafusion.execution.batch_size";
/// Maximum bytes of the copies of a constant in one batch (64 MiB).
const MAX_COPIES_BYTES: usize = 64 << 20;

/// Reduces the batch size, in the session and in the settings for executors, if the longest constant needs it.
/// Example: a constant of 16 MiB gives batches of 4 rows.
pub(super) fn shrink_batches(state: &mut SessionState, settings: &mut Vec<Setting>, query: &LogicalPlan) -> Result<()> {
    let fitting = MAX_COPIES_BYTES / longest(query)?.max(1);
    if fitting < state.config().batch_size() {
        let value = fitting.max(1).to_string();
        // Plans of table generators contain the batch size, so the session needs it too.
        state.config_mut().options_mut().set(BATCH_SIZE, &value)?;
        settings.retain(|setting| setting.key != BATCH_SIZE);
        settings.push(Setting { key: BATCH_SIZE.to_owned(), value });
    }
    Ok(())
}

/// Bytes of the longest constant that a projection outputs as it is.
fn longest(query: &LogicalPlan) -> Result<usize> {
    let mut longest = 0;
    query.apply_with_subqueries(|node| {
        if let LogicalPlan::Projection(projection) = node {
            let constants = projection.expr.iter().filter_map(constant);
            longest = constants.map(|value| value.size() - size_of::<ScalarValue>()).fold(longest, usize::max);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(longest)
}

fn constant(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Alias(alias) => constant(&alias.expr),
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::logical_expr::{LogicalPlanBuilder, lit};

    use super::*;

    #[test]
    fn batches_are_as_small_as_a_long_constant_needs() {
        let query = |text: String| {
            let rows = LogicalPlanBuilder::empty(true).project([lit(text).alias("t")]);
            rows.and_then(LogicalPlanBuilder::build).expect("it is a plan")
        };
        let own = vec![Setting { key: BATCH_SIZE.to_owned(), value: "8192".to_owned() }];
        let sizes = |text: String| {
            let (mut state, mut settings) = (SessionStateBuilder::new().build(), own.clone());
            shrink_batches(&mut state, &mut settings, &query(text)).expect("its constants are found");
            let settings = settings.iter().map(|setting| setting.value.clone());
            (state.config().batch_size(), settings.collect::<Vec<_>>())
        };
        assert_eq!(sizes("short".to_owned()), (8192, vec!["8192".to_owned()]));
        assert_eq!(sizes("x".repeat(16 << 20)), (4, vec!["4".to_owned()]));
        assert_eq!(sizes("x".repeat(128 << 20)), (1, vec!["1".to_owned()]));
    }
}
