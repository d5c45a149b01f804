//! Lets long work within one batch end when its task has been stopped.
//!
//! A task is stopped between two batches. Functions and join conditions that may take minutes over one batch
//! (`operators/src/functions/bounded`, `operators/src/stoppable_joins.rs`) evaluate it in groups of rows, and call
//! [`check`] between two groups.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::{DataFusionError, Result};

use crate::planning_budget;

thread_local! {
    static STOPPED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Runs `work` on this thread. Within it, [`check`] fails once `stopped` is set.
pub fn until_stopped<T>(stopped: &Arc<AtomicBool>, work: impl FnOnce() -> T) -> T {
    // `Outer` restores the flag of an outer call even after a panic.
    let _outer = Outer(STOPPED.replace(Some(Arc::clone(stopped))));
    work()
}

struct Outer(Option<Arc<AtomicBool>>);

impl Drop for Outer {
    fn drop(&mut self) {
        STOPPED.set(self.0.take());
    }
}

/// Fails if this thread's task was stopped, or if the planning budget of this thread is spent.
pub fn check() -> Result<()> {
    planning_budget::check()?;
    match STOPPED.with_borrow(|stopped| stopped.as_ref().is_some_and(|stopped| stopped.load(Ordering::Relaxed))) {
        true => Err(DataFusionError::Execution("the task was stopped".to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_told_that_it_was_stopped_and_the_next_is_not() {
        let (stopped, going) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        until_stopped(&stopped, || {
            check().expect("it is wanted");
            stopped.store(true, Ordering::Relaxed);
            until_stopped(&going, || check().expect("this is other work"));
            check().expect_err("it was stopped");
        });
        check().expect("nothing is being done");
    }
}
