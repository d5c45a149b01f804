//! The attempts that an executor runs: starts each once, stops them, reports their ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::DataFusionError;
use datafusion::prelude::SessionConfig;
use hwacha_execution::failure::classify;
use hwacha_execution::session::session_config;
use hwacha_model::{ExecutorId, Failure, FailureKind, QueryId, Reading, StageId, TaskId};
use hwacha_operators::exchange::TaskShare;
use hwacha_operators::runtime_filter::{Filters, RuntimeFilter};
use hwacha_proto::control;
use hwacha_proto::control::report::Outcome;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::exchange::{BoundProducer, ExchangeStore, OnRead};
use crate::memory::{Counted, QueryMemory, Work};
use crate::reports::Reports;
use crate::task::{self, TaskEnvironment, TaskRun};

/// Time after which a stopped task that still computes is logged, and its slots are reported as blocked (2 s: a batch
/// takes milliseconds).
const STUCK: Duration = Duration::from_secs(2);

/// Interval between two checks whether outputs are still held, while the executor stops (50 ms).
const HELD_CHECK: Duration = Duration::from_millis(50);

/// Divisor of the memory limit: a query is to blame if it holds more than a sixteenth of the limit.
const LEAST_TO_BLAME: usize = 16;

/// Whether a query that holds `bytes` is large enough to be the reason for a lack of memory.
fn is_to_blame(bytes: usize, limit_bytes: usize) -> bool {
    bytes > limit_bytes / LEAST_TO_BLAME
}

/// All attempts of one executor.
pub(crate) struct Tasks {
    environment: TaskEnvironment,
    store: Arc<ExchangeStore>,
    reports: Arc<Reports>,
    attempts: Mutex<Attempts>,
    /// How many attempts run. A drain waits for 0.
    running: watch::Sender<usize>,
}

#[derive(Default)]
struct Attempts {
    running: BTreeMap<TaskId, Running>,
    /// Attempts that ended or were stopped. Some of their threads may still compute a batch.
    ending: Vec<Ending>,
    /// The memory counters of the queries that were started here, until they are released.
    memory: BTreeMap<QueryId, Arc<QueryMemory>>,
    /// Attempts that were started, until their query is released. They are not started again.
    seen: BTreeSet<TaskId>,
}

/// An attempt that runs. Dropping it stops it between two batches.
struct Running {
    handle: AbortOnDropHandle<()>,
    work: Arc<Work>,
}

struct Ending {
    attempt: TaskId,
    work: Arc<Work>,
    since: Instant,
    /// Whether the warning that it does not end was logged.
    is_logged: bool,
}

impl Attempts {
    fn end(&mut self, attempt: TaskId, work: Arc<Work>) {
        work.stop();
        self.ending.push(Ending { attempt, work, since: Instant::now(), is_logged: false });
    }
}

impl Tasks {
    pub(crate) fn new(environment: TaskEnvironment, store: Arc<ExchangeStore>, reports: Arc<Reports>) -> Arc<Self> {
        Arc::new(Self { environment, store, reports, attempts: Mutex::default(), running: watch::Sender::new(0) })
    }

    /// Starts the attempts of a launch that were not started before.
    pub(crate) fn launch(self: &Arc<Self>, launch: control::Launch) {
        let config = match config(&launch.settings) {
            Ok(config) => config,
            Err(failure) => return self.refuse(&launch, &failure),
        };
        let filters = match filters(&launch.filters) {
            Ok(filters) => Arc::new(filters),
            Err(failure) => return self.refuse(&launch, &failure),
        };
        let plans: HashMap<u32, control::StagePlan> =
            launch.stages.into_iter().map(|stage| (stage.stage, stage)).collect();
        for assignment in launch.assignments {
            let Some(attempt) = assignment.attempt.map(TaskId::from) else { continue };
            // A task without all its producers would return too few rows without an error.
            let (Some(stage), Some(producers)) = (plans.get(&attempt.stage.0), producers(&assignment)) else {
                let failure = Failure::new(FailureKind::Internal, format!("the launch of task {attempt} is not whole"));
                self.reports.add(attempt, Outcome::Failed(failure.into()));
                continue;
            };
            let run = TaskRun {
                attempt,
                share: TaskShare {
                    task: attempt.task.0 as usize,
                    tasks: assignment.tasks as usize,
                    planned_tasks: stage.tasks as usize,
                    unhashed: assignment.unhashed,
                },
                plan: stage.plan.clone(),
                producers,
                readings: readings(&assignment),
                waves: assignment.waves.max(1) as usize,
                max_rows: Some(stage.max_rows).filter(|rows| *rows > 0),
                filters: Arc::clone(&filters),
                config: config.clone(),
                collect_metrics: launch.collect_metrics,
                on_read: self.on_read(attempt),
            };
            self.start(run);
        }
    }

