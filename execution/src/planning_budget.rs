//! Limits the cost of making one plan: time, memory, and the size of the plan.
//!
//! Nothing can interrupt a rule of DataFusion. One rule is short, but many rules over a large plan take long. So a
//! checkpoint follows each rule and tests the budget of its thread:
//!
//! ```text
//! rule A, rule B   ->   rule A, checkpoint, rule B, checkpoint
//! ```
//!
//! Planning ends there with an error if it takes too much time or memory, or if nobody waits for it any more. Some
//! checkpoints also test the plan's size.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::counted_memory::net_bytes;

/// Maximum nodes of a logical plan (50,000: plans of TPC-DS have at most 400). A node that is read several times counts
/// several times.
const MAX_NODES: u64 = 50_000;

/// The budget of one plan.
#[derive(Clone, Debug)]
pub struct PlanningBudget {
    pub time: Duration,
    /// Bytes that the planning thread may allocate and not free. Counted only in processes whose allocator counts.
    pub memory_bytes: usize,
    /// Set once nobody waits for the plan any more.
    pub is_canceled: Arc<AtomicBool>,
}

/// A budget that is being spent.
struct Spending {
    budget: PlanningBudget,
    began: Instant,
    held_before: i64,
}

thread_local! {
    static SPENDING: RefCell<Option<Spending>> = const { RefCell::new(None) };
}

impl PlanningBudget {
    /// Does `work` on this thread within the budget.
    pub fn spend<T>(self, work: impl FnOnce() -> T) -> T {
        let spending = Spending { budget: self, began: Instant::now(), held_before: net_bytes() };
        SPENDING.with_borrow_mut(|current| *current = Some(spending));
        // The thread is used again, so the budget must end even after a panic.
        let _end = End;
        work()
    }
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        SPENDING.with_borrow_mut(|current| *current = None);
    }
}

/// Fails if this thread has spent its budget. Never fails on a thread without a budget.
pub fn check() -> Result<()> {
    SPENDING.with_borrow(|spending| {
        let Some(Spending { budget, began, held_before }) = spending else { return Ok(()) };
        if budget.is_canceled.load(Ordering::Relaxed) {
            return Err(DataFusionError::Execution("planning was canceled: nobody waits for the query".to_owned()));
        }
        if began.elapsed() > budget.time {
            return Err(exhausted(format!("planning took longer than {} s", budget.time.as_secs())));
        }
        let held = usize::try_from(net_bytes() - held_before).unwrap_or(0);
        if held > budget.memory_bytes {
            return Err(exhausted(format!("planning took more than {} MiB of memory", budget.memory_bytes >> 20)));
        }
        Ok(())
    })
}

fn exhausted(what: String) -> DataFusionError {
    DataFusionError::ResourcesExhausted(format!("{what}; make the statement smaller, or put parts of it into tables"))
}

/// Fails if a plan has too many nodes. A part that is read several times counts several times.
pub fn check_size(plan: &LogicalPlan) -> Result<()> {
    let nodes = nodes(plan, &mut HashMap::new());
    match nodes > MAX_NODES {
        true => plan_err!(
            "the plan of the statement has {nodes} nodes after its views and common table expressions are expanded, \
             and the limit is {MAX_NODES}; store some of them with CREATE TABLE … AS"
        ),
        false => Ok(()),
    }
}

/// An input that is read several times is one object in memory. It is visited once and added for each reader.
fn nodes(plan: &LogicalPlan, known: &mut HashMap<usize, u64>) -> u64 {
    let address = std::ptr::from_ref(plan) as usize;
    if let Some(nodes) = known.get(&address) {
        return *nodes;
    }
    let inputs = plan.inputs().into_iter().map(|input| nodes(input, known));
    let nodes = inputs.fold(1, u64::saturating_add);
    known.insert(address, nodes);
    nodes
}

/// A rule that follows another rule and checks the budget. After an analyzer rule it also checks the plan's size.
#[derive(Debug)]
struct Checkpoint;

/// Runs after the last optimizer rule and checks the plan's size. The check takes as long as a short rule, so it
/// does not run after each rule.
#[derive(Debug)]
struct SizeCheckpoint;

impl AnalyzerRule for Checkpoint {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        check()?;
        check_size(&plan)?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "checkpoint"
    }
}

impl OptimizerRule for Checkpoint {
    fn name(&self) -> &str {
        "checkpoint"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check()?;
        Ok(Transformed::no(plan))
    }
}

impl OptimizerRule for SizeCheckpoint {
    fn name(&self) -> &str {
        "size_checkpoint"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check_size(&plan)?;
        Ok(Transformed::no(plan))
    }
}

impl PhysicalOptimizerRule for Checkpoint {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        check()?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "checkpoint"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Adds a check of the budget and of the plan's size after every rule.
pub fn checked_analyzer_rules(
    rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>>,
) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    rules.into_iter().flat_map(|rule| [rule, Arc::new(Checkpoint) as _]).collect()
}

/// Adds a budget check after every rule, and a check of the plan's size after the last rule of each pass.
pub fn checked_optimizer_rules(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let checked = rules.into_iter().flat_map(|rule| [rule, Arc::new(Checkpoint) as _]);
    checked.chain([Arc::new(SizeCheckpoint) as _]).collect()
}

/// Adds a budget check after every rule.
pub fn checked_physical_rules(
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    rules.into_iter().flat_map(|rule| [rule, Arc::new(Checkpoint) as _]).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::LogicalPlanBuilder;

    use super::*;

    fn budget(time: Duration) -> PlanningBudget {
        PlanningBudget { time, memory_bytes: 1 << 30, is_canceled: Arc::default() }
    }

    #[test]
    fn a_budget_ends_with_its_time_or_with_its_client() {
        assert!(check().is_ok(), "there is none");
        let error = budget(Duration::ZERO).spend(check).expect_err("no time").to_string();
        assert!(error.contains("planning took longer than 0 s"), "{error}");
        let canceled = budget(Duration::from_secs(600));
        assert!(canceled.clone().spend(check).is_ok());
        canceled.is_canceled.store(true, Ordering::Relaxed);
        let error = canceled.spend(check).expect_err("nobody waits").to_string();
        assert!(error.contains("nobody waits"), "{error}");
        assert!(check().is_ok(), "there is none any more");
    }

    #[test]
    fn what_is_read_twice_counts_twice() {
        let mut plan = LogicalPlanBuilder::empty(true).build().expect("a plan");
        for _ in 0..12 {
            plan = LogicalPlanBuilder::from(plan.clone()).union(plan).expect("a union").build().expect("a plan");
        }
        assert!(check_size(&plan).is_ok());
        for _ in 0..14 {
            plan = LogicalPlanBuilder::from(plan.clone()).union(plan).expect("a union").build().expect("a plan");
        }
        let error = check_size(&plan).expect_err("too large").to_string();
        assert!(error.contains("the limit is 50000"), "{error}");
    }
}
