//! What the machine knows of one query: its tasks, and for each task at most one attempt that counts. Earlier attempts
//! have failed, were aborted or were lost, and their reports are ignored.

use std::collections::{BTreeMap, BTreeSet};

use hwacha_model::{
    Assignment, Delivery, Determinism, ExecutorId, Input, InputBinding, Producer, QueryId, Reading, StageGraph,
    StageId, TaskId, TaskIndex, TaskStats, Timestamp,
};

use crate::retry::Record;

/// The state of a query. Ended queries are forgotten, so there are no terminal states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryState {
    /// Waits for admission or for a usable executor.
    Queued,
    Planning,
    Running,
}

impl QueryState {
    /// The name of the state in listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Planning => "Planning",
            Self::Running => "Running",
        }
    }
}

/// The state of the attempt that counts. An attempt that failed, was aborted or was lost is forgotten at once. Its id
/// is never used again, so its late reports are recognized and ignored.
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
    /// Heartbeats that its executor has sent since the attempt was placed. They are counted instead of seconds,
    /// because the clock goes on while the scheduler's process sleeps.
    pub heartbeats: u32,
    /// When the launch of the attempt was sent last.
    pub assigned: Timestamp,
    /// Since when the executor's heartbeats do not list the attempt, although it had begun.
    pub missing: Option<Timestamp>,
    /// The producers whose output the attempt has read whole.
    pub read: BTreeSet<TaskId>,
    pub stats: TaskStats,
}

impl Attempt {
    pub(crate) fn id(&self) -> TaskId {
        self.assignment.attempt
    }

    /// Whether the attempt has not finished. A live attempt holds a slot, unless it is parked.
    pub(crate) fn is_live(&self) -> bool {
        self.state != AttemptState::Finished
    }

    pub(crate) fn is_bound_to(&self, producer: TaskId) -> bool {
        // Bindings are in task order.
        let bound = |input: &InputBinding| input.producers.get(producer.task.0 as usize).map(|bound| bound.attempt);
        let inputs = &self.assignment.inputs;
        inputs.iter().any(|input| input.stage == producer.stage && bound(input) == Some(producer))
    }

    /// Whether the attempt still has to read output of `producer`.
    pub(crate) fn still_reads(&self, producer: TaskId) -> bool {
        self.is_live() && self.is_bound_to(producer) && !self.read.contains(&producer)
    }
}

impl From<&Attempt> for Producer {
    fn from(attempt: &Attempt) -> Self {
        Self { attempt: attempt.id(), executor: attempt.executor }
    }
}

/// One task: the attempt that counts, and the history that decides about the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    pub attempt: Option<Attempt>,
    /// The number of the task's next attempt.
    pub next_attempt: u32,
    pub has_run: bool,
    pub record: Record,
    /// The executor where the task last failed, or lost its output, if the executor may be the cause. The next
    /// attempt avoids it.
    pub avoid: Option<ExecutorId>,
    pub reading: ResultReading,
}

/// How far the client has come with the rows of a root task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResultReading {
    #[default]
    NotBegun,
    /// Rows are on their way and cannot be taken back.
    Begun,
    /// The task has been read to its end, and there were no rows.
    Empty,
    /// The task has been read to its end, and there were rows.
    Whole,
}

impl ResultReading {
    pub(crate) fn is_at_end(self) -> bool {
        matches!(self, Self::Empty | Self::Whole)
    }

    pub(crate) fn has_rows(self) -> bool {
        matches!(self, Self::Begun | Self::Whole)
    }

    /// The state after the first rows were sent to the client.
    pub(crate) fn begun(self) -> Self {
        if self.is_at_end() { Self::Whole } else { Self::Begun }
    }

    /// The state after the last row was read.
    pub(crate) fn ended(self) -> Self {
        if self.has_rows() { Self::Whole } else { Self::Empty }
    }
}

/// The tasks of one stage, with counters that make `is_placed` and `is_finished` cheap.
#[derive(Clone, Debug)]
pub(crate) struct StageTasks {
    pub tasks: Vec<Task>,
    placed: usize,
    finished: usize,
    /// Whether all tasks were finished at some time. It stays true if outputs are lost later.
    has_finished: bool,
    /// How the tasks read their inputs. An input that is missing here is read as [`Reading::Share`].
    pub readings: BTreeMap<StageId, Reading>,
    /// Whether the stage does not hash its rows, because it is the probe side of a join that reads its build side
    /// whole.
    pub unhashed: bool,
}

