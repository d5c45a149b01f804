//! Finds the repartitions and shared parts of a plan that must keep the order of their rows.
//!
//! DataFusion leaves out a sort if the rows are already sorted, even above a repartition. A repartition of a single
//! partition keeps the order of its rows.
//!
//! ```text
//!   Window: lag(v) PARTITION BY x ORDER BY y     requires its input sorted by x, y
//!     Repartition: hash(x), one input partition  keeps the order
//!       Window: row_number() ORDER BY x, y
//!         Sort: x, y
//! ```
//!
//! A hash exchange keeps the order only if all rows come from one partition of one task. Fewer tasks then work in
//! parallel, so the order is kept only if an operator above requires it.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_operators::tree::reads_a_scalar_subquery;

use super::{Segment, Splitter, Spread};
use crate::mark::{Mark, MarkExec};

/// Alternative orderings of one exchange that are sent to executors (8: plans of TPC-DS have at most 2).
const MAX_ORDERINGS: usize = 8;

/// The nodes of a plan whose order an operator above requires.
#[derive(Debug, Default)]
pub(super) struct RequiredOrder {
    /// Repartitions, by their addresses.
    repartitions: HashSet<usize>,
    /// Shared parts, by the numbers of their marks.
    shared: HashSet<usize>,
}

impl RequiredOrder {
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut required = Self::default();
        // All copies of a shared part become one stage. If one copy must keep its order, the stage must. So the walk
        // is repeated until it finds no further shared part.
        loop {
            let known = required.shared.len();
            required.walk(plan, false);
            if required.shared.len() == known {
                return required;
            }
        }
    }

    fn walk(&mut self, plan: &Arc<dyn ExecutionPlan>, mut is_required: bool) {
        if let Some(number) = shared_number(plan) {
            if is_required {
                self.shared.insert(number);
            }
            is_required = self.shared.contains(&number);
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
            && is_required
        {
            self.repartitions.insert(address(repartition));
        }
        let (requirements, maintains) = (plan.required_input_ordering(), plan.maintains_input_order());
        for ((child, requirement), maintains) in plan.children().into_iter().zip(requirements).zip(maintains) {
            self.walk(child, requirement.is_some() || is_required && maintains);
        }
    }

    pub(super) fn is_of_shared(&self, number: usize) -> bool {
        self.shared.contains(&number)
    }
}

fn shared_number(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    match plan.downcast_ref::<MarkExec>()?.kind() {
        Mark::Shared(number) => Some(*number),
        Mark::ByRanges(_) => None,
    }
}

fn address(repartition: &RepartitionExec) -> usize {
    std::ptr::from_ref(repartition) as usize
}

/// The alternative orders of a plan's rows. Orders that read the value of a scalar subquery are left out, because an
/// exchange does not have this value.
pub(super) fn orderings(plan: &Arc<dyn ExecutionPlan>) -> Vec<LexOrdering> {
    let is_told = |ordering: &&LexOrdering| {
        reads_a_scalar_subquery(ordering.iter().map(|sort| &sort.expr)).is_ok_and(|reads_one| !reads_one)
    };
    plan.equivalence_properties().oeq_class().iter().filter(is_told).take(MAX_ORDERINGS).cloned().collect()
}

impl Splitter {
    /// The input of a repartition, and the orders that its rows keep through the exchange.
    pub(super) fn dealt(&mut self, repartition: &RepartitionExec) -> Result<(Segment, Vec<LexOrdering>)> {
        if !self.required_order.repartitions.contains(&address(repartition)) {
            return Ok((self.segment_in_ranges(repartition.input())?.without_order(), vec![]));
        }
        let child = self.segment(repartition.input())?;
        let is_one_run = child.spread == Spread::One && child.plan.output_partitioning().partition_count() == 1;
        let orderings = if is_one_run { orderings(&child.plan) } else { vec![] };
        Ok((child, orderings))
    }
}
