//! Decides what follows from a failed attempt: the task runs again, the query is planned again, or the query fails.
//! These are pure functions.

use hwacha_model::{FailureKind, TaskId};

use crate::config::Config;

/// Number of times that the output of one task may be unreadable (8). At the ninth time the query fails.
const MAX_EXCHANGE_LOSSES: u32 = 8;
/// Attempts of one task that end as `Internal` before the query fails (2). An `Internal` failure may be a defect.
const MAX_INTERNAL: u32 = 2;
/// Attempts of one task that run out of memory before the query is planned again or fails (2). Attempts that can be
/// repeated with more waves do not count.
const MAX_EXHAUSTED: u32 = 2;
/// Each time a task runs out of memory, its number of waves is multiplied by this: 1, 4, 16, 64.
const WAVE_FACTOR: u32 = 4;

/// How the attempts of a task have failed so far, and its number of waves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub waves: u32,
    pub internal: u32,
    pub exhausted: u32,
    pub unavailable: u32,
    /// How often its output could not be read.
    pub exchange_losses: u32,
}

impl Default for Record {
    fn default() -> Self {
        Self { waves: 1, internal: 0, exhausted: 0, unavailable: 0, exchange_losses: 0 }
    }
}

impl Record {
    /// Whether an attempt ran out of memory.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.waves > 1 || self.exhausted > 0
    }
}

/// What happens after an attempt has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The query ends with the failure.
    GiveUp,
    /// The task runs again with this record. If `elsewhere`, its executor may be at fault and is avoided.
    Again { record: Record, elsewhere: bool },
    /// The task runs again, and so does the producer if its attempt still counts.
    WithProducer(TaskId),
    /// The query is planned again, because it has outgrown its first plan or has run out of memory.
    PlanAnew,
}

/// What can be done for a task beside running it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remedies {
    /// The task can read its input in waves.
    pub waves: bool,
    /// The query can be planned again, and none of its rows has been delivered.
    pub plan_anew: bool,
}

/// Judges one failure of a task with that record.
pub(crate) fn judge(kind: &FailureKind, record: Record, remedies: Remedies, config: &Config) -> Verdict {
    let again = |record, count, limit| match count < limit {
        true => Verdict::Again { record, elsewhere: true },
        false => Verdict::GiveUp,
    };
    match kind {
        FailureKind::Outgrown if remedies.plan_anew => Verdict::PlanAnew,
        // Requests to a store have been tried again until their deadline.
        FailureKind::UserError | FailureKind::StoreUnavailable | FailureKind::Canceled | FailureKind::Outgrown => {
            Verdict::GiveUp
        }
        FailureKind::ExchangeLost { producer } => Verdict::WithProducer(*producer),
        FailureKind::Internal => {
            let internal = record.internal + 1;
            again(Record { internal, ..record }, internal, MAX_INTERNAL)
        }
        FailureKind::Unavailable | FailureKind::ExecutorLost => {
            let unavailable = record.unavailable + 1;
            again(Record { unavailable, ..record }, unavailable, config.max_attempts)
        }
        FailureKind::ResourcesExhausted if remedies.waves && record.waves < config.max_waves => {
            let waves = record.waves.saturating_mul(WAVE_FACTOR).min(config.max_waves);
            Verdict::Again { record: Record { waves, ..record }, elsewhere: false }
        }
        FailureKind::ResourcesExhausted => {
            let exhausted = record.exhausted + 1;
            match again(Record { exhausted, ..record }, exhausted, MAX_EXHAUSTED) {
                Verdict::GiveUp if remedies.plan_anew => Verdict::PlanAnew,
                verdict => verdict,
            }
        }
    }
}

/// The record after one more unreadable output; `None` if that was one too many.
pub(crate) fn after_exchange_loss(record: Record) -> Option<Record> {
    let exchange_losses = record.exchange_losses + 1;
    (exchange_losses <= MAX_EXCHANGE_LOSSES).then_some(Record { exchange_losses, ..record })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(kind: &FailureKind, waves: bool, plan_anew: bool) -> String {
        let mut record = Record::default();
        let mut steps = vec![];
        let verdict = loop {
            match judge(kind, record, Remedies { waves, plan_anew }, &Config::default()) {
                Verdict::Again { record: next, .. } => record = next,
                verdict => break verdict,
            }
            steps.push(record.waves.to_string());
        };
        steps.extend((verdict == Verdict::PlanAnew).then(|| "anew".to_owned()));
        steps.join(" ")
    }

    #[test]
    fn each_kind_has_its_number_of_attempts() {
        // Each number is the waves of one further attempt. "anew" means that the query is planned again.
        assert_eq!(kinds(&FailureKind::UserError, true, true), "");
        assert_eq!(kinds(&FailureKind::Canceled, true, true), "");
        assert_eq!(kinds(&FailureKind::Internal, true, true), "1");
        assert_eq!(kinds(&FailureKind::Unavailable, true, true), "1 1 1");
        assert_eq!(kinds(&FailureKind::StoreUnavailable, true, true), "");
        assert_eq!(kinds(&FailureKind::ExecutorLost, true, true), "1 1 1");
        assert_eq!(kinds(&FailureKind::Outgrown, true, true), "anew");
        assert_eq!(kinds(&FailureKind::Outgrown, true, false), "");
        assert_eq!(kinds(&FailureKind::ResourcesExhausted, false, true), "1 anew");
        assert_eq!(kinds(&FailureKind::ResourcesExhausted, false, false), "1");
        assert_eq!(kinds(&FailureKind::ResourcesExhausted, true, true), "4 16 64 64 anew");
        assert_eq!(kinds(&FailureKind::ResourcesExhausted, true, false), "4 16 64 64");
    }

    #[test]
    fn an_output_may_be_unreadable_eight_times() {
        let losses = std::iter::successors(Some(Record::default()), |record| after_exchange_loss(*record));
        assert_eq!(losses.count(), 9);
    }
}
