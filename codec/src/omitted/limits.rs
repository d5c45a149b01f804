//! Limits and offsets that do not fit into 32 bits. DataFusion's encoding drops their upper bits: a `LocalLimitExec`
//! of 2^32 rows would become a limit of 0 rows.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use hwacha_proto::exchange::LimitRest;

/// One entry per operator of the plan with a limit or an offset. The list is empty if all limits and offsets fit into
/// 32 bits.
pub(crate) fn limits(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<LimitRest>> {
    let mut rests = vec![];
    plan.apply(|node| {
        rests.extend(limit(node));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let fits = |rest: &LimitRest| rest.skip.max(rest.fetch.unwrap_or(0)) <= u32::MAX.into();
    Ok(if rests.iter().all(fits) { vec![] } else { rests })
}

/// The limit and the offset of an operator; `None` if it has neither.
pub(super) fn limit(node: &Arc<dyn ExecutionPlan>) -> Option<LimitRest> {
    let fetch = node.fetch().map(|fetch| fetch as u64);
    match node.downcast_ref::<GlobalLimitExec>() {
        Some(limit) => Some(LimitRest { fetch, skip: limit.skip() as u64 }),
        None => fetch.map(|_| LimitRest { fetch, skip: 0 }),
    }
}

pub(super) fn with_rest(node: &Arc<dyn ExecutionPlan>, rest: &LimitRest) -> Result<Arc<dyn ExecutionPlan>> {
    let (skip, fetch) = (rest.skip as usize, rest.fetch.map(|fetch| fetch as usize));
    if let Some(limit) = node.downcast_ref::<GlobalLimitExec>() {
        return Ok(Arc::new(GlobalLimitExec::new(Arc::clone(limit.input()), skip, fetch)));
    }
    if let (Some(limit), Some(fetch)) = (node.downcast_ref::<LocalLimitExec>(), fetch) {
        return Ok(Arc::new(LocalLimitExec::new(Arc::clone(limit.input()), fetch)));
    }
    node.with_fetch(fetch).ok_or_else(|| internal_datafusion_err!("{} takes no limit", node.name()))
}
