//! A query as its client sees it, and the client's check of the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use hwacha_model::{Determinism, Failure, Producer, Stage, StageGraph, StageId, TaskId, TaskIndex, Timestamp};

use crate::answer::{Output, merge};
use crate::workload::{QueryPlan, Small, Trouble};

/// A query and the progress of its client.
#[derive(Debug)]
pub(crate) struct QueryRun {
    pub plan: QueryPlan,
    /// The latest plan.
    pub graph: StageGraph,
    /// The number of each task's first attempt under the latest plan. Lower numbers belong to earlier plans.
    pub first_attempt: u32,
    /// Whether attempts under the latest plan fail because the query has outgrown it.
    pub outgrows: bool,
    pub outcome: Option<Result<(), Failure>>,
    /// Stages that were skipped because they cannot have rows.
    pub skipped: BTreeSet<StageId>,
    pub source: Vec<Producer>,
    /// For each root task, the attempt whose rows the client has received.
    pub begun: BTreeMap<TaskIndex, TaskId>,
    pub done: BTreeMap<TaskIndex, (TaskId, Rc<Output>)>,
    pub in_vain: u32,
    pub is_reading: bool,
    /// The reader of the result stalls until this time.
    pub stalled_until: Timestamp,
    /// Number of failed attempts by the name of their trouble.
    pub struck: BTreeMap<&'static str, u32>,
    pub exchange_losses: u32,
    /// Number of attempts that were taken back from executors that hang. Each counts like an outage of its task.
    pub taken_back: u32,
    /// Number of executors that had been declared lost when the query was submitted.
    pub evicted_before: u64,
}

impl QueryRun {
    pub(crate) fn new(plan: QueryPlan) -> Self {
        Self {
            graph: plan.graph(false),
            first_attempt: 0,
            outgrows: plan.small == Some(Small::Outgrown),
            plan,
            outcome: None,
            skipped: BTreeSet::new(),
            source: vec![],
            begun: BTreeMap::new(),
            done: BTreeMap::new(),
            in_vain: 0,
            is_reading: false,
            stalled_until: Timestamp::default(),
            struck: BTreeMap::new(),
            exchange_losses: 0,
            taken_back: 0,
            evicted_before: 0,
        }
    }

    pub(crate) fn stage(&self, stage: StageId) -> &Stage {
        self.graph.stage(stage)
    }

    /// Whether the reader may continue with another attempt after it has received rows. Single rows are not simulated.
    /// Tests with real processes check that no row is delivered twice.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.stage(self.graph.root()).determinism == Determinism::Repeatable
    }

    /// The failure with which an attempt ends instead of its output, if a trouble of the workload strikes its task.
    pub(crate) fn trouble(&mut self, attempt: TaskId, waves: u32) -> Option<Failure> {
        let trouble = self.plan.troubles.get_mut(&(attempt.stage, attempt.task))?;
        let name = match trouble {
            Trouble::UserError => "user error",
            Trouble::Internal(_) => "defect",
            Trouble::Unavailable(_) => "outage",
            Trouble::Memory { .. } => "short memory",
        };
        let (kind, left) = trouble.strike(waves);
        *trouble = left;
        *self.struck.entry(name).or_default() += u32::from(kind.is_some());
        Some(Failure::new(kind?, name))
    }

    pub(crate) fn struck(&self, name: &str) -> u32 {
        self.struck.get(name).copied().unwrap_or(0)
    }

    /// Whether the client has rows after which no other attempt can continue.
    pub(crate) fn has_rows_for_good(&self) -> bool {
        !self.begun.is_empty() && (!self.is_repeatable() || self.first_attempt > 0)
    }

    /// Checks the answer of a successful query. It must have the rows of all root tasks, and no rows from two versions
    /// of a task's output. All rows of a root task must come from one attempt, unless the result is repeatable.
    pub(crate) fn check_answer(&self) -> Result<(), String> {
        let tasks = self.stage(self.graph.root()).tasks as usize;
        if self.done.len() != tasks {
            return Err(format!("has the rows of {} tasks out of {tasks}", self.done.len()));
        }
        for (task, begun) in self.begun.iter().filter(|_| !self.is_repeatable()) {
            if self.done[task].0 != *begun {
                return Err(format!("has rows of {begun} and of {}", self.done[task].0));
            }
        }
        match merge(self.done.values().map(|(_, output)| output.as_ref())).1 {
            Some((stage, task)) => Err(format!("has rows from two versions of stage {stage}, task {task}")),
            None => Ok(()),
        }
    }
}
