//! What the machine knows of one executor.

use std::collections::BTreeSet;

use hwacha_model::{QueryId, TaskId, Timestamp};

use crate::config::Config;

/// The state of an executor. Of a lost executor only the id is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorState {
    /// The executor gets tasks.
    Usable,
    /// The executor gets no tasks, for one of these reasons: its connection is broken; one of its outputs could not
    /// be read, and it has sent no heartbeat since; it did not begin a task that it was given; or stopped tasks block
    /// all its slots.
    Suspected,
    /// The executor finishes its tasks, gets no new ones, and then leaves.
    Draining,
}

/// An executor that is not lost.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub slots: u32,
    /// Identifies its cache of remote files, also after the executor has started again; `None` without a cache.
    pub cache: Option<u64>,
    /// Slots whose cores still compute attempts that were stopped.
    pub blocked_slots: u32,
    /// Number of heartbeats in a row that reported all slots as blocked.
    pub blocked_heartbeats: u32,
    /// The attempts that have not finished.
    pub live: BTreeSet<TaskId>,
    /// The attempts in `live` that hold no slot, because their client took no rows. They stay parked if the client
    /// reads again.
    pub parked: BTreeSet<TaskId>,
    /// Queries whose attempts ran here since the last heartbeat. An attempt that was taken back meanwhile counts too:
    /// it may have killed the executor.
    pub ran: BTreeSet<QueryId>,
    /// The finished attempts whose output the executor holds.
    pub finished: BTreeSet<TaskId>,
    pub last_heard: Timestamp,
    /// The time at which its connection broke; `None` while it is connected.
    pub disconnected: Option<Timestamp>,
    /// Whether a consumer could not read one of its outputs since its last heartbeat. The executor may be dead
    /// although its connection still looks open.
    pub unreadable: bool,
    pub draining: bool,
    /// The executor gets no task until this time, because it accepted a task and did not begin it, or because its
    /// cores hung.
    pub excluded_until: Option<Timestamp>,
    /// The executor is not declared lost before this time, unless it drains. Set when the machine's own process has
    /// slept.
    pub spared_until: Timestamp,
}

impl Executor {
    pub(crate) fn new(slots: u32, cache: Option<u64>, now: Timestamp) -> Self {
        Self {
            slots,
            cache,
            blocked_slots: 0,
            blocked_heartbeats: 0,
            live: BTreeSet::new(),
            parked: BTreeSet::new(),
            ran: BTreeSet::new(),
            finished: BTreeSet::new(),
            last_heard: now,
            disconnected: None,
            unreadable: false,
            draining: false,
            excluded_until: None,
            spared_until: Timestamp::default(),
        }
    }

    pub(crate) fn state(&self) -> ExecutorState {
        let is_suspected =
            self.disconnected.is_some() || self.unreadable || self.excluded_until.is_some() || self.is_blocked();
        match (is_suspected, self.draining) {
            (true, _) => ExecutorState::Suspected,
            (false, true) => ExecutorState::Draining,
            (false, false) => ExecutorState::Usable,
        }
    }

    /// Whether attempts that were stopped block all slots of the executor.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked_slots >= self.slots
    }

    /// Whether the executor may be given tasks.
    pub(crate) fn is_usable(&self) -> bool {
        self.state() == ExecutorState::Usable
    }

    pub(crate) fn heard(&mut self, now: Timestamp) {
        self.last_heard = now;
        self.ran = self.live.iter().map(|attempt| attempt.query).collect();
        self.unreadable = false;
        self.excluded_until = self.excluded_until.filter(|until| *until > now);
    }

    pub(crate) fn free_slots(&self) -> u32 {
        self.slots.saturating_sub(self.used_slots() + self.blocked_slots)
    }

    /// Notes how many slots of the executor are blocked now.
    pub(crate) fn note_blocked(&mut self, slots: u32) {
        self.blocked_slots = slots.min(self.slots);
        self.blocked_heartbeats = if self.blocked_slots == self.slots { self.blocked_heartbeats + 1 } else { 0 };
    }

    pub(crate) fn used_slots(&self) -> u32 {
        (self.live.len() - self.parked.len()) as u32
    }

    /// The time at which the executor is declared lost if it sends nothing more.
    pub(crate) fn loss_deadline(&self, config: &Config) -> Timestamp {
        let silence = self.last_heard + config.lost_after;
        let deadline = match self.disconnected {
            // A draining executor has announced that it leaves, so it gets no time to attach again.
            Some(since) if self.draining => return since,
            Some(since) => silence.min(since + config.reattach_within),
            None => silence,
        };
        deadline.max(self.spared_until)
    }

    pub(crate) fn assign(&mut self, attempt: TaskId) {
        self.live.insert(attempt);
        self.ran.insert(attempt.query);
    }

    pub(crate) fn finish(&mut self, attempt: TaskId) {
        self.live.remove(&attempt);
        self.parked.remove(&attempt);
        self.finished.insert(attempt);
    }

    pub(crate) fn forget(&mut self, attempt: TaskId) {
        self.live.remove(&attempt);
        self.parked.remove(&attempt);
        self.finished.remove(&attempt);
    }
}