impl StageTasks {
    fn new(tasks: u32, first_attempt: u32) -> Self {
        Self {
            tasks: vec![Task { next_attempt: first_attempt, ..Task::default() }; tasks as usize],
            placed: 0,
            finished: 0,
            has_finished: false,
            readings: BTreeMap::new(),
            unhashed: false,
        }
    }

    /// Whether no task has ever had an attempt. Only such a stage may adapt.
    pub(crate) fn is_untouched(&self) -> bool {
        self.tasks.iter().all(|task| !task.has_run)
    }

    fn has_live(&self) -> bool {
        self.placed > self.finished
    }

    pub(crate) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.tasks.iter().filter_map(|task| task.attempt.as_ref())
    }

    /// Every task has an attempt.
    pub(crate) fn is_placed(&self) -> bool {
        self.placed == self.tasks.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished == self.tasks.len()
    }
}

/// A query that has been accepted and has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub session: u64,
    pub state: QueryState,
    pub submitted: Timestamp,
    pub graph: Option<StageGraph>,
    pub stages: Vec<StageTasks>,
    /// The number of each task's first attempt. It exceeds all attempt numbers of an earlier plan, because stages and
    /// tasks of both plans are numbered from 0.
    first_attempt: u32,
    /// Tasks without an attempt whose output the client or another pending task needs, producers first.
    pub pending: BTreeSet<(StageId, TaskIndex)>,
    /// Executors that ever got a task of the query.
    pub executors: BTreeSet<ExecutorId>,
    /// The number of executors that were lost while the query ran on them.
    pub executor_losses: u32,
    /// The query's share of the blame for these losses, in points. One loss has `BLAME_OF_LOSS` points.
    pub blame: u32,
    /// Whether the query may be planned again if it outgrows this plan or runs out of memory.
    pub replannable: bool,
    /// The producers in the query's last `ResultSource`.
    pub source: Vec<Producer>,
}

impl Query {
    pub(crate) fn new(session: u64, now: Timestamp) -> Self {
        Self {
            session,
            state: QueryState::Queued,
            submitted: now,
            graph: None,
            stages: vec![],
            first_attempt: 0,
            pending: BTreeSet::new(),
            executors: BTreeSet::new(),
            executor_losses: 0,
            blame: 0,
            replannable: false,
            source: vec![],
        }
    }

    pub(crate) fn start(&mut self, graph: StageGraph) {
        self.stages = graph.iter().map(|(_, stage)| StageTasks::new(stage.tasks, self.first_attempt)).collect();
        let tasks = |(id, stages): (StageId, u32)| (0..stages).map(move |task| (id, TaskIndex(task)));
        self.pending = graph.iter().map(|(id, stage)| (id, stage.tasks)).flat_map(tasks).collect();
        self.graph = Some(graph);
        self.state = QueryState::Running;
    }

    /// Drops the plan and returns to `Planning`. The caller has discarded all attempts before.
    pub(crate) fn forget_plan(&mut self) {
        let tasks = self.stages.iter().flat_map(|stage| &stage.tasks);
        self.first_attempt = tasks.map(|task| task.next_attempt).max().unwrap_or(0).max(self.first_attempt);
        self.stages.clear();
        self.pending.clear();
        self.source.clear();
        self.graph = None;
        self.state = QueryState::Planning;
    }

    /// Whether the query had an earlier plan.
    pub(crate) fn is_planned_anew(&self) -> bool {
        self.first_attempt > 0
    }

    /// Whether an attempt belongs to a task of the current plan.
    pub(crate) fn is_of_plan(&self, id: TaskId) -> bool {
        id.attempt >= self.first_attempt && self.task(id.stage, id.task).is_some()
    }

    /// Whether an attempt counted once and no longer does.
    pub(crate) fn has_given_up(&self, id: TaskId) -> bool {
        let is_over = |task: &Task| id.attempt < task.next_attempt && self.current(id).is_none();
        id.attempt < self.first_attempt || self.task(id.stage, id.task).is_some_and(is_over)
    }

