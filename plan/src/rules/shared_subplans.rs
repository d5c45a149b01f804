//! Finds equal parts of a plan and marks them to run once. Example: a common table expression that is read twice.
//!
//! ```text
//!   Join                              Join
//!     Filter: n > 5                     Filter: n > 5
//!       Aggregate <- scan      ->         Mark: shared, number=1 <- Aggregate <- scan
//!     Aggregate <- scan                 Mark: shared, number=1 <- Aggregate <- scan
//! ```
//!
//! Two parts are equal if their encodings are equal. The rule runs before joins push run-time filters into scans.
//! Later the marks stop filters from above. Parts with ordered rows are not shared, because the exchange of a shared
//! part would lose the order. The part below a sort may be shared.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNode;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::work_table::WorkTableExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use hwacha_codec;
use hwacha_execution::session::hwacha_options;
use hwacha_model::OutputKind;
use hwacha_operators::determinism::is_volatile_plan;
use hwacha_operators::exchange::ExchangeSinkExec;
use hwacha_operators::tree::{reads_scalar_subquery, with_children};

use crate::estimate::scanned_bytes;
use crate::mark::{Mark, MarkExec};

/// Marks equal parts of a plan.
#[derive(Debug)]
pub struct SharedSubplansRule;

impl PhysicalOptimizerRule for SharedSubplansRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // The plan of a recursive query runs several times, each time with other rows.
        let recursive = plan.exists(|node| Ok(node.is::<RecursiveQueryExec>() || node.is::<WorkTableExec>()))?;
        let options = hwacha_options(config).optimizer;
        if recursive || !options.shared_subplans {
            return Ok(plan);
        }
        let mut classes = Classes::default();
        let root = classes.number(&plan)?;
        let shared = classes.shared(root, options.shared_subplan_bytes as u64)?;
        if shared.iter().any(|shared| *shared) { marked(&plan, &classes, &shared) } else { Ok(plan) }
    }

    fn name(&self) -> &str {
        "shared_subplans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The different parts of a plan, by their numbers. Equal parts have the same number. A child has a lower number than
/// its parent.
#[derive(Default)]
struct Classes {
    classes: Vec<Class>,
    /// The numbers of parts, by the EXPLAIN text of their top operator and the numbers of their children.
    alike: HashMap<(String, Vec<usize>), Vec<usize>>,
    /// The number of each node, by its address.
    by_node: HashMap<*const (), usize>,
}

/// A part of a plan: its first copy and the numbers of its children.
struct Class {
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<usize>,
}

impl Classes {
    fn number(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<usize> {
        let children = plan.children().into_iter().map(|child| self.number(child)).collect::<Result<Vec<_>>>()?;
        let text = displayable(plan.as_ref()).one_line().to_string();
        let alike = self.alike.entry((text, children.clone())).or_default();
        let number = match alike.iter().find(|number| same_operator(&self.classes[**number].plan, plan)) {
            Some(number) => *number,
            None => {
                alike.push(self.classes.len());
                self.classes.push(Class { plan: Arc::clone(plan), children });
                self.classes.len() - 1
            }
        };
        self.by_node.insert(address(plan), number);
        Ok(number)
    }

    /// Whether to share each class: the plan uses it several times, its copies together scan at least `least_bytes`,
    /// and [`may_be_shared`] allows it. A shared class runs once, so its children count as used once.
    fn shared(&self, root: usize, least_bytes: u64) -> Result<Vec<bool>> {
        let mut uses = vec![0; self.classes.len()];
        let mut shared = vec![false; self.classes.len()];
        uses[root] = 1;
        for (number, class) in self.classes.iter().enumerate().rev() {
            shared[number] = uses[number] > 1 && may_be_shared(&class.plan, least_bytes / uses[number] as u64)?;
            let uses_of_children = if shared[number] { 1 } else { uses[number] };
            class.children.iter().for_each(|child| uses[*child] += uses_of_children);
        }
        Ok(shared)
    }
}

/// Whether two operators do the same work on equal inputs.
fn same_operator(one: &Arc<dyn ExecutionPlan>, other: &Arc<dyn ExecutionPlan>) -> bool {
    encoding(one).is_ok_and(|one| encoding(other).is_ok_and(|other| one == other))
}

/// The encoding of an operator without its inputs. A sink is added above the operator, because the encoding of a sink
/// also carries properties of the operator that DataFusion's encoding leaves out.
fn encoding(plan: &Arc<dyn ExecutionPlan>) -> Result<Bytes> {
    let inputs = plan.children().into_iter().map(|child| Arc::new(EmptyExec::new(child.schema())) as _).collect();
    let alone = with_children(plan, inputs)?;
    hwacha_codec::encode(&(Arc::new(ExchangeSinkExec::new(alone, OutputKind::Gather, 1, vec![])) as _))
}

fn address(plan: &Arc<dyn ExecutionPlan>) -> *const () {
    Arc::as_ptr(plan).cast()
}

/// Whether running a part once keeps the answer correct and likely saves work.
fn may_be_shared(plan: &Arc<dyn ExecutionPlan>, least_bytes: u64) -> Result<bool> {
    let works = plan.exists(|node| Ok(node.is::<AggregateExec>() || is_equality_join(node)))?;
    // Two equal encodings can still read the values of different scalar subqueries.
    let right = plan.output_ordering().is_none() && !is_volatile_plan(plan)? && !reads_scalar_subquery(plan)?;
    Ok(works && right && scanned_bytes(plan)? >= least_bytes)
}

fn is_equality_join(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<HashJoinExec>() || node.is::<SortMergeJoinExec>()
}

fn marked(plan: &Arc<dyn ExecutionPlan>, classes: &Classes, shared: &[bool]) -> Result<Arc<dyn ExecutionPlan>> {
    let number = classes.by_node[&address(plan)];
    let children =
        plan.children().into_iter().map(|child| marked(child, classes, shared)).collect::<Result<Vec<_>>>()?;
    let same = children.iter().zip(plan.children()).all(|(new, old)| Arc::ptr_eq(new, old));
    let plan = if same { Arc::clone(plan) } else { with_children(plan, children)? };
    Ok(if shared[number] { Arc::new(MarkExec::new(plan, Mark::Shared(number))) } else { plan })
}
