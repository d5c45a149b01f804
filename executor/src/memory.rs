//! The memory that queries really hold, and the reaction when it exceeds the limit.
//!
//! DataFusion's memory pool adds up the bytes that operators reserve. No reservation covers strings that expressions
//! make, rows that wait between operators, or states of aggregates such as `array_agg`. So the process could hold
//! several times its limit, and the kernel would kill it with all its queries. So the bytes that the allocator counts
//! decide about each request:
//!
//! ```text
//!   held + request <= limit   the pool decides
//!   held + request > limit    refused to operators that can spill and hold memory already: they spill
//!   held > limit + 5 %        the query that holds most is stopped
//! ```
//!
//! Memory that a poll of a task allocates counts for the query of the task. Polls of tasks that DataFusion spawns
//! within such a poll count for the same query. In a process whose allocator does not count, as in unit tests, the
//! held bytes are 0, and the pool alone decides.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use futures::FutureExt;
use futures::future::BoxFuture;
use hwacha_execution::counted_memory::{net_bytes, process_bytes};
use hwacha_execution::stop::until_stopped;

/// Percent by which the process may exceed the limit before a query is stopped (5).
const TOLERANCE_PERCENT: usize = 5;

/// Bytes that the tasks of one query hold in this process.
#[derive(Debug, Default)]
pub(crate) struct QueryMemory(AtomicI64);

/// The work of one attempt: the memory counter of its query, the number of threads that poll it, and whether it was
/// stopped.
#[derive(Debug, Default)]
pub(crate) struct Work {
    memory: Arc<QueryMemory>,
    threads: AtomicUsize,
    is_stopped: Arc<AtomicBool>,
}

thread_local! {
    /// The work that this thread does now.
    static CURRENT: RefCell<Option<Arc<Work>>> = const { RefCell::new(None) };
}

impl QueryMemory {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(0) as usize
    }

    /// Adds bytes that a thread of other work allocated for the query, or freed (negative). Example: the thread that
    /// sends the query's rows frees them.
    pub(crate) fn add(&self, bytes: i64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Work {
    pub(crate) fn new(memory: Arc<QueryMemory>) -> Arc<Self> {
        Arc::new(Self { memory, ..Self::default() })
    }

    pub(crate) fn memory(&self) -> &Arc<QueryMemory> {
        &self.memory
    }

    /// How many threads of the CPU runtime poll the attempt now.
    pub(crate) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// Tells slow functions to end within their batch.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Runs a piece of this work on the current thread. Its memory is counted, and slow functions end early once the
    /// work is stopped.
    pub(crate) fn run<T>(self: &Arc<Self>, piece: impl FnOnce() -> T) -> T {
        if CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| Arc::ptr_eq(current, self))) {
            return piece();
        }
        let outer = CURRENT.replace(Some(Arc::clone(self)));
        // Counts when it is dropped, also after a panic.
        let _counting = Counting { work: Arc::clone(self), outer, before: net_bytes() };
        until_stopped(&self.is_stopped, piece)
    }
}

struct Counting {
    work: Arc<Work>,
    outer: Option<Arc<Work>>,
    before: i64,
}

impl Drop for Counting {
    fn drop(&mut self) {
        let held = net_bytes() - self.before;
        self.work.memory.add(held);
        if let Some(outer) = &self.outer {
            // The outer work will count the same bytes when it ends, so they are subtracted here.
            outer.memory.add(-held);
        }
        CURRENT.set(self.outer.take());
    }
}

/// Counts one thread, for as long as it polls.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(threads: &'a AtomicUsize) -> Self {
        threads.fetch_add(1, Ordering::Relaxed);
        Self(threads)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A future whose polls are pieces of an attempt's work.
pub(crate) struct Counted<T> {
    /// `None` once it is dropped.
    future: Option<BoxFuture<'static, T>>,
    work: Arc<Work>,
}

impl<T> Counted<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static, work: Arc<Work>) -> Self {
        Self { future: Some(future.boxed()), work }
    }
}

/// Tokio drops an aborted future outside of a poll; the memory that this frees is counted too.
impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        let future = self.future.take();
        self.work.run(|| drop(future));
    }
}

impl<T> Future for Counted<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let work = Arc::clone(&self.work);
        let _busy = Busy::new(&work.threads);
        work.run(|| self.future.as_mut().expect("it is there until it is dropped").poll_unpin(context))
    }
}

/// Counts the tasks that DataFusion spawns, for the query of the spawning task.
struct Spawned;

impl JoinSetTracer for Spawned {
    fn trace_future(&self, work: BoxFuture<'static, Box<dyn Any + Send>>) -> BoxFuture<'static, Box<dyn Any + Send>> {
        match CURRENT.with_borrow(Clone::clone) {
            Some(current) => Counted::new(work, current).boxed(),
            None => work,
        }
    }

    fn trace_block(
        &self,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        match CURRENT.with_borrow(Clone::clone) {
            Some(current) => Box::new(move || current.run(work)),
            None => work,
        }
    }
}

/// Runs `work` without counting its memory for the current query. For frees of memory that is not, or no longer,
/// counted for the query.
pub(crate) fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let before = net_bytes();
    let done = work();
    CURRENT.with_borrow(|current| {
        if let Some(current) = current {
            current.memory.add(before - net_bytes());
        }
    });
    done
}