    /// Whether no part of the result has been read, as far as the machine knows.
    pub(crate) fn is_unread(&self) -> bool {
        let root = self.stages.last().into_iter().flat_map(|root| &root.tasks);
        root.map(|task| task.reading).all(|reading| reading == ResultReading::NotBegun)
    }

    pub(crate) fn graph(&self) -> &StageGraph {
        self.graph.as_ref().expect("a running query has a graph")
    }

    /// The number of the remote files that a task reads; `None` if it reads none.
    pub(crate) fn reads(&self, stage: StageId, task: TaskIndex) -> Option<u64> {
        self.graph().stage(stage).reads.get(task.0 as usize).copied()
    }

    pub(crate) fn is_root(&self, stage: StageId) -> bool {
        stage.0 as usize + 1 == self.stages.len()
    }

    pub(crate) fn stage(&self, stage: StageId) -> &StageTasks {
        &self.stages[stage.0 as usize]
    }

    pub(crate) fn task(&self, stage: StageId, task: TaskIndex) -> Option<&Task> {
        self.stages.get(stage.0 as usize)?.tasks.get(task.0 as usize)
    }

    /// A task, to change it. Only `assign`, `finish` and `take_attempt` may place, finish or remove its attempt,
    /// because they also update the counters of `StageTasks`.
    pub(crate) fn task_mut(&mut self, stage: StageId, task: TaskIndex) -> Option<&mut Task> {
        self.stages.get_mut(stage.0 as usize)?.tasks.get_mut(task.0 as usize)
    }

    /// The attempt of that id, if it is the one that counts.
    pub(crate) fn current(&self, id: TaskId) -> Option<&Attempt> {
        self.task(id.stage, id.task)?.attempt.as_ref().filter(|attempt| attempt.id() == id)
    }

    pub(crate) fn current_mut(&mut self, id: TaskId) -> Option<&mut Attempt> {
        self.task_mut(id.stage, id.task)?.attempt.as_mut().filter(|attempt| attempt.id() == id)
    }

