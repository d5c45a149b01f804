//! The memory that all outputs of an executor may take, and the disk that they spill to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use crate::memory::Gauge;

/// Outputs hold at most a quarter of the memory pool. The rest is left for operators, some of which cannot spill.
const POOL_SHARE: usize = 4;

#[derive(Debug)]
pub(crate) struct Budget {
    pool: Arc<dyn MemoryPool>,
    disk: Arc<DiskManager>,
    held_bytes: AtomicUsize,
    limit_bytes: usize,
    /// The memory of the process. Outputs get no more memory while the process is at its limit, because they can
    /// spill.
    gauge: Option<Arc<Gauge>>,
}

impl Budget {
    pub(crate) fn new(pool: Arc<dyn MemoryPool>, disk: Arc<DiskManager>, pool_bytes: usize) -> Self {
        Self { pool, disk, held_bytes: AtomicUsize::new(0), limit_bytes: pool_bytes / POOL_SHARE, gauge: None }
    }

    /// The same budget, which also refuses memory while the process is at its limit.
    pub(crate) fn measured(mut self, gauge: Arc<Gauge>) -> Self {
        self.gauge = Some(gauge);
        self
    }

    pub(crate) fn disk(&self) -> &Arc<DiskManager> {
        &self.disk
    }
}

/// The bytes of the budget that one output holds. Dropping it returns them.
#[derive(Debug)]
pub(crate) struct Held {
    reservation: MemoryReservation,
    budget: Arc<Budget>,
}

impl Held {
    pub(crate) fn nothing(budget: Arc<Budget>) -> Self {
        Self { reservation: MemoryConsumer::new("exchange").register(&budget.pool), budget }
    }

    /// Takes `bytes` more and returns true. Returns false if outputs would exceed their share, the process would
    /// exceed its limit, or the pool refuses.
    pub(crate) fn try_grow(&self, bytes: usize) -> bool {
        let held = self.budget.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let is_full = self.budget.gauge.as_ref().is_some_and(|gauge| gauge.is_full(bytes));
        let granted = held <= self.budget.limit_bytes && !is_full && self.reservation.try_grow(bytes).is_ok();
        if !granted {
            self.budget.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        granted
    }

    /// Takes `bytes` more without a check: they are in memory already, and are freed soon.
    pub(crate) fn grow(&self, bytes: usize) {
        self.budget.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.reservation.grow(bytes);
    }

    /// Returns `bytes` to the budget.
    pub(crate) fn shrink(&self, bytes: usize) {
        self.reservation.shrink(bytes);
        self.budget.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn free(&self) {
        self.budget.held_bytes.fetch_sub(self.reservation.free(), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.free();
    }
}
