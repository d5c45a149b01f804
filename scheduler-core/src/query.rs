//! What the machine knows of one query: its tasks and the one attempt at each that counts.

use std::collections::BTreeSet;

use hwacha_model::{
    Assignment, Delivery, ExecutorId, InputBinding, Producer, QueryId, StageGraph, StageId, TaskId, TaskIndex, TaskStats,
    Timestamp,
};

/// Where a query stands. Ended queries are forgotten, so the terminal states have no place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryState {
    /// Admission or executors are being waited for.
    Queued,
    Planning,
    Running,
}

impl QueryState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Planning => "Planning",
            Self::Running => "Running",
        }
    }
}

/// How far the attempt that counts has come. An attempt that failed, was aborted or lost no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptState {
    Assigned,
    Running,
    Finished,
}

/// The attempt at a task that counts.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub assignment: Assignment,
    pub executor: ExecutorId,
    pub state: AttemptState,
    pub assigned: Timestamp,
    /// The producers whose output it has read whole.
    pub read: BTreeSet<TaskId>,
    pub stats: TaskStats,
}

impl Attempt {
    pub(crate) fn id(&self) -> TaskId {
        self.assignment.attempt
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state != AttemptState::Finished
    }

    pub(crate) fn is_bound_to(&self, producer: TaskId) -> bool {
        self.assignment.inputs.iter().flat_map(|input| &input.producers).any(|bound| bound.attempt == producer)
    }
}

/// One task: its attempts so far, and the client's reading if the stage is the root.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub attempt: Option<Attempt>,
    pub next_attempt: u32,
    /// Failures that blame the attempt.
    pub failures: u32,
    /// How often its output could not be read.
    pub exchange_losses: u32,
    pub waves: u32,
    /// Where it failed last for a reason that may lie there.
    pub avoid: Option<ExecutorId>,
    /// Rows have reached the client.
    pub begun: bool,
    /// All rows have reached the client.
    pub read: bool,
}

impl Task {
    fn new() -> Self {
        Self {
            attempt: None,
            next_attempt: 0,
            failures: 0,
            exchange_losses: 0,
            waves: 1,
            avoid: None,
            begun: false,
            read: false,
        }
    }

    fn is_finished(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| !attempt.is_live())
    }
}

/// A query that has been accepted and has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub session: u64,
    pub state: QueryState,
    pub submitted: Timestamp,
    pub graph: Option<StageGraph>,
    /// By stage, then task.
    pub tasks: Vec<Vec<Task>>,
    /// Tasks without an attempt that something still needs, producers first.
    pub pending: BTreeSet<(StageId, TaskIndex)>,
    /// Executors that were ever sent anything of it.
    pub executors: BTreeSet<ExecutorId>,
    pub executor_losses: u32,
    /// What the result's reader was told last.
    pub source: Vec<Producer>,
}

impl Query {
    pub(crate) fn new(session: u64, now: Timestamp) -> Self {
        Self {
            session,
            state: QueryState::Queued,
            submitted: now,
            graph: None,
            tasks: vec![],
            pending: BTreeSet::new(),
            executors: BTreeSet::new(),
            executor_losses: 0,
            source: vec![],
        }
    }

    pub(crate) fn start(&mut self, graph: StageGraph) {
        self.tasks = graph.iter().map(|(_, stage)| (0..stage.tasks).map(|_| Task::new()).collect()).collect();
        self.graph = Some(graph);
        self.state = QueryState::Running;
        self.find_pending();
    }

    pub(crate) fn graph(&self) -> &StageGraph {
        self.graph.as_ref().expect("a running query has a graph")
    }

    pub(crate) fn stage_tasks(&self, stage: StageId) -> &[Task] {
        &self.tasks[stage.0 as usize]
    }

    pub(crate) fn task(&self, stage: StageId, task: TaskIndex) -> Option<&Task> {
        self.tasks.get(stage.0 as usize)?.get(task.0 as usize)
    }

    pub(crate) fn task_mut(&mut self, stage: StageId, task: TaskIndex) -> Option<&mut Task> {
        self.tasks.get_mut(stage.0 as usize)?.get_mut(task.0 as usize)
    }