    /// All attempts that count.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.stages.iter().flat_map(StageTasks::attempts)
    }

    /// Whether tasks of `stage` can start. Every streaming input must be placed, every complete input must be
    /// finished, and every stage in `after` must have finished once.
    pub(crate) fn inputs_ready(&self, stage: StageId) -> bool {
        let stage = self.graph().stage(stage);
        let has_input = |input: &Input| match input.delivery {
            Delivery::Streaming => self.stage(input.stage).is_placed(),
            Delivery::Complete => self.stage(input.stage).is_finished(),
        };
        // A stage that does not run, for example because it was skipped, is not waited for.
        let has_been = |after: &StageId| self.stage(*after).has_finished || !self.runs(*after);
        stage.inputs.iter().all(has_input) && stage.after.iter().all(has_been)
    }

    /// Whether a task of the stage is live or pending.
    pub(crate) fn runs(&self, stage: StageId) -> bool {
        let mut pending = self.pending.range((stage, TaskIndex(0))..);
        self.stage(stage).has_live() || pending.next().is_some_and(|(found, _)| *found == stage)
    }

    /// Reduces the task count of an untouched stage.
    pub(crate) fn resize(&mut self, stage: StageId, tasks: u32) {
        let graph = self.graph.as_mut().expect("a running query has a graph");
        graph.resize(stage, tasks);
        self.stages[stage.0 as usize].tasks.truncate(tasks as usize);
        self.pending.retain(|(pending, task)| *pending != stage || task.0 < tasks);
    }

    /// The attempts of a stage, in task order, if each task has one.
    pub(crate) fn producers(&self, stage: StageId) -> Option<Vec<Producer>> {
        let stage = self.stage(stage);
        stage.is_placed().then(|| stage.attempts().map(Producer::from).collect())
    }

    /// Gives a task its next attempt. It reads the attempts of its inputs that count now, so [`Self::inputs_ready`]
    /// must hold.
    pub(crate) fn assign(&mut self, task: TaskId, executor: ExecutorId, now: Timestamp) -> Assignment {
        let readings = &self.stage(task.stage).readings;
        let bind = |input: &Input| InputBinding {
            stage: input.stage,
            producers: self.producers(input.stage).expect("inputs are ready"),
            reading: readings.get(&input.stage).cloned().unwrap_or_default(),
        };
        let inputs = self.graph().stage(task.stage).inputs.iter().map(bind).collect();
        let stage = &mut self.stages[task.stage.0 as usize];
        let (tasks, unhashed) = (stage.tasks.len() as u32, stage.unhashed);
        let slot = &mut stage.tasks[task.task.0 as usize];
        let assignment = Assignment { attempt: task, tasks, inputs, unhashed, waves: slot.record.waves };
        slot.next_attempt = task.attempt + 1;
        slot.has_run = true;
        slot.attempt = Some(Attempt {
            assignment: assignment.clone(),
            executor,
            state: AttemptState::Assigned,
            heartbeats: 0,
            assigned: now,
            missing: None,
            read: BTreeSet::new(),
            stats: TaskStats::default(),
        });
        stage.placed += 1;
        self.pending.remove(&(task.stage, task.task));
        self.executors.insert(executor);
        assignment
    }

    /// The executors of the stage's live attempts.
    pub(crate) fn live_executors(&self, stage: StageId) -> Vec<ExecutorId> {
        self.stage(stage).attempts().filter(|attempt| attempt.is_live()).map(|attempt| attempt.executor).collect()
    }

    /// The id of a task's next attempt.
    pub(crate) fn next_attempt(&self, query: QueryId, stage: StageId, task: TaskIndex) -> TaskId {
        let attempt = self.task(stage, task).expect("pending tasks exist").next_attempt;
        TaskId { query, stage, task, attempt }
    }

    /// Marks a live attempt as finished.
    pub(crate) fn finish(&mut self, id: TaskId) {
        let attempt = self.current_mut(id).expect("only attempts that count finish");
        debug_assert!(attempt.is_live(), "an attempt finishes once");
        attempt.state = AttemptState::Finished;
        let stage = &mut self.stages[id.stage.0 as usize];
        stage.finished += 1;
        stage.has_finished |= stage.is_finished();
    }

    /// Removes an attempt from its task. The client gets the rows of the next attempt from the beginning or, if the
    /// stage is repeatable, after the rows that were delivered.
    pub(crate) fn take_attempt(&mut self, id: TaskId) -> Option<Attempt> {
        self.current(id)?;
        let repeats = self.is_repeatable(id.stage);
        let task = self.task_mut(id.stage, id.task)?;
        task.reading = match task.reading.has_rows() && repeats {
            true => ResultReading::Begun,
            false => ResultReading::NotBegun,
        };
        let attempt = task.attempt.take()?;
        let stage = &mut self.stages[id.stage.0 as usize];
        stage.placed -= 1;
        stage.finished -= usize::from(!attempt.is_live());
        Some(attempt)
    }

    /// Whether a second attempt gives the client the rows of the first one in the same order.
    pub(crate) fn is_repeatable(&self, stage: StageId) -> bool {
        self.graph().stage(stage).determinism == Determinism::Repeatable
    }

    /// How far the client has come with the task's rows.
    pub(crate) fn reading(&self, id: TaskId) -> ResultReading {
        self.task(id.stage, id.task).map_or(ResultReading::NotBegun, |task| task.reading)
    }

    /// Whether every row has reached the client and every root task has reported that it finished. This report carries
    /// the task's measurements. A root attempt that is lost after its rows were read counts as finished.
    pub(crate) fn is_delivered(&self) -> bool {
        let is_read = |task: &Task| task.reading.is_at_end();
        self.stages.last().is_some_and(|root| root.is_finished() && root.tasks.iter().all(is_read))
    }

    /// Whether a producer that the root has read whole has not reported its end yet. Such a producer has written all
    /// rows, so its report is about to come.
    pub(crate) fn awaits_reports(&self) -> bool {
        let mut read = self.stages.last().into_iter().flat_map(StageTasks::attempts).flat_map(|root| &root.read);
        read.any(|producer| self.current(*producer).is_some_and(Attempt::is_live))
    }

    /// Whether the query cannot go on without a usable executor.
    pub(crate) fn waits_for_executors(&self) -> bool {
        match self.state {
            QueryState::Queued => true,
            QueryState::Planning => false,
            QueryState::Running => !self.pending.is_empty(),
        }
    }
}