/// From now on, all tasks that DataFusion spawns in this process are counted.
pub(crate) fn count_what_is_spawned() {
    // An error only means that another executor of the process has set it already.
    let _ = set_join_set_tracer(&Spawned);
}

/// The sum of the limits of all executors of the process, and the bytes that it held before the first of them
/// started.
#[derive(Debug, Default)]
struct Limits {
    base_bytes: AtomicUsize,
    total_bytes: AtomicUsize,
}

static LIMITS: Limits = Limits { base_bytes: AtomicUsize::new(0), total_bytes: AtomicUsize::new(0) };

/// One executor's part in the limit of its process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Gauge {
    own_bytes: usize,
}

impl Gauge {
    pub(crate) fn new(own_bytes: usize) -> Arc<Self> {
        if LIMITS.total_bytes.fetch_add(own_bytes, Ordering::AcqRel) == 0 {
            LIMITS.base_bytes.store(process_bytes(), Ordering::Release);
        }
        Arc::new(Self { own_bytes })
    }

    /// Bytes that all executors of the process hold.
    fn held_bytes(&self) -> usize {
        process_bytes().saturating_sub(LIMITS.base_bytes.load(Ordering::Acquire))
    }

    /// Bytes that all executors of the process may hold together.
    pub(crate) fn limit_bytes(&self) -> usize {
        LIMITS.total_bytes.load(Ordering::Acquire)
    }

    /// Whether `more_bytes` further bytes would exceed the limit.
    pub(crate) fn is_full(&self, more_bytes: usize) -> bool {
        self.held_bytes().saturating_add(more_bytes) > self.limit_bytes()
    }

    /// Whether freed memory must return to the system at once: above half of the limit, and then until three eighths
    /// are reached. Example for a limit of 8 GiB: it becomes true above 4 GiB and false at 3 GiB.
    pub(crate) fn is_short(&self, was_short: bool) -> bool {
        self.held_bytes() > self.limit_bytes() / 8 * if was_short { 3 } else { 4 }
    }

    /// The bytes that are held, if they exceed the limit by more than `TOLERANCE_PERCENT`.
    pub(crate) fn excess(&self) -> Option<usize> {
        let held = self.held_bytes();
        (held > self.limit_bytes().saturating_add(self.limit_bytes() / 100 * TOLERANCE_PERCENT)).then_some(held)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        LIMITS.total_bytes.fetch_sub(self.own_bytes, Ordering::AcqRel);
    }
}

/// A pool that refuses more memory to spillable operators while the process is at its limit, so they spill.
#[derive(Debug)]
pub(crate) struct MeasuredPool<P> {
    granted: P,
    gauge: Arc<Gauge>,
}

impl<P: MemoryPool> MeasuredPool<P> {
    pub(crate) fn new(granted: P, gauge: Arc<Gauge>) -> Self {
        Self { granted, gauge }
    }
}

impl<P: MemoryPool> MemoryPool for MeasuredPool<P> {
    fn name(&self) -> &str {
        "measured"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.granted.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.granted.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.granted.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.granted.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        // An operator that cannot spill, or holds nothing yet, is not refused: its query would fail, although another
        // one may hold most memory.
        let can_give = reservation.consumer().can_spill() && reservation.size() > 0;
        if can_give && self.gauge.is_full(additional) {
            let name = reservation.consumer().name();
            let (held, limit) = (self.gauge.held_bytes(), self.gauge.limit_bytes());
            return Err(resources_datafusion_err!(
                "{held} of {limit} bytes are in use, and {name} needs {additional} more"
            ));
        }
        self.granted.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.granted.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.granted.memory_limit()
    }
}

impl<P> Display for MeasuredPool<P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "measured({} bytes)", self.gauge.limit_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn polls_and_what_they_spawn_count_for_their_query() {
        count_what_is_spawned();
        let work = Work::new(Arc::default());
        let own = Arc::clone(&work);
        let is_own = move || CURRENT.with_borrow(|current| current.as_ref().is_some_and(|it| Arc::ptr_eq(it, &own)));
        let spawning = is_own.clone();
        let future = async move {
            let spawned = datafusion::common::runtime::SpawnedTask::spawn(async move { spawning() });
            spawned.await.expect("it ends")
        };
        assert!(Counted::new(future, Arc::clone(&work)).await);
        assert!(!is_own(), "not beyond the poll");
        let held = Counted::new(std::future::pending::<()>(), Arc::clone(&work));
        drop(held);
        let own = Arc::clone(&work);
        assert_eq!(Counted::new(async move { own.threads() }, Arc::clone(&work)).await, 1);
        assert_eq!(work.threads(), 0);
        let memory = work.memory();
        memory.add(5);
        assert_eq!(memory.bytes(), 5, "the allocator of this test does not count");
        memory.add(-7);
        assert_eq!(memory.bytes(), 0);
    }
}
