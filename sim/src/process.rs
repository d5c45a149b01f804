//! Executor processes on hosts: they start, hang, reconnect and die.

use std::collections::BTreeSet;
use std::time::Duration;

use hwacha_model::{ExecutorId, TaskId};
use hwacha_scheduler_core::Event;

use crate::host::{Command, Process};
use crate::workload::Commands;
use crate::world::{Item, World};

impl World {
    pub(crate) fn host_of(&self, executor: ExecutorId) -> Option<usize> {
        self.hosts.iter().position(|host| host.process.as_ref().is_some_and(|process| process.id == executor))
    }

    pub(crate) fn process(&self, executor: ExecutorId) -> Option<&Process> {
        self.hosts.iter().filter_map(|host| host.process.as_ref()).find(|process| process.id == executor)
    }

    pub(crate) fn process_mut(&mut self, executor: ExecutorId) -> Option<&mut Process> {
        self.hosts.iter_mut().filter_map(|host| host.process.as_mut()).find(|process| process.id == executor)
    }

    pub(crate) fn spawn(&mut self, host: usize) {
        if self.hosts[host].process.is_some() {
            return;
        }
        let executor = ExecutorId(self.rng.between(1_000, 9_999_999));
        self.hosts[host].process = Some(Process::new(executor));
        self.connect(executor);
        self.after(Duration::from_secs(1), Item::Beat { executor });
    }

    /// Postpones an item until the executor no longer hangs. Returns whether the executor hangs.
    pub(crate) fn put_off(&mut self, executor: ExecutorId, item: impl FnOnce() -> Item) -> bool {
        let Some(until) = self.process(executor).map(|process| process.hung_until) else { return false };
        let hangs = self.now < until;
        if hangs {
            self.at(until, item());
        }
        hangs
    }

    pub(crate) fn connect(&mut self, executor: ExecutorId) {
        if self.put_off(executor, || Item::Connect { executor }) {
            return;
        }
        let connection = self.next_connection;
        let delay = self.rng.millis(1, 50);
        let Some(process) = self.process_mut(executor) else { return };
        if process.connection.is_some() {
            return;
        }
        process.connection = Some(connection);
        // An executor that attaches also names the outputs that it holds, so the scheduler can repeat a missed release.
        let known = process.known().into_iter().chain(process.outputs.keys().copied()).collect::<BTreeSet<_>>();
        self.next_connection += 1;
        self.after(delay, Item::Attach { executor, connection, known: known.into_iter().collect() });
    }

    pub(crate) fn attach(&mut self, executor: ExecutorId, connection: u64, known: Vec<TaskId>) {
        let Some(host) = self.host_of(executor) else { return };
        if self.process(executor).is_some_and(|process| process.connection != Some(connection)) {
            return;
        }
        self.attached.insert(executor, connection);
        let slots = self.hosts[host].slots;
        // Every other host has a cache, which outlives the executor's process.
        let cache = (host % 2 == 0).then_some(host as u64);
        self.tell(Event::ExecutorJoined { executor, slots, cache, known });
    }

    pub(crate) fn detach(&mut self, executor: ExecutorId, connection: u64) {
        if self.attached.get(&executor) == Some(&connection) {
            self.attached.remove(&executor);
            self.tell(Event::ExecutorDisconnected { executor });
        }
    }

    pub(crate) fn beat(&mut self, executor: ExecutorId) {
        if self.put_off(executor, || Item::Beat { executor }) {
            return;
        }
        let Some(process) = self.process(executor) else { return };
        if process.connection.is_some() {
            let known = process.known().into_iter().collect();
            let again: Vec<_> = process.unacknowledged.iter().map(|(number, event)| (*number, event.clone())).collect();
            let may_leave = process.draining && process.runs.is_empty() && again.is_empty();
            if let Some(delay) = self.transit() {
                let blocked_slots = self.blocked_slots(executor);
                self.after(delay, Item::Tell(Event::Heartbeat { executor, known, blocked_slots }));
            }
            for (number, event) in again {
                self.send_report(executor, number, event);
            }
            if may_leave && self.rng.percent(40) {
                let host = self.host_of(executor).expect("the process is there");
                let back_after = self.rng.millis(100, 3_000);
                return self.crash(host, back_after, false);
            }
        }
        self.after(Duration::from_secs(1), Item::Beat { executor });
    }