    fn refuse(&self, launch: &control::Launch, failure: &Failure) {
        for attempt in launch.assignments.iter().filter_map(|assignment| assignment.attempt) {
            self.reports.add(attempt.into(), Outcome::Failed(failure.clone().into()));
        }
    }

    fn on_read(&self, attempt: TaskId) -> OnRead {
        let reports = Arc::clone(&self.reports);
        Arc::new(move |producer: TaskId| {
            let producer = Some(producer.into());
            reports.add(attempt, Outcome::InputRead(control::InputRead { producer }));
        })
    }

    fn start(self: &Arc<Self>, run: TaskRun) {
        let mut attempts = self.lock();
        if !attempts.seen.insert(run.attempt) {
            return;
        }
        let attempt = run.attempt;
        self.running.send_modify(|running| *running += 1);
        let tasks = Arc::downgrade(self);
        let (environment, store, reports) =
            (self.environment.clone(), Arc::clone(&self.store), Arc::clone(&self.reports));
        let work = Work::new(Arc::clone(attempts.memory.entry(attempt.query).or_default()));
        let own = Arc::clone(&work);
        let future = async move {
            // Reported at the first poll: if all threads hang in other tasks, the scheduler sees that this task does
            // not start.
            reports.add(attempt, Outcome::Started(control::Started {}));
            tracing::debug!(%attempt, waves = run.waves, "task started");
            let create = move |kind, partitions| store.create(attempt, kind, partitions, own);
            let result = task::run(run, environment, create).await;
            if let Some(tasks) = tasks.upgrade() {
                tasks.ended(attempt, result);
            }
        };
        let handle = AbortOnDropHandle::new(self.environment.cpu.spawn(Counted::new(future, Arc::clone(&work))));
        attempts.running.insert(attempt, Running { handle, work });
    }

    fn ended(&self, attempt: TaskId, result: Result<task::TaskResult, Failure>) {
        let mut attempts = self.lock();
        // A stopped attempt has nothing to report.
        let Some(Running { handle, work }) = attempts.running.remove(&attempt) else { return };
        // After an error or a limit, other partitions of the task may still compute a batch.
        attempts.end(attempt, work);
        drop(attempts);
        handle.detach();
        self.running.send_modify(|running| *running -= 1);
        match result {
            Ok(done) => {
                tracing::debug!(%attempt, rows = done.stats.output_rows, "task finished");
                self.reports.add(attempt, Outcome::Finished(finished(done)));
            }
            Err(failure) => {
                // The output stays, without an end, until the scheduler takes it back. If readers got an error now,
                // their report of a lost exchange could arrive first. Then the scheduler would run the task again
                // and not judge its failure.
                tracing::info!(%attempt, kind = ?failure.kind, %failure, "task failed");
                self.reports.add(attempt, Outcome::Failed(failure.into()));
            }
        }
    }

    /// Stops an attempt and drops its output.
    pub(crate) fn abort(&self, attempt: TaskId) {
        self.stop(|id| *id == attempt);
        self.store.drop_output(attempt);
    }

    /// Stops a query's attempts and drops its outputs.
    pub(crate) fn release(&self, query: QueryId) {
        self.stop(|id| id.query == query);
        let mut attempts = self.lock();
        attempts.seen.retain(|id| id.query != query);
        attempts.memory.remove(&query);
        drop(attempts);
        self.store.drop_query(query);
    }

    /// Stops all attempts, and drops all outputs and reports: the scheduler that launched them has restarted or has
    /// declared this executor lost.
    pub(crate) fn clear(&self) {
        self.stop(|_| true);
        let mut attempts = self.lock();
        attempts.seen.clear();
        attempts.memory.clear();
        drop(attempts);
        self.store.clear();
        self.reports.clear();
    }

    /// Stops the running attempts that `stopped` selects, and returns their ids.
    fn stop(&self, stopped: impl Fn(&TaskId) -> bool) -> Vec<TaskId> {
        let mut attempts = self.lock();
        let stopped: Vec<_> = attempts.running.extract_if(.., |id, _| stopped(id)).collect();
        for (attempt, running) in &stopped {
            attempts.end(*attempt, Arc::clone(&running.work));
        }
        drop(attempts);
        self.running.send_modify(|running| *running -= stopped.len());
        stopped.iter().map(|(attempt, _)| *attempt).collect()
    }

    /// How many threads still compute for attempts that ended or were stopped more than two seconds ago.
    pub(crate) fn stuck_threads(&self) -> usize {
        let mut attempts = self.lock();
        attempts.ending.retain(|ending| ending.work.threads() > 0);
        let mut threads = 0;
        for ending in attempts.ending.iter_mut().filter(|ending| ending.since.elapsed() > STUCK) {
            threads += ending.work.threads();
            if !ending.is_logged {
                ending.is_logged = true;
                let (attempt, threads) = (ending.attempt, ending.work.threads());
                tracing::warn!(%attempt, threads, "a stopped task does not end; its threads do nothing else until then");
            }
        }
        threads
    }

