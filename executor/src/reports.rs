//! Reports to the scheduler: kept and sent again until they are acknowledged.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hwacha_model::TaskId;
use hwacha_proto::control;
use tokio::sync::Notify;

/// The reports that the scheduler has not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pending: Mutex<Pending>,
    /// Wakes the connection when a report may be unsent.
    added: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    next_number: u64,
    /// The highest report number that was sent; 0 if all reports are to be sent again.
    sent: u64,
    reports: BTreeMap<u64, control::Report>,
}

impl Reports {
    pub(crate) fn add(&self, attempt: TaskId, outcome: control::report::Outcome) {
        let mut pending = self.lock();
        pending.next_number += 1;
        let number = pending.next_number;
        pending
            .reports
            .insert(number, control::Report { number, attempt: Some(attempt.into()), outcome: Some(outcome) });
        drop(pending);
        self.added.notify_one();
    }

    /// Waits until a report may be unsent.
    pub(crate) async fn wait(&self) {
        self.added.notified().await;
    }

    /// The reports that the current connection has not sent yet. They count as sent from now on.
    pub(crate) fn take_unsent(&self) -> Vec<control::Report> {
        let mut pending = self.lock();
        let sent = pending.sent;
        pending.sent = pending.next_number;
        pending.reports.range(sent + 1..).map(|(_, report)| report.clone()).collect()
    }

    /// Marks all unacknowledged reports as unsent. Called for each new connection, and every few heartbeats.
    pub(crate) fn send_again(&self) {
        self.lock().sent = 0;
        self.added.notify_one();
    }

    pub(crate) fn acknowledge(&self, numbers: &[u64]) {
        let mut pending = self.lock();
        for number in numbers {
            pending.reports.remove(number);
        }
    }

    /// The attempts that have unacknowledged reports.
    pub(crate) fn attempts(&self) -> Vec<TaskId> {
        self.lock().reports.values().filter_map(|report| report.attempt).map(TaskId::from).collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().reports.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hwacha_model::{QueryId, StageId, TaskIndex};
    use hwacha_proto::control::Started;
    use hwacha_proto::control::report::Outcome;

    use super::*;

    fn numbers(reports: Vec<control::Report>) -> Vec<u64> {
        reports.into_iter().map(|report| report.number).collect()
    }

    #[test]
    fn reports_are_kept_until_acknowledged() {
        let attempt = TaskId { query: QueryId(1), stage: StageId(0), task: TaskIndex(0), attempt: 0 };
        let reports = Reports::default();
        reports.add(attempt, Outcome::Started(Started {}));
        reports.add(attempt, Outcome::Started(Started {}));
        assert_eq!(numbers(reports.take_unsent()), [1, 2]);
        assert!(reports.take_unsent().is_empty());
        reports.acknowledge(&[1]);
        reports.send_again();
        assert_eq!(numbers(reports.take_unsent()), [2]);
        assert_eq!(reports.attempts(), [attempt]);
    }
}