    /// The number of blocked slots, for a heartbeat. While there are faults, 2 % of the heartbeats block between one
    /// and all slots for 1 to 40 s.
    fn blocked_slots(&mut self, executor: ExecutorId) -> u32 {
        let slots = self.hosts[self.host_of(executor).expect("the process is there")].slots;
        let begins = self.is_faulty() && self.rng.percent(2);
        let blocked = (self.rng.between(1, u64::from(slots)) as u32, self.now + self.rng.millis(1_000, 40_000));
        let now = self.now;
        let process = self.process_mut(executor).expect("the process is there");
        if begins {
            process.blocked = blocked;
        }
        let (slots, until) = process.blocked;
        if now < until { slots } else { 0 }
    }

    /// Sends a report. Each `beat` sends it again until it is acknowledged.
    pub(crate) fn report(&mut self, executor: ExecutorId, event: Event) {
        let Some(process) = self.process_mut(executor) else { return };
        let number = process.next_report;
        process.next_report += 1;
        process.unacknowledged.insert(number, event.clone());
        self.send_report(executor, number, event);
    }

    fn send_report(&mut self, executor: ExecutorId, number: u64, event: Event) {
        if self.process(executor).is_none_or(|process| process.connection.is_none()) {
            return;
        }
        if let Some(delay) = self.transit() {
            self.after(delay, Item::Report { executor, number, event: event.clone() });
        }
        if self.is_faulty()
            && self.rng.percent(5)
            && let Some(delay) = self.transit()
        {
            self.after(delay, Item::Report { executor, number, event });
        }
    }

    pub(crate) fn acknowledged(&mut self, executor: ExecutorId, number: u64) {
        if let Some(process) = self.process_mut(executor) {
            process.unacknowledged.remove(&number);
        }
    }

    /// Sends a command over the scheduler's connection to the executor, if there is one.
    pub(crate) fn command(&mut self, executor: ExecutorId, command: Command) {
        let Some(connection) = self.attached.get(&executor).copied() else { return };
        if self.commands == Commands::Scattered && self.is_faulty() {
            for _ in 0..self.rng.between(0, 5).clamp(1, 2) {
                if let Some(delay) = self.transit() {
                    self.after(delay, Item::Command { executor, connection, command: command.clone() });
                }
            }
            return;
        }
        let arrives = self.now + self.rng.millis(1, 30);
        let Some(process) = self.process_mut(executor) else { return };
        process.last_command = process.last_command.max(arrives);
        let arrives = process.last_command;
        self.at(arrives, Item::Command { executor, connection, command });
    }

    pub(crate) fn commanded(&mut self, executor: ExecutorId, connection: u64, command: Command) {
        let in_order = self.commands == Commands::InOrder;
        let Some(process) = self.process(executor) else { return };
        if in_order && process.connection != Some(connection) {
            return;
        }
        if self.put_off(executor, || Item::Command { executor, connection, command: command.clone() }) {
            return;
        }
        let process = self.process_mut(executor).expect("the process is there");
        match command {
            Command::Launch(assignment) => self.begin(executor, assignment),
            Command::Abort(attempt) => {
                process.forget(|found| *found == attempt);
                if in_order {
                    process.refused.insert(attempt);
                }
            }
            Command::Release(query) => {
                process.forget(|found| found.query == query);
                process.released.insert(query);
            }
            Command::Evicted => {
                let host = self.host_of(executor).expect("the process is there");
                let back_after = self.rng.millis(200, 2_000);
                self.crash(host, back_after, false);
            }
        }
    }

    pub(crate) fn crash(&mut self, host: usize, back_after: Duration, silent: bool) {
        let Some(process) = self.hosts[host].process.take() else { return };
        if let Some(connection) = process.connection.filter(|_| !silent) {
            let delay = self.rng.millis(1, 50);
            self.after(delay, Item::Detach { executor: process.id, connection });
        }
        self.after(back_after, Item::Spawn { host });
    }

    pub(crate) fn break_connection(&mut self, host: usize, back_after: Duration, noticed_after: Duration) {
        let Some(process) = &mut self.hosts[host].process else { return };
        let executor = process.id;
        if let Some(connection) = process.connection.take() {
            self.after(noticed_after, Item::Detach { executor, connection });
            self.after(back_after, Item::Connect { executor });
        }
    }

    pub(crate) fn drain(&mut self, host: usize) {
        let Some(process) = &mut self.hosts[host].process else { return };
        process.draining = true;
        let executor = process.id;
        self.report(executor, Event::ExecutorDraining { executor });
    }
}
