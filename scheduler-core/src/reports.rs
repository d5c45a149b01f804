//! The reports of executors and result readers. Late and repeated reports, and reports about attempts that no longer
//! count, are ignored. The exception is `ResultBegun`, because delivered rows cannot be taken back.

use hwacha_model::{ExecutorId, Failure, FailureKind, QueryId, TaskId, TaskStats};

use crate::machine::Machine;
use crate::query::{Attempt, AttemptState, QueryState};
use crate::retry::{Remedies, Verdict, after_exchange_loss, judge};

impl Machine {
    /// The attempt, if it counts and runs on that executor.
    fn reported(&mut self, executor: ExecutorId, id: TaskId) -> Option<&mut Attempt> {
        let attempt = self.queries.get_mut(&id.query)?.current_mut(id)?;
        (attempt.executor == executor).then_some(attempt)
    }

    pub(crate) fn started(&mut self, executor: ExecutorId, id: TaskId) {
        let Some(attempt) = self.reported(executor, id) else { return };
        attempt.missing = None;
        if attempt.state == AttemptState::Assigned {
            attempt.state = AttemptState::Running;
        }
    }

    pub(crate) fn input_read(&mut self, executor: ExecutorId, id: TaskId, producer: TaskId) {
        if let Some(attempt) = self.reported(executor, id)
            && attempt.is_bound_to(producer)
        {
            attempt.read.insert(producer);
        }
    }

    pub(crate) fn finished(&mut self, executor: ExecutorId, id: TaskId, stats: TaskStats) {
        if let Some(attempt) = self.reported(executor, id).filter(|attempt| attempt.is_live()) {
            attempt.stats = stats;
            self.finish(id);
        }
    }

    pub(crate) fn failed(&mut self, executor: ExecutorId, id: TaskId, failure: Failure) {
        if self.reported(executor, id).is_none_or(|attempt| !attempt.is_live()) {
            return;
        }
        let query = &self.queries[&id.query];
        if query.reading(id).is_at_end() {
            // The client has every row of the task, so a later failure changes nothing.
            return self.finish(id);
        }
        let remedies = Remedies {
            waves: query.graph().stage(id.stage).wavable,
            plan_anew: query.replannable && query.is_unread(),
        };
        let record = query.task(id.stage, id.task).expect("attempts belong to tasks").record;
        match judge(&failure.kind, record, remedies, &self.config) {
            Verdict::GiveUp => self.end(id.query, Err(failure)),
            Verdict::WithProducer(producer) => self.exchange_lost(id, producer),
            Verdict::PlanAnew => self.plan_anew(id.query, failure.kind),
            Verdict::Again { record, elsewhere } => {
                let query = self.queries.get_mut(&id.query).expect("the attempt counts");
                let task = query.task_mut(id.stage, id.task).expect("attempts belong to tasks");
                task.record = record;
                task.avoid = elsewhere.then_some(executor);
                self.lose(id.query, &[id], &format!("task {id} failed ({failure})"));
            }
        }
    }

    /// Runs the reader again without blaming it, and the producer too if its attempt still counts.
    fn exchange_lost(&mut self, reader: TaskId, producer: TaskId) {
        let query = &self.queries[&reader.query];
        let is_bound = query.current(reader).is_some_and(|attempt| attempt.is_bound_to(producer));
        let why = format!("task {reader} could not read the output of task {producer}");
        if !is_bound || query.current(producer).is_none() {
            return self.lose(reader.query, &[reader], &why);
        }
        if self.count_exchange_loss(producer) {
            return self.lose(reader.query, &[producer, reader], &why);
        }
        let text = format!("{why}, nor that of the attempts before it; check the network between executors");
        self.end(reader.query, Err(Failure::new(FailureKind::Unavailable, text)));
    }

    /// Counts an unreadable output of `producer`, whose attempt counts, and suspects its executor. Returns whether
    /// the producer may run again. Its next attempt goes to another executor if there is one.
    fn count_exchange_loss(&mut self, producer: TaskId) -> bool {
        let query = self.queries.get_mut(&producer.query).expect("the attempt counts");
        let executor = query.current(producer).expect("the attempt counts").executor;
        let task = query.task_mut(producer.stage, producer.task).expect("attempts belong to tasks");
        let Some(record) = after_exchange_loss(task.record) else { return false };
        task.record = record;
        task.avoid = Some(executor);
        self.executor_unreadable(executor);
        true
    }

    pub(crate) fn result_begun(&mut self, id: TaskId) {
        let Some(query) = self.queries.get_mut(&id.query) else { return };
        let goes_on = query.is_of_plan(id) && query.is_repeatable(id.stage);
        if query.has_given_up(id) && !goes_on {
            // The reader delivered rows while the machine gave up the attempt. These rows cannot be taken back.
            let text = format!(
                "part of the result had already been delivered when task {id} was lost; the query may be submitted again"
            );
            return self.end(id.query, Err(Failure::new(FailureKind::Unavailable, text)));
        }
        if query.is_root(id.stage)
            && let Some(task) = query.task_mut(id.stage, id.task)
        {
            task.reading = task.reading.begun();
        }
    }

    /// The root attempts hold no slot from now on, and the query no longer counts as running. So a client that stops
    /// reading does not block other queries.
    pub(crate) fn result_stalled(&mut self, id: QueryId) {
        let Some(query) = self.queries.get(&id).filter(|query| query.state == QueryState::Running) else { return };
        if !self.stalled.contains(&id) && self.stalled.len() >= self.config.max_stalled {
            return;
        }
        self.stalled.insert(id);
        for attempt in query.stage(query.graph().root()).attempts().filter(|attempt| attempt.is_live()) {
            if let Some(executor) = self.executors.get_mut(&attempt.executor) {
                executor.parked.insert(attempt.id());
            }
        }
        self.placement_due = true;
    }

    pub(crate) fn result_read(&mut self, id: TaskId) {
        let Some(query) = self.queries.get_mut(&id.query).filter(|query| query.is_root(id.stage)) else { return };
        // If the attempt no longer counts, there are two cases. Either no row of it was delivered, and the reader
        // starts again with the next attempt. Or `ResultBegun` has reported the delivery.
        if query.current(id).is_some()
            && let Some(task) = query.task_mut(id.stage, id.task)
        {
            task.reading = task.reading.ended();
            self.touched.insert(id.query);
        }
    }

    pub(crate) fn result_lost(&mut self, id: TaskId) {
        let Some(query) = self.queries.get(&id.query) else { return };
        if !query.is_root(id.stage) || query.current(id).is_none() || query.reading(id).is_at_end() {
            return;
        }
        let why = format!("the output of task {id} could not be read");
        if self.count_exchange_loss(id) {
            return self.lose(id.query, &[id], &why);
        }
        let text = format!("{why}, nor that of the attempts before it; check the network to the executors");
        self.end(id.query, Err(Failure::new(FailureKind::Unavailable, text)));
    }
}
