//! What the machine knows of one executor.

use std::collections::BTreeSet;

use hwacha_model::{TaskId, Timestamp};

/// An executor that is not lost.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub slots: u32,
    /// The attempts that hold a slot.
    pub live: BTreeSet<TaskId>,
    /// The finished attempts whose output lies here.
    pub finished: BTreeSet<TaskId>,
    pub last_heard: Timestamp,
    /// Since when its connection has been broken.
    pub disconnected: Option<Timestamp>,
    pub draining: bool,
}

impl Executor {
    pub(crate) fn new(slots: u32, now: Timestamp) -> Self {
        Self {
            slots,
            live: BTreeSet::new(),
            finished: BTreeSet::new(),
            last_heard: now,
            disconnected: None,
            draining: false,
        }
    }

    /// Whether it may be given tasks.
    pub(crate) fn is_usable(&self) -> bool {
        self.disconnected.is_none() && !self.draining
    }

    pub(crate) fn free_slots(&self) -> u32 {
        self.slots.saturating_sub(self.live.len() as u32)
    }
}