    /// The attempt of that id, if it is the one that counts.
    pub(crate) fn current(&self, id: TaskId) -> Option<&Attempt> {
        self.task(id.stage, id.task)?.attempt.as_ref().filter(|attempt| attempt.id() == id)
    }

    pub(crate) fn current_mut(&mut self, id: TaskId) -> Option<&mut Attempt> {
        self.task_mut(id.stage, id.task)?.attempt.as_mut().filter(|attempt| attempt.id() == id)
    }

    pub(crate) fn root_tasks(&self) -> &[Task] {
        self.tasks.last().map_or(&[], Vec::as_slice)
    }

    /// All attempts that count.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.tasks.iter().flatten().filter_map(|task| task.attempt.as_ref())
    }

    /// Finds the tasks that must run: those without an attempt whose output the client, or a task that must run, needs.
    pub(crate) fn find_pending(&mut self) {
        let graph = self.graph.as_ref().expect("a running query has a graph");
        let mut pending: BTreeSet<(StageId, TaskIndex)> = BTreeSet::new();
        let mut must_run = vec![false; self.tasks.len()];
        for (stage, _) in graph.iter().rev() {
            let is_root = stage == graph.root();
            let wanted = is_root || graph.consumers(stage).any(|(consumer, _)| must_run[consumer.0 as usize]);
            for (index, task) in self.tasks[stage.0 as usize].iter().enumerate() {
                if wanted && task.attempt.is_none() && !(is_root && task.read) {
                    pending.insert((stage, TaskIndex(index as u32)));
                    must_run[stage.0 as usize] = true;
                }
            }
        }
        self.pending = pending;
    }

    /// Whether all that a task of `stage` reads is there, or on its way where that is enough.
    pub(crate) fn inputs_ready(&self, stage: StageId) -> bool {
        self.graph().stage(stage).inputs.iter().all(|input| {
            self.stage_tasks(input.stage).iter().all(|task| match input.delivery {
                Delivery::Streaming => task.attempt.is_some(),
                Delivery::Complete => task.is_finished(),
            })
        })
    }

    /// The attempts that a task of `stage` reads: one for each producer task. Only when [`Self::inputs_ready`].
    pub(crate) fn bind_inputs(&self, stage: StageId) -> Vec<InputBinding> {
        let bind = |input: &hwacha_model::Input| InputBinding {
            stage: input.stage,
            producers: self.producers(input.stage).expect("inputs are ready"),
        };
        self.graph().stage(stage).inputs.iter().map(bind).collect()
    }

    /// The attempts of a stage, in task order, if each task has one.
    pub(crate) fn producers(&self, stage: StageId) -> Option<Vec<Producer>> {
        self.stage_tasks(stage)
            .iter()
            .map(|task| {
                let attempt = task.attempt.as_ref()?;
                Some(Producer { attempt: attempt.id(), executor: attempt.executor })
            })
            .collect()
    }

    /// Gives a task its next attempt.
    pub(crate) fn assign(
        &mut self,
        query: QueryId,
        stage: StageId,
        task: TaskIndex,
        executor: ExecutorId,
        now: Timestamp,
    ) -> Assignment {
        let inputs = self.bind_inputs(stage);
        let slot = self.task_mut(stage, task).expect("pending tasks exist");
        let attempt = TaskId { query, stage, task, attempt: slot.next_attempt };
        slot.next_attempt += 1;
        let assignment = Assignment { attempt, inputs, waves: slot.waves };
        slot.attempt = Some(Attempt {
            assignment: assignment.clone(),
            executor,
            state: AttemptState::Assigned,
            assigned: now,
            read: BTreeSet::new(),
            stats: TaskStats::default(),
        });
        self.pending.remove(&(stage, task));
        self.executors.insert(executor);
        assignment
    }

    /// Whether every row has reached the client and every root task has said that it finished.
    pub(crate) fn is_done(&self) -> bool {
        self.state == QueryState::Running
            && self.root_tasks().iter().all(|task| task.read && (task.attempt.is_none() || task.is_finished()))
    }
}
