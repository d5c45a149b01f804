//! Clients: they read results, and check whether a query ended correctly.

use std::time::Duration;

use hwacha_model::{Failure, FailureKind, Producer, QueryId};
use hwacha_scheduler_core::Event;

use crate::sights::Sight;
use crate::task::Found;
use crate::world::{Item, World};

/// Number of vain looks in a row, at all producers of a result together, after which the reader reports the output as
/// lost (80). The reader looks at each unread producer every 20 to 300 ms.
const PATIENCE: u32 = 80;

/// Time after which the scheduler notices that a reader takes no rows (1 s, as in `scheduler/src/results.rs`).
const NOTICED: Duration = Duration::from_secs(1);

impl World {
    pub(crate) fn result_at(&mut self, id: QueryId, producers: Vec<Producer>) {
        let query = self.queries.get_mut(&id).expect("the query was submitted");
        if !query.source.is_empty() {
            self.sights.see(Sight::ResultMoved);
        }
        query.source = producers;
        query.in_vain = 0;
        if !std::mem::replace(&mut query.is_reading, true) {
            let delay = self.rng.millis(1, 100);
            self.after(delay, Item::Read { query: id });
        }
    }

    pub(crate) fn read_result(&mut self, id: QueryId) {
        let query = &self.queries[&id];
        if query.outcome.is_some() {
            return;
        }
        if query.stalled_until > self.now {
            let until = query.stalled_until;
            return self.at(until, Item::Read { query: id });
        }
        let unread = |producer: &&Producer| {
            let task = producer.attempt.task;
            query.done.get(&task).is_none_or(|(attempt, _)| *attempt != producer.attempt)
                && query.begun.get(&task).is_none_or(|attempt| *attempt == producer.attempt || query.is_repeatable())
        };
        for producer in query.source.iter().filter(unread).copied().collect::<Vec<_>>() {
            self.read_rows(id, producer);
        }
        self.stall(id);
        let delay = self.rng.millis(20, 300);
        self.after(delay, Item::Read { query: id });
    }

    /// Stalls the reader of a result once it has rows, if the workload says so. The scheduler is told after
    /// [`NOTICED`].
    fn stall(&mut self, id: QueryId) {
        let now = self.now;
        let query = self.queries.get_mut(&id).expect("the query was submitted");
        if query.begun.is_empty() {
            return;
        }
        let Some(lasting) = query.plan.stalls.take() else { return };
        query.stalled_until = now + lasting;
        self.sights.see(Sight::ReaderStalled);
        self.after(NOTICED, Item::Tell(Event::ResultStalled { query: id }));
    }

    fn read_rows(&mut self, id: QueryId, producer: Producer) {
        let found = self.look(producer);
        let dawdles = self.rng.percent(40);
        let is_empty = self.rng.percent(10);
        let attempt = producer.attempt;
        let query = self.queries.get_mut(&id).expect("the query was submitted");
        let begun = query.begun.get(&attempt.task).copied();
        let has_begun = begun == Some(attempt);
        let resumes = begun.is_some() && !has_begun;
        match found {
            Found::Whole(output) => {
                query.in_vain = 0;
                // The last rows may arrive later than the first.
                let ends = !dawdles;
                let hides = ends && is_empty;
                let begins = !has_begun && !hides;
                if begins {
                    query.begun.insert(attempt.task, attempt);
                }
                if ends && resumes {
                    self.sights.see(Sight::ResultResumed);
                }
                if ends {
                    query.done.insert(attempt.task, (attempt, output));
                }
                let events = [(begins, Event::ResultBegun { attempt }), (ends, Event::ResultRead { attempt })];
                events.into_iter().filter(|(happens, _)| *happens).for_each(|(_, event)| self.tell_soon(event));
            }
            Found::Begun if !has_begun && dawdles && !query.outgrows => {
                query.begun.insert(attempt.task, attempt);
                self.tell_soon(Event::ResultBegun { attempt });
            }
            Found::Begun => query.in_vain = 0,
            Found::NotYet if query.in_vain < PATIENCE => query.in_vain += 1,
            Found::NotYet | Found::Gone => self.tell_soon(Event::ResultLost { attempt }),
        }
    }

    /// Records the end of a query and checks it: a success by its rows, a failure by the faults that could cause it.
    pub(crate) fn ended(&mut self, id: QueryId, outcome: Result<(), Failure>) {
        let query = self.queries.get_mut(&id).expect("the query was submitted");
        if query.outcome.replace(outcome.clone()).is_some() {
            self.violation = Some(format!("query {id} ended twice"));
            return;
        }
        let checked = match &outcome {
            Ok(()) => query.check_answer().map(|()| Sight::QuerySucceeded),
            Err(failure) => self.excuse(id, failure),
        };
        match checked {
            Ok(sight) => self.sights.see(sight),
            Err(text) => self.violation = Some(format!("query {id} {text}")),
        }
    }

    /// Finds the fault or the trouble of the workload that explains a failure. A failure without an explanation is a
    /// violation.
    fn excuse(&self, id: QueryId, failure: &Failure) -> Result<Sight, String> {
        let query = &self.queries[&id];
        let (config, plan) = (&self.config, &query.plan);
        let says = |text: &str| failure.message.contains(text);
        let evicted = self.evicted - query.evicted_before;
        let excuses = match &failure.kind {
            FailureKind::Canceled => vec![(plan.canceled.is_some(), Sight::QueryCanceled)],
            FailureKind::UserError => {
                vec![(plan.plan_fails || query.struck("user error") > 0, Sight::QueryFailedByUser)]
            }
            FailureKind::ResourcesExhausted => vec![
                (says("too many queries"), Sight::QueryRefused),
                (query.struck("short memory") > 1, Sight::MoreWaves),
            ],
            FailureKind::Internal => vec![
                (says("likely cause") && evicted > u64::from(config.max_executor_losses), Sight::QueryBlamed),
                (query.struck("defect") > 1, Sight::RetriedAfterDefect),
            ],
            FailureKind::Unavailable => vec![
                (says("no executor") && self.is_starved(), Sight::QueryStarved),
                (says("already been delivered") && query.has_rows_for_good(), Sight::ResultPartlyDelivered),
                (says("check the network") && query.exchange_losses > 8, Sight::ExchangeLost),
                (query.struck("outage") + query.taken_back >= config.max_attempts, Sight::RetriedAfterDefect),
            ],
            FailureKind::ExecutorLost
            | FailureKind::ExchangeLost { .. }
            | FailureKind::StoreUnavailable
            | FailureKind::Outgrown => vec![],
        };
        let found = excuses.into_iter().find(|(holds, _)| *holds).map(|(_, sight)| sight);
        found.ok_or_else(|| format!("failed without a reason: {:?}: {failure}", failure.kind))
    }
}
