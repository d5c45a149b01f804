//! Chooses by cost the order of joins, the build side of each join, and whether the build side is collected.
//!
//! ```text
//!   Join: o_custkey = c_custkey            Join: o_orderkey = l_orderkey
//!     Join: l_orderkey = o_orderkey          Join: c_custkey = o_custkey
//!       lineitem                      ->       customer, few rows
//!       orders                                 orders
//!     customer, few rows                     lineitem
//! ```
//!
//! DataFusion joins in the order of the FROM clause and places semi and anti joins (EXISTS, IN) last. This rule
//! collects joins into regions ([`region`]), searches for the cheapest order of each region ([`search`]) and builds the
//! plan with this order ([`rebuild`]).

mod rebuild;
mod region;
mod search;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::cost::Costs;
use crate::cluster::Cluster;
use hwacha_execution::session::hwacha_options;
use hwacha_operators::tree::with_children;
use region::Region;

/// Orders joins for a cluster.
#[derive(Debug)]
pub struct JoinOrderRule {
    pub cluster: Cluster,
}

impl PhysicalOptimizerRule for JoinOrderRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let options = hwacha_options(config).optimizer;
        if !options.join_order {
            return Ok(plan);
        }
        reorder(&plan, Costs::new(self.cluster, &options))
    }

    fn name(&self) -> &str {
        "join_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn reorder(plan: &Arc<dyn ExecutionPlan>, costs: Costs) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(region) = Region::collect(plan, &mut |relation| reorder(relation, costs))? {
        let order = search::search(&region, costs);
        return rebuild::rebuild(&region, &order, plan);
    }
    let children = plan.children().into_iter().map(|child| reorder(child, costs)).collect::<Result<Vec<_>>>()?;
    if children.is_empty() {
        return Ok(Arc::clone(plan));
    }
    with_children(plan, children)
}
