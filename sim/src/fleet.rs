//! The machine with many executors: measures how long its decisions take for a fleet of a given size.
//!
//! There are no faults. An attempt starts, reads each input when the producer has finished, and finishes. Each executor
//! sends one heartbeat per second. Simulated time orders the events. Real time is measured only inside the machine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use hwacha_model::{
    Adaptivity, Assignment, Delivery, Determinism, ExecutorId, Input, OutputKind, QueryId, Stage, StageGraph, StageId,
    TaskId, TaskStats, Timestamp,
};
use hwacha_scheduler_core::{Action, Config, Event, Machine};

use crate::rng::Rng;

const SLOTS: u32 = 4;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Number of stages below the one-task root stage. Each stage reads the previous one.
const STAGES: u32 = 5;

/// The size of a simulated fleet and of its work.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub executors: u64,
    /// Number of queries. They are submitted one millisecond apart, and all may run at once.
    pub queries: u64,
    /// Approximate number of tasks of all queries together. All stages below the roots have the same number of tasks,
    /// rounded down and at least 1.
    pub tasks: u64,
}

/// The measured times of a fleet's run.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub fleet: Fleet,
    pub events: usize,
    /// Seconds of real time within the machine, for all events together.
    pub seconds: f64,
    /// Real time of one event, including all actions that follow from it.
    pub median: Duration,
    pub p99: Duration,
    pub longest: Duration,
}

impl Measured {
    /// Events per second of real time, including all actions that follow from them.
    pub fn events_a_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// Runs all queries of a fleet to their ends.
pub fn measure(fleet: Fleet) -> Measured {
    let mut run = Run::new(fleet);
    while let Some(Reverse((at, _, id))) = run.order.pop() {
        let event = run.coming.remove(&id).expect("every event in order is there");
        run.step(at, event);
        if run.ended == fleet.queries {
            break;
        }
    }
    assert_eq!(run.ended, fleet.queries, "every query ends");
    let mut times = run.times;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Measured {
        fleet,
        events: times.len(),
        seconds: times.iter().sum::<Duration>().as_secs_f64(),
        median: at(0.5),
        p99: at(0.99),
        longest: at(1.0),
    }
}

/// An attempt that has been launched.
struct Running {
    executor: ExecutorId,
    /// Producers that it reads and that have not finished.
    unread: BTreeSet<TaskId>,
}

struct Run {
    fleet: Fleet,
    machine: Machine,
    rng: Rng,
    /// Coming events: time, sequence number, key in `coming`. Events of the same time happen in the order of their
    /// sequence numbers.
    order: BinaryHeap<Reverse<(Timestamp, u64, u64)>>,
    coming: BTreeMap<u64, Event>,
    made: u64,
    running: BTreeMap<TaskId, Running>,
    finished: BTreeSet<TaskId>,
    /// For each unfinished producer, the attempts that wait for it.
    readers: BTreeMap<TaskId, Vec<TaskId>>,
    /// Root attempts that the machine has named as sources of a result.
    readable: BTreeSet<TaskId>,
    ended: u64,
    times: Vec<Duration>,
}

impl Run {
    fn new(fleet: Fleet) -> Self {
        let queries = fleet.queries as usize;
        let config = Config { max_running: queries, max_queued: queries, ..Config::default() };
        let mut run = Self {
            fleet,
            machine: Machine::new(config),
            rng: Rng::new(fleet.executors),
            order: BinaryHeap::new(),
            coming: BTreeMap::new(),
            made: 0,
            running: BTreeMap::new(),
            finished: BTreeSet::new(),
            readers: BTreeMap::new(),
            readable: BTreeSet::new(),
            ended: 0,
            times: vec![],
        };
        for executor in (0..fleet.executors).map(ExecutorId) {
            run.push(
                Timestamp::default(),
                Event::ExecutorJoined { executor, slots: SLOTS, cache: None, known: vec![] },
            );
            let first = Timestamp::default() + run.rng.millis(1, 1000);
            run.push(first, Event::Heartbeat { executor, known: vec![], blocked_slots: 0 });
        }
        for query in 0..fleet.queries {
            let at = Timestamp::default() + Duration::from_millis(query);
            run.push(at, Event::QuerySubmitted { query: QueryId(query), session: query % 20 });
        }
        run
    }

    fn push(&mut self, at: Timestamp, event: Event) {
        self.coming.insert(self.made, event);
        self.order.push(Reverse((at, self.made, self.made)));
        self.made += 1;
    }