    /// Stops the running query that holds most memory: its tasks fail with `ResourcesExhausted`. Returns the counter
    /// of the query and the bytes that it held. Stops no query if none holds more than a sixteenth of the limit and
    /// all together hold at most half of the limit.
    pub(crate) fn stop_largest(&self, held_bytes: usize, limit_bytes: usize) -> Option<(Arc<QueryMemory>, usize)> {
        let attempts = self.lock();
        let running: BTreeSet<QueryId> = attempts.running.keys().map(|attempt| attempt.query).collect();
        let sizes = running.iter().filter_map(|query| Some((attempts.memory.get(query)?.bytes(), *query)));
        let sizes: Vec<_> = sizes.collect();
        // Many small queries may hold too much together.
        let all: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        let largest = sizes.into_iter().max();
        let (bytes, query) = largest.filter(|(bytes, _)| is_to_blame(*bytes, limit_bytes) || all > limit_bytes / 2)?;
        let memory = Arc::clone(attempts.memory.get(&query)?);
        drop(attempts);
        tracing::warn!(%query, bytes, held_bytes, limit_bytes, "stopping the largest query: memory is short");
        let (own, limit) = (bytes >> 20, limit_bytes >> 20);
        let text = match is_to_blame(bytes, limit_bytes) {
            true => format!(
                "out of memory: the query held {own} MiB on an executor whose limit is {limit} MiB; give the executors more with --memory-limit"
            ),
            false => format!(
                "out of memory: all queries together held {} MiB on an executor whose limit is {limit} MiB, and this one held most, {own} MiB; run fewer at once, or give the executors more with --memory-limit",
                all >> 20
            ),
        };
        for attempt in self.stop(|id| id.query == query) {
            let failure = Failure::new(FailureKind::ResourcesExhausted, text.clone());
            self.reports.add(attempt, Outcome::Failed(failure.into()));
        }
        Some((memory, bytes))
    }

    /// The attempts that run or have unacknowledged reports, for heartbeats.
    pub(crate) fn known(&self) -> Vec<control::TaskId> {
        let mut known: BTreeSet<TaskId> = self.lock().running.keys().copied().collect();
        known.extend(self.reports.attempts());
        known.into_iter().map(control::TaskId::from).collect()
    }

    /// As [`Tasks::known`], and the attempts whose outputs are held: a `Release` may have been lost with the last
    /// connection.
    pub(crate) fn known_and_held(&self) -> Vec<control::TaskId> {
        let held = self.store.attempts().into_iter().map(control::TaskId::from);
        let mut known = self.known();
        known.extend(held);
        known
    }

    /// Waits until no attempt runs and no output is held. An output is held until its query ends.
    pub(crate) async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender lives in `self`, so the wait ends only when the count is 0.
        let _ = running.wait_for(|running| *running == 0).await;
        while !self.store.attempts().is_empty() {
            tokio::time::sleep(HELD_CHECK).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producers of each input; `None` if a producer has no attempt.
fn producers(assignment: &control::Assignment) -> Option<HashMap<StageId, Vec<BoundProducer>>> {
    let producer = |producer: &control::Producer| {
        Some(BoundProducer {
            attempt: producer.attempt?.into(),
            executor: ExecutorId(producer.executor),
            address: producer.address.clone(),
        })
    };
    let inputs = assignment.inputs.iter();
    inputs
        .map(|input| Some((StageId(input.stage), input.producers.iter().map(producer).collect::<Option<_>>()?)))
        .collect()
}

fn readings(assignment: &control::Assignment) -> HashMap<StageId, Reading> {
    assignment.inputs.iter().map(|input| (StageId(input.stage), input.into())).collect()
}

fn finished(done: task::TaskResult) -> control::Finished {
    // A useless filter, or one that cannot be encoded, is left out: filters only save work.
    let useful = done.filters.into_iter().filter(|(_, filter)| !filter.is_useless());
    let filters =
        useful.filter_map(|(id, filter)| Some(control::RuntimeFilter { id, filter: filter.encode().ok()?.into() }));
    control::Finished {
        stats: Some(done.stats.into()),
        operators: done.operators,
        elapsed_nanos: done.elapsed.as_nanos() as u64,
        filters: filters.collect(),
    }
}

fn filters(filters: &[control::RuntimeFilter]) -> Result<Filters, Failure> {
    let decode = |filter: &control::RuntimeFilter| Ok((filter.id, Arc::new(RuntimeFilter::decode(&filter.filter)?)));
    filters.iter().map(decode).collect::<Result<_, DataFusionError>>().map_err(|error| classify(&error))
}

/// The session's settings on top of the defaults that scheduler and executor share.
fn config(settings: &[control::Setting]) -> Result<SessionConfig, Failure> {
    let mut config = session_config();
    for setting in settings {
        config.options_mut().set(&setting.key, &setting.value).map_err(|error| {
            Failure::new(FailureKind::Internal, format!("the setting {} cannot be used: {error}", setting.key))
        })?;
    }
    Ok(config)
}
