//! The one task that owns the machine: it receives events, lets the machine decide, and carries out the actions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::runtime::SpawnedTask;
use hwacha_model::{
    Adaptation, Assignment, ExecutorId, Failure, FailureKind, Producer, QueryId, StageId, TaskId, Timestamp,
};
use hwacha_plan::explain::TaskMetrics;
use hwacha_proto::Progress;
use hwacha_proto::control::scheduler_message::Message;
use hwacha_proto::control::{self, SchedulerMessage};
use hwacha_scheduler_core::{Action, Config, Event, Machine};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::filters::FilterBook;
use crate::query::{
    ClusterShape, History, Phase, PlannedQuery, QueryTicket, ResultProducer, ResultSource, Size, Submission,
};
use crate::running_query::RunningQuery;

/// Bits of a query's number below the epoch (40: about 10^12 queries in one start of the scheduler).
const QUERY_BITS: u32 = 40;
/// Inputs that wait for the event loop (4,096). If there are more, their senders wait.
const QUEUE: usize = 4096;

/// What the event loop receives.
pub(crate) enum Input {
    Submit(Submission, oneshot::Sender<QueryTicket>),
    /// An executor has registered or attached again. `commands` leads to the executor over this connection.
    Attach {
        register: control::Register,
        connection: u64,
        commands: mpsc::Sender<SchedulerMessage>,
    },
    /// A connection ended. Ignored if the executor has a newer connection.
    Detach {
        executor: ExecutorId,
        connection: u64,
    },
    Machine(Event),
    /// The measurements of a finished attempt. Sent before the event that the attempt finished.
    Metrics {
        attempt: TaskId,
        metrics: TaskMetrics,
    },
    /// Asks for the filter book of an attempt's stage. Sent before the event that the attempt finished.
    FilterBook(TaskId, oneshot::Sender<Option<OpenBook>>),
    Planned {
        query: QueryId,
        plan: Result<Arc<PlannedQuery>, Failure>,
    },
    Progress(QueryId, oneshot::Sender<Option<Progress>>),
    Shape(oneshot::Sender<ClusterShape>),
}

/// The filter book of a query, and the task count of the stage that reports.
pub(crate) struct OpenBook {
    book: Arc<FilterBook>,
    tasks: u32,
}

/// Sends inputs to the event loop.
#[derive(Clone, Debug)]
pub(crate) struct EventLoopHandle {
    inputs: mpsc::Sender<Input>,
    result_ttl: Duration,
}

impl EventLoopHandle {
    pub(crate) async fn send(&self, input: Input) -> Result<(), Error> {
        self.inputs.send(input).await.map_err(|_| Error::Stopping)
    }

    /// How long a result waits for a client that takes none of its rows.
    pub(crate) fn result_ttl(&self) -> Duration {
        self.result_ttl
    }

