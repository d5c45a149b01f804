//! The simulated world: a queue of things to come, and whom each of them reaches.

use std::collections::BTreeMap;
use std::time::Duration;

use hwacha_model::{ExecutorId, Failure, FailureKind, QueryId, TaskId, Timestamp};
use hwacha_scheduler_core::{Config, Event, Machine};

use crate::process::{Command, Host};
use crate::query::QueryRun;
use crate::rng::Rng;
use crate::scheduler::Past;
use crate::sights::Sights;
use crate::transcript::Transcript;
use crate::workload::{
    ALL_ENDED_BY_MS, Commands, FAULTS_UNTIL_MS, Fault, LAST_ENDED_BY_MS, LAST_QUERY, Workload, millis,
};

/// How long messages that are still under way may need after the last query has ended.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Something that happens at its time.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Reaches the machine as it is.
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
    /// An attempt goes on.
    Step {
        executor: ExecutorId,
        attempt: TaskId,
    },
    /// The reader of a query's result goes on.
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
    /// When there was a usable executor last, by the scheduler's clock.
    pub last_usable: Timestamp,
    pub evicted: u64,
    pub sights: Sights,
    pub transcript: Transcript,
    pub violation: Option<String>,
    queue: BTreeMap<(Timestamp, u64), Item>,
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

    /// Runs until every query has ended, or something is wrong.
    pub(crate) fn run(&mut self) {
        let mut quiet_since = None;
        while self.violation.is_none() {
            let Some((at, _)) = self.queue.first_key_value().map(|(key, _)| *key) else { break };
            match self.deadline().filter(|deadline| *deadline <= at) {
                Some(deadline) => {
                    self.now = self.now.max(deadline);
                    self.tell(Event::Tick);
                }
                None => {
                    let (_, item) = self.queue.pop_first().expect("the queue has a first item");
                    self.now = at;
                    self.happen(item);
                }
            }
            if self.queries.values().all(|query| query.outcome.is_some()) {
                let since = *quiet_since.get_or_insert(self.now);
                if self.now.since(since) > AFTERMATH {
                    return self.check_leaks();
                }
            } else if self.now > millis(LAST_ENDED_BY_MS) && self.queries[&LAST_QUERY].outcome.is_none() {
                self.violation = Some("the last query waits for the readers of others".to_owned());
            } else if self.now > millis(ALL_ENDED_BY_MS) {
                let open = self.queries.iter().filter(|(_, query)| query.outcome.is_none());
                let open: Vec<_> = open.map(|(id, _)| id.0).collect();
                self.violation = Some(format!("queries {open:?} have not ended"));
            }
        }
    }

    /// The machine's deadline in the world's time.
    fn deadline(&self) -> Option<Timestamp> {
        self.machine.next_deadline().map(|deadline| deadline - self.jumped)
    }

    pub(crate) fn at(&mut self, time: Timestamp, item: Item) {
        self.next_item += 1;
        self.queue.insert((time, self.next_item), item);
    }

    pub(crate) fn after(&mut self, delay: Duration, item: Item) {
        self.at(self.now + delay, item);
    }

    /// Within the scheduler's process: soon, and in order.
    pub(crate) fn tell_soon(&mut self, event: Event) {
        self.last_told = (self.now + self.rng.millis(0, 20)).max(self.last_told);
        self.at(self.last_told, Item::Tell(event));
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.now < millis(FAULTS_UNTIL_MS)
    }

    /// How long a message takes, and whether it arrives.
    pub(crate) fn transit(&mut self) -> Option<Duration> {
        let faulty = self.is_faulty();
        if faulty && self.rng.percent(8) {
            return None;
        }
        Some(if faulty && self.rng.percent(5) { self.rng.millis(200, 1_500) } else { self.rng.millis(1, 30) })
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Tell(event) => self.tell(event),
            Item::Report { executor, number, event } => self.reported(executor, number, event),
            Item::Acknowledge { executor, number } => self.acknowledged(executor, number),
            Item::Command { executor, connection, command } => self.commanded(executor, connection, command),
            Item::Attach { executor, connection, known } => self.attach(executor, connection, known),
            Item::Detach { executor, connection } => self.detach(executor, connection),
            Item::Spawn { host } => self.spawn(host),
            Item::Connect { executor } => self.connect(executor),
            Item::Beat { executor } => self.beat(executor),
            Item::Step { executor, attempt } => self.step(executor, attempt),
            Item::Read { query } => self.read_result(query),
            Item::Submit { query } => self.submit(query),
            Item::Fault(fault) => self.befall(fault),
        }
    }

    fn submit(&mut self, id: QueryId) {
        let query = &self.queries[&id];
        let (session, canceled) = (query.plan.session, query.plan.canceled);
        self.tell(Event::QuerySubmitted { query: id, session });
        if let Some(at) = canceled {
            let failure = Failure::new(FailureKind::Canceled, "the user took the query back");
            self.at(at, Item::Tell(Event::CancelRequested { query: id, failure }));
        }
    }

    fn befall(&mut self, fault: Fault) {
        self.transcript.note(self.now, || format!("fault: {fault:?}"));
        match fault {
            Fault::Crash { host, back_after, silent } => self.crash(host, back_after, silent),
            Fault::Hang { host, lasting } => {
                let until = self.now + lasting;
                if let Some(process) = &mut self.hosts[host].process {
                    process.hung_until = process.hung_until.max(until);
                }
            }
            Fault::Break { host, back_after, noticed_after } => self.break_connection(host, back_after, noticed_after),
            Fault::Drain { host } => self.drain(host),
            Fault::Jump(by) => self.jump(by),
            Fault::BadNetwork { lasting } => self.bad_network_until = self.now + lasting,
        }
    }

    /// Once queries have ended and messages have arrived, nothing of them is left on executors. Scattered commands get
    /// lost for good, so there it may be.
    fn check_leaks(&mut self) {
        if self.commands == Commands::Scattered {
            return;
        }
        for process in self.hosts.iter().filter_map(|host| host.process.as_ref()) {
            if let Some(attempt) = process.runs.keys().chain(process.outputs.keys()).next() {
                self.violation = Some(format!("executor {} still holds {attempt}", process.id));
            }
        }
    }
}
