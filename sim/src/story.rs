//! One simulation from its first item to its end: takes the items from the queue and passes each to its receiver.

use std::time::Duration;

use hwacha_model::{Failure, FailureKind, QueryId, Timestamp};
use hwacha_scheduler_core::Event;

use crate::workload::{ALL_ENDED_BY_MS, Commands, Fault, LAST_ENDED_BY_MS, LAST_QUERY, millis};
use crate::world::{Item, World};

/// Simulated time after the end of the last query. All messages in transit arrive within it; then leaks are checked.
const AFTERMATH: Duration = Duration::from_secs(3);

impl World {
    /// Runs until every query has ended and [`AFTERMATH`] has passed, or until a check fails.
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

    /// Checks that executors hold nothing of the ended queries. Scattered commands may be lost for good, so leftovers
    /// are allowed with them.
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