    /// Submits a query. It runs whether its result is read or not, until it ends or is canceled.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<QueryTicket, Error> {
        self.ask(|answer| Input::Submit(submission, answer)).await
    }

    pub(crate) async fn progress(&self, query: QueryId) -> Result<Option<Progress>, Error> {
        self.ask(|answer| Input::Progress(query, answer)).await
    }

    /// The number of attached executors, and the cores of the executor with the most cores.
    pub(crate) async fn shape(&self) -> Result<ClusterShape, Error> {
        self.ask(Input::Shape).await
    }

    /// Cancels a query. Does nothing if the query has ended. Never waits, so `drop` can call it.
    pub(crate) fn cancel(&self, query: QueryId, failure: Failure) {
        self.send_without_waiting(Input::Machine(Event::CancelRequested { query, failure }));
    }

    /// Tells the event loop that a connection has ended. Never waits, so `drop` can call it.
    pub(crate) fn detach(&self, executor: ExecutorId, connection: u64) {
        self.send_without_waiting(Input::Detach { executor, connection });
    }

    #[expect(clippy::disallowed_methods, reason = "the task ends with the event loop, and its sender is being dropped")]
    fn send_without_waiting(&self, input: Input) {
        if let Err(mpsc::error::TrySendError::Full(input)) = self.inputs.try_send(input) {
            let inputs = self.inputs.clone();
            drop(tokio::task::spawn(async move { inputs.send(input).await }));
        }
    }

    /// Merges the filters of an attempt into those of its stage, on a blocking thread.
    pub(crate) async fn add_filters(&self, attempt: TaskId, filters: Vec<control::RuntimeFilter>) -> Result<(), Error> {
        let Some(OpenBook { book, tasks }) = self.ask(|answer| Input::FilterBook(attempt, answer)).await? else {
            return Ok(());
        };
        let added = SpawnedTask::spawn_blocking(move || book.add(attempt, tasks, &filters)).await;
        // The rows of a query are the same without filters.
        added.unwrap_or_else(|error| tracing::warn!(%attempt, %error, "filters are not used"));
        Ok(())
    }

    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.send(input(sender)).await?;
        answer.await.map_err(|_| Error::Stopping)
    }
}

struct Attached {
    connection: u64,
    commands: mpsc::Sender<SchedulerMessage>,
    address: String,
    cores: usize,
}

/// The machine and everything that its actions touch.
pub(crate) struct EventLoop {
    epoch: u64,
    machine: Machine,
    origin: Instant,
    inputs: mpsc::Receiver<Input>,
    /// Sends inputs to this event loop, for example from the planning tasks that it starts.
    handle: EventLoopHandle,
    attached: BTreeMap<ExecutorId, Attached>,
    queries: HashMap<QueryId, RunningQuery>,
    next_query: u64,
    history: History,
    planning: JoinSet<()>,
    /// Launches of the present turn: one message per executor and query.
    launches: BTreeMap<(ExecutorId, QueryId), Vec<Assignment>>,
    /// Aborts of the present turn: one message per executor, even if a lost executor leaves thousands of tasks
    /// without input.
    aborts: BTreeMap<ExecutorId, Vec<TaskId>>,
}

impl EventLoop {
    pub(crate) fn new(epoch: u64, config: Config, result_ttl: Duration) -> (Self, EventLoopHandle) {
        let (sender, inputs) = mpsc::channel(QUEUE);
        let handle = EventLoopHandle { inputs: sender, result_ttl };
        let event_loop = Self {
            epoch,
            machine: Machine::new(config),
            origin: Instant::now(),
            inputs,
            handle: handle.clone(),
            attached: BTreeMap::new(),
            queries: HashMap::new(),
            next_query: epoch << QUERY_BITS,
            history: History::default(),
            planning: JoinSet::new(),
            launches: BTreeMap::new(),
            aborts: BTreeMap::new(),
        };
        (event_loop, handle)
    }

