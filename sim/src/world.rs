//! The simulated world: its state, its clock, and the queue of coming items.

use std::collections::BTreeMap;
use std::time::Duration;

use hwacha_model::{ExecutorId, QueryId, TaskId, Timestamp};
use hwacha_scheduler_core::{Config, Event, Machine};

use crate::host::{Command, Host};
use crate::past::Past;
use crate::query::QueryRun;
use crate::rng::Rng;
use crate::sights::Sights;
use crate::transcript::Transcript;
use crate::workload::{Commands, FAULTS_UNTIL_MS, Fault, Workload, millis};

/// An item of the queue. It happens when the clock reaches its time.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// The machine gets this event.
    Tell(Event),
    /// A report on its way to the scheduler, which acknowledges it.
    Report {
        executor: ExecutorId,
        number: u64,
        event: Event,
    },
    Acknowledge {
        executor: ExecutorId,
        number: u64,
    },
    Command {
        executor: ExecutorId,
        connection: u64,
        command: Command,
    },
    /// The first message of a new connection.
    Attach {
        executor: ExecutorId,
        connection: u64,
        known: Vec<TaskId>,
    },
    /// The scheduler notices that a connection has ended.
    Detach {
        executor: ExecutorId,
        connection: u64,
    },
    /// A process starts on the host.
    Spawn {
        host: usize,
    },
    /// The executor opens a new connection.
    Connect {
        executor: ExecutorId,
    },
    /// The executor's timer: heartbeat, unacknowledged reports.
    Beat {
        executor: ExecutorId,
    },
    /// An attempt continues.
    Step {
        executor: ExecutorId,
        attempt: TaskId,
    },
    /// The reader of a query's result looks for rows again.
    Read {
        query: QueryId,
    },
    Submit {
        query: QueryId,
    },
    Fault(Fault),
}

/// All state of one simulation.
pub(crate) struct World {
    pub rng: Rng,
    pub now: Timestamp,
    /// How far the scheduler's clock has jumped ahead.
    pub jumped: Duration,
    pub machine: Machine,
    pub config: Config,
    pub past: Past,
    pub commands: Commands,
    pub hosts: Vec<Host>,
    /// The connection that the scheduler has to each executor.
    pub attached: BTreeMap<ExecutorId, u64>,
    pub queries: BTreeMap<QueryId, QueryRun>,
    pub bad_network_until: Timestamp,
    pub next_connection: u64,
    /// Time at which an executor was last usable, by the scheduler's clock.
    pub last_usable: Timestamp,
    pub evicted: u64,
    pub sights: Sights,
    pub transcript: Transcript,
    pub violation: Option<String>,
    pub queue: BTreeMap<(Timestamp, u64), Item>,
    next_item: u64,
    last_told: Timestamp,
}

impl World {
    pub(crate) fn new(seed: u64, transcript: Transcript) -> Self {
        let mut rng = Rng::new(seed);
        let workload = Workload::draw(&mut rng);
        let mut world = Self {
            rng,
            now: Timestamp::default(),
            jumped: Duration::ZERO,
            machine: Machine::new(workload.config.clone()),
            config: workload.config,
            past: Past::default(),
            commands: workload.commands,
            hosts: workload.hosts.iter().map(|slots| Host::new(*slots)).collect(),
            attached: BTreeMap::new(),
            queries: BTreeMap::new(),
            bad_network_until: Timestamp::default(),
            next_connection: 1,
            last_usable: Timestamp::default(),
            evicted: 0,
            sights: Sights::default(),
            transcript,
            violation: None,
            queue: BTreeMap::new(),
            next_item: 0,
            last_told: Timestamp::default(),
        };
        for host in 0..world.hosts.len() {
            world.after(Duration::from_millis(host as u64), Item::Spawn { host });
        }
        for (id, plan) in workload.queries {
            world.at(plan.submitted, Item::Submit { query: id });
            world.queries.insert(id, QueryRun::new(plan));
        }
        for (at, fault) in workload.faults {
            world.at(at, Item::Fault(fault));
        }
        world
    }

    pub(crate) fn at(&mut self, time: Timestamp, item: Item) {
        self.next_item += 1;
        self.queue.insert((time, self.next_item), item);
    }

    pub(crate) fn after(&mut self, delay: Duration, item: Item) {
        self.at(self.now + delay, item);
    }

    /// Passes an event from within the scheduler's process to the machine: in order, and without loss.
    pub(crate) fn tell_soon(&mut self, event: Event) {
        self.last_told = (self.now + self.rng.millis(0, 20)).max(self.last_told);
        self.at(self.last_told, Item::Tell(event));
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.now < millis(FAULTS_UNTIL_MS)
    }

    /// Transit time of a message; `None` if the message is lost.
    pub(crate) fn transit(&mut self) -> Option<Duration> {
        let faulty = self.is_faulty();
        if faulty && self.rng.percent(8) {
            return None;
        }
        Some(if faulty && self.rng.percent(5) { self.rng.millis(200, 1_500) } else { self.rng.millis(1, 30) })
    }
}