    fn step(&mut self, now: Timestamp, mut event: Event) {
        if let Event::Heartbeat { executor, known, .. } = &mut event {
            let executor = *executor;
            *known = self.running.iter().filter(|(_, run)| run.executor == executor).map(|(id, _)| *id).collect();
            self.push(now + HEARTBEAT, Event::Heartbeat { executor, known: vec![], blocked_slots: 0 });
        }
        let finished = if let Event::Finished { attempt, .. } = &event { Some(*attempt) } else { None };
        let started = Instant::now();
        self.machine.handle(now, event);
        let mut actions = vec![];
        while let Some(action) = self.machine.next_action() {
            actions.push(action);
        }
        self.times.push(started.elapsed());
        if let Some(attempt) = finished {
            self.end_attempt(now, attempt);
        }
        actions.into_iter().for_each(|action| self.carry_out(now, action));
    }

    fn carry_out(&mut self, now: Timestamp, action: Action) {
        match action {
            Action::Plan { query, .. } => {
                let graph = self.graph();
                self.push(now + Duration::from_millis(5), Event::QueryPlanned { query, graph, replannable: false });
            }
            Action::Launch { executor, assignment } => self.launch(now, executor, &assignment),
            Action::ResultSource { producers, .. } => {
                for producer in producers {
                    self.readable.insert(producer.attempt);
                    self.read_result(now, producer.attempt);
                }
            }
            Action::End { query, outcome } => {
                assert_eq!(outcome, Ok(()), "{query} ends well");
                self.ended += 1;
                self.running.retain(|attempt, _| attempt.query != query);
            }
            Action::Adapted { .. } | Action::Abort { .. } | Action::Release { .. } | Action::Evict { .. } => {}
        }
    }

    fn launch(&mut self, now: Timestamp, executor: ExecutorId, assignment: &Assignment) {
        let attempt = assignment.attempt;
        let producers = assignment.inputs.iter().flat_map(|input| &input.producers).map(|producer| producer.attempt);
        let (read, unread): (BTreeSet<_>, BTreeSet<_>) = producers.partition(|id| self.finished.contains(id));
        for producer in &unread {
            self.readers.entry(*producer).or_default().push(attempt);
        }
        self.push(now + Duration::from_millis(1), Event::Started { executor, attempt });
        for producer in read {
            self.push(now + Duration::from_millis(2), Event::InputRead { executor, attempt, producer });
        }
        let all_read = unread.is_empty();
        self.running.insert(attempt, Running { executor, unread });
        if all_read {
            self.work(now, attempt);
        }
    }

    /// Finishes an attempt that has read all inputs, after 10 ms to 2 s of simulated work.
    fn work(&mut self, now: Timestamp, attempt: TaskId) {
        let at = now + self.rng.millis(10, 2000);
        let executor = self.running[&attempt].executor;
        self.push(at, Event::Finished { executor, attempt, stats: TaskStats::default() });
    }

    fn end_attempt(&mut self, now: Timestamp, attempt: TaskId) {
        self.running.remove(&attempt);
        self.finished.insert(attempt);
        for reader in self.readers.remove(&attempt).unwrap_or_default() {
            let Some(running) = self.running.get_mut(&reader) else { continue };
            running.unread.remove(&attempt);
            let (executor, all_read) = (running.executor, running.unread.is_empty());
            let at = now + Duration::from_millis(1);
            self.push(at, Event::InputRead { executor, attempt: reader, producer: attempt });
            if all_read {
                self.work(at, reader);
            }
        }
        self.read_result(now, attempt);
    }

    /// Reads the rows of a root attempt that has finished and that the machine has named as a source of the result.
    fn read_result(&mut self, now: Timestamp, attempt: TaskId) {
        if self.readable.contains(&attempt) && self.finished.contains(&attempt) {
            self.push(now, Event::ResultBegun { attempt });
            self.push(now, Event::ResultRead { attempt });
        }
    }

    /// A chain of stages with hash exchanges, and a root stage with one task.
    fn graph(&self) -> StageGraph {
        let tasks = (self.fleet.tasks / self.fleet.queries / u64::from(STAGES)).max(1) as u32;
        let stage = |id: u32, tasks: u32, output: OutputKind| Stage {
            inputs: id
                .checked_sub(1)
                .map(|input| Input { stage: StageId(input), delivery: Delivery::Streaming, vital: true })
                .into_iter()
                .collect(),
            after: vec![],
            tasks,
            reads: vec![],
            output,
            determinism: Determinism::Reproducible,
            wavable: false,
            adaptivity: Adaptivity::default(),
        };
        let mut stages: Vec<_> = (0..STAGES).map(|id| stage(id, tasks, OutputKind::Hash)).collect();
        stages.push(stage(STAGES, 1, OutputKind::Result));
        StageGraph::new(stages).expect("each stage reads the one before")
    }
}