    /// Runs until its task is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let wait = self.machine.next_deadline().map(|deadline| deadline.since(self.now()));
            tokio::select! {
                Some(input) = self.inputs.recv() => self.receive(input),
                () = sleep(wait) => self.handle(Event::Tick),
                Some(_) = self.planning.join_next() => {}
            }
            // All inputs that are queued now belong to this turn, so their commands share messages. Later inputs
            // wait.
            for _ in 0..self.inputs.len() {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.receive(input);
            }
            self.send_aborts();
            self.send_launches();
        }
    }

    /// The query of an attempt, if the attempt belongs to the query's current plan.
    fn query_of(&mut self, attempt: TaskId) -> Option<&mut RunningQuery> {
        self.queries.get_mut(&attempt.query).filter(|_| self.machine.is_of_plan(attempt))
    }

    /// The filter book of an attempt, if the attempt belongs to the query's current plan.
    fn filter_book(&mut self, attempt: TaskId) -> Option<OpenBook> {
        let running = self.query_of(attempt)?;
        let tasks = running.graph.as_ref()?.stage(attempt.stage).tasks;
        Some(OpenBook { book: Arc::clone(&running.filters), tasks })
    }

    fn now(&self) -> Timestamp {
        Timestamp::after_origin(self.origin.elapsed())
    }

    fn handle(&mut self, event: Event) {
        self.machine.handle(self.now(), event);
        while let Some(action) = self.machine.next_action() {
            self.carry_out(action);
        }
    }

    fn receive(&mut self, input: Input) {
        match input {
            Input::Submit(submission, answer) => self.submit(submission, answer),
            Input::Attach { register, connection, commands } => self.attach(register, connection, commands),
            Input::Detach { executor, connection } => self.detach(executor, connection),
            Input::Machine(event) => self.handle(event),
            Input::Metrics { attempt, metrics } => {
                if let Some(query) = self.query_of(attempt) {
                    query.metrics.insert(attempt, metrics);
                }
            }
            Input::FilterBook(attempt, answer) => drop(answer.send(self.filter_book(attempt))),
            Input::Planned { query, plan } => self.planned(query, plan),
            // The receiver of the answer may be gone.
            Input::Progress(query, answer) => drop(answer.send(self.progress(query))),
            Input::Shape(answer) => drop(answer.send(self.shape())),
        }
    }

    fn submit(&mut self, submission: Submission, answer: oneshot::Sender<QueryTicket>) {
        self.next_query += 1;
        let query = QueryId(self.next_query);
        let phase = watch::Sender::new(Phase::Waiting);
        let ticket = QueryTicket { query, phase: phase.subscribe() };
        let session = submission.session;
        self.queries.insert(query, RunningQuery::new(submission, phase));
        self.handle(Event::QuerySubmitted { query, session });
        if answer.send(ticket).is_err() {
            let failure = Failure::new(FailureKind::Canceled, "the client went away");
            self.handle(Event::CancelRequested { query, failure });
        }
    }

    fn attach(&mut self, register: control::Register, connection: u64, commands: mpsc::Sender<SchedulerMessage>) {
        let executor = ExecutorId(register.executor);
        tracing::info!(executor = %format_args!("{executor:016x}", executor = executor.0), address = register.address, "executor attached");
        let cores = register.cores.max(1) as usize;
        self.attached.insert(executor, Attached { connection, commands, address: register.address, cores });
        self.command(executor, Message::Registered(control::Registered { epoch: self.epoch, storage: vec![] }));
        let known = register.known.into_iter().map(TaskId::from).collect();
        self.handle(Event::ExecutorJoined { executor, slots: register.slots.max(1), cache: register.cache, known });
    }

    fn detach(&mut self, executor: ExecutorId, connection: u64) {
        if self.attached.get(&executor).is_some_and(|attached| attached.connection == connection) {
            tracing::info!(executor = %format_args!("{:016x}", executor.0), "executor's connection ended");
            self.handle(Event::ExecutorDisconnected { executor });
        }
    }

    fn planned(&mut self, query: QueryId, plan: Result<Arc<PlannedQuery>, Failure>) {
        match plan {
            Ok(plan) => {
                let (graph, replannable) = (plan.plan.graph.clone(), plan.replannable);
                if let Some(running) = self.queries.get_mut(&query) {
                    running.plan = Some(plan);
                    running.graph = Some(graph.clone());
                }
                self.handle(Event::QueryPlanned { query, graph, replannable });
            }
            Err(failure) => self.handle(Event::PlanFailed { query, failure }),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Plan { query, executors, anew } => self.plan(query, &executors, anew),
            Action::Launch { executor, assignment } => {
                self.launches.entry((executor, assignment.attempt.query)).or_default().push(assignment);
            }
            Action::Adapted { query, stage, adaptation } => self.adapted(query, stage, adaptation),
            Action::Abort { executor, attempt } => {
                if let Some(launches) = self.launches.get_mut(&(executor, attempt.query)) {
                    launches.retain(|assignment| assignment.attempt != attempt);
                }
                self.aborts.entry(executor).or_default().push(attempt);
            }
            Action::Release { executor, query } => {
                self.launches.remove(&(executor, query));
                self.command(executor, Message::Release(control::Release { query: query.0 }));
            }
            Action::ResultSource { query, producers } => self.result_source(query, &producers),
            Action::End { query, outcome } => self.end(query, outcome),
            Action::Evict { executor } => {
                tracing::warn!(executor = %format_args!("{:016x}", executor.0), "executor lost");
                self.command(executor, Message::Evicted(control::Evicted {}));
                self.attached.remove(&executor);
            }
        }
    }

    fn adapted(&mut self, query: QueryId, stage: StageId, adaptation: Adaptation) {
        tracing::debug!(%query, %stage, %adaptation, "stage adapted");
        if let Some(running) = self.queries.get_mut(&query) {
            running.adapt(stage, adaptation);
        }
    }

    fn plan(&mut self, query: QueryId, executors: &[ExecutorId], anew: Option<FailureKind>) {
        let Some(running) = self.queries.get_mut(&query) else { return };
        let size = match &anew {
            None => Size::Estimated,
            Some(FailureKind::Outgrown) => Size::Large,
            Some(_) => Size::TooLarge,
        };
        if let Some(failure) = anew {
            tracing::info!(%query, after = ?failure, "query is planned again");
            running.forget_plan(&failure);
            self.launches.retain(|(_, of), _| *of != query);
        }
        let cores = executors.iter().filter_map(|executor| self.attached.get(executor)).map(|attached| attached.cores);
        let shape = ClusterShape { executors: executors.len(), cores: cores.max().unwrap_or(1) };
        let planning = (running.planner)(shape, size);
        let handle = self.handle.clone();
        let planning = self.planning.spawn(async move {
            let plan = planning.await;
            // Sending fails only if the event loop has ended.
            let _ = handle.send(Input::Planned { query, plan }).await;
        });
        running.planning = Some(planning);
    }

    fn send_aborts(&mut self) {
        for (executor, attempts) in std::mem::take(&mut self.aborts) {
            let attempts = attempts.into_iter().map(Into::into).collect();
            self.command(executor, Message::Abort(control::Abort { attempts }));
        }
    }

    fn send_launches(&mut self) {
        for ((executor, query), assignments) in std::mem::take(&mut self.launches) {
            let Some(running) = self.queries.get_mut(&query) else { continue };
            let Some(plan) = running.plan.clone() else { continue };
            let mut stages: Vec<_> = assignments.iter().map(|assignment| assignment.attempt.stage.0).collect();
            stages.sort_unstable();
            stages.dedup();
            let Some(graph) = &running.graph else { continue };
            let filters = running.filters.of(graph, &stages);
            let (settings, collect_metrics) = (running.settings.clone(), running.collect_metrics);
            let launch = control::Launch {
                epoch: self.epoch,
                query: query.0,
                stages: stages.into_iter().map(|stage| plan.stages[stage as usize].clone()).collect(),
                assignments: assignments
                    .iter()
                    .map(|assignment| control::Assignment::new(assignment, |executor| self.address(executor)))
                    .collect(),
                settings,
                collect_metrics,
                filters,
                stores: plan.stores.clone(),
            };
            self.command(executor, Message::Launch(launch));
        }
    }

    fn address(&self, executor: ExecutorId) -> String {
        self.attached.get(&executor).map(|attached| attached.address.clone()).unwrap_or_default()
    }

    /// Sends a command. If the command queue of an executor is full, its connection is closed. The executor then
    /// attaches again or is lost.
    fn command(&mut self, executor: ExecutorId, message: Message) {
        let Some(attached) = self.attached.get_mut(&executor) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) =
            attached.commands.try_send(SchedulerMessage { message: Some(message) })
        {
            // Dropping the sender ends the stream after the queued commands. When the executor attaches again, it
            // names the attempts that it knows.
            attached.commands = mpsc::channel(1).0;
            self.handle.detach(executor, attached.connection);
        }
    }

    fn result_source(&mut self, query: QueryId, producers: &[Producer]) {
        let producers = producers
            .iter()
            .map(|producer| ResultProducer {
                attempt: producer.attempt,
                executor: producer.executor,
                address: self.address(producer.executor),
            })
            .collect();
        let Some(running) = self.queries.get(&query) else { return };
        if let Some(planned) = &running.plan {
            let source = ResultSource { producers, shape: planned.plan.result };
            running.phase.send_replace(Phase::Readable(Arc::new(source)));
        }
    }

    fn end(&mut self, query: QueryId, outcome: Result<(), Failure>) {
        let Some(running) = self.queries.remove(&query) else { return };
        if let Some(planning) = &running.planning {
            // Stops the planning if the query was canceled meanwhile. Planning that has ended is not affected.
            planning.abort();
        }
        let mut progress = running.progress(self.machine.query_status(query));
        progress.state = match &outcome {
            Ok(()) => "Finished",
            Err(failure) if failure.kind == FailureKind::Canceled => "Canceled",
            Err(_) => "Failed",
        }
        .to_owned();
        if outcome.is_ok() {
            // The machine has forgotten the query and reports no finished tasks. All tasks of a successful query count
            // as finished.
            (progress.finished_stages, progress.finished_tasks) = (progress.stages, progress.tasks);
        }
        match &outcome {
            Ok(()) => tracing::info!(%query, tasks = progress.tasks, "query finished"),
            Err(failure) => tracing::info!(%query, kind = ?failure.kind, %failure, "query ended"),
        }
        self.history.add(query, progress);
        let ended = outcome.map(|()| Arc::new(running.ended()));
        running.phase.send_replace(Phase::Ended(ended));
    }

    fn progress(&self, query: QueryId) -> Option<Progress> {
        match self.queries.get(&query) {
            Some(running) => Some(running.progress(self.machine.query_status(query))),
            None => self.history.find(query),
        }
    }

    fn shape(&self) -> ClusterShape {
        ClusterShape {
            executors: self.attached.len(),
            cores: self.attached.values().map(|attached| attached.cores).max().unwrap_or(1),
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use hwacha_model::TaskIndex;

    use super::*;

    #[tokio::test]
    async fn an_executor_that_takes_no_commands_is_cut_off() {
        let (mut event_loop, _handle) = EventLoop::new(1, Config::default(), Duration::from_secs(600));
        let (commands, mut receiver) = mpsc::channel(2);
        let register = control::Register { executor: 7, slots: 1, ..Default::default() };
        event_loop.attach(register, 3, commands);
        let attempt = |task| TaskId { query: QueryId(1), stage: StageId(0), task: TaskIndex(task), attempt: 0 };
        for task in 0..5000 {
            event_loop.carry_out(Action::Abort { executor: ExecutorId(7), attempt: attempt(task) });
        }
        event_loop.send_aborts();
        assert!(event_loop.inputs.try_recv().is_err(), "any number of aborts is one message");
        event_loop.carry_out(Action::Release { executor: ExecutorId(7), query: QueryId(1) });
        let kind = |message: SchedulerMessage| message.message.expect("it says something");
        assert!(matches!(receiver.recv().await.map(kind), Some(Message::Registered(_))));
        assert!(matches!(receiver.recv().await.map(kind), Some(Message::Abort(abort)) if abort.attempts.len() == 5000));
        assert!(receiver.recv().await.is_none(), "its stream ends");
        let cut_off = event_loop.inputs.try_recv();
        assert!(matches!(cut_off, Ok(Input::Detach { executor: ExecutorId(7), connection: 3 })));
    }
}
