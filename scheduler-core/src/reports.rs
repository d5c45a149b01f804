//! What executors and result readers report. Late and repeated reports, and those of attempts that no longer count, are
//! ignored.

use hwacha_model::{ExecutorId, Failure, FailureKind, TaskId, TaskStats};

use crate::machine::Machine;
use crate::query::{Attempt, AttemptState};

/// How often the output of one task may turn out to be unreadable.
const MAX_EXCHANGE_LOSSES: u32 = 8;
/// Attempts of a task that ends in what looks like a defect.
const MAX_INTERNAL: u32 = 2;
/// How much a shortage of memory multiplies the waves of a task.
const WAVE_FACTOR: u32 = 4;

impl Machine {
    /// The attempt, if it counts and runs on that executor.
    fn reported(&mut self, executor: ExecutorId, id: TaskId) -> Option<&mut Attempt> {
        let attempt = self.queries.get_mut(&id.query)?.current_mut(id)?;
        (attempt.executor == executor).then_some(attempt)
    }

    pub(crate) fn started(&mut self, executor: ExecutorId, id: TaskId) {
        if let Some(attempt) = self.reported(executor, id)
            && attempt.state == AttemptState::Assigned
        {
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
        let Some(attempt) = self.reported(executor, id).filter(|attempt| attempt.is_live()) else { return };
        attempt.state = AttemptState::Finished;
        attempt.stats = stats;
        if let Some(executor) = self.executors.get_mut(&executor) {
            executor.live.remove(&id);
            executor.finished.insert(id);
        }
        self.touched.insert(id.query);
    }

    pub(crate) fn failed(&mut self, executor: ExecutorId, id: TaskId, failure: Failure) {
        if self.reported(executor, id).is_none_or(|attempt| !attempt.is_live()) {
            return;
        }
        match &failure.kind {
            FailureKind::UserError | FailureKind::Canceled => self.end(id.query, Err(failure)),
            FailureKind::ExecutorLost => self.lose(id.query, &[id]),
            FailureKind::ExchangeLost { producer } => self.exchange_lost(id, *producer),
            FailureKind::ResourcesExhausted => self.out_of_resources(id, failure),
            FailureKind::Unavailable => self.retry(id, failure, self.config.max_attempts),
            FailureKind::Internal => self.retry(id, failure, MAX_INTERNAL),
        }
    }

    /// Runs a task again, elsewhere if possible, unless it has failed too often.
    fn retry(&mut self, id: TaskId, failure: Failure, max_attempts: u32) {
        let Some(query) = self.queries.get_mut(&id.query) else { return };
        let Some(task) = query.task_mut(id.stage, id.task) else { return };
        task.failures += 1;
        if task.failures >= max_attempts {
            return self.end(id.query, Err(failure));
        }
        task.avoid = task.attempt.as_ref().map(|attempt| attempt.executor);
        self.lose(id.query, &[id]);
    }

    /// Cuts the task's work into more waves, where that is possible.
    fn out_of_resources(&mut self, id: TaskId, failure: Failure) {
        let max_waves = self.config.max_waves;
        let Some(query) = self.queries.get_mut(&id.query) else { return };
        let wavable = query.graph().stage(id.stage).wavable;
        let Some(task) = query.task_mut(id.stage, id.task) else { return };
        if !wavable || task.waves >= max_waves {
            return self.retry(id, failure, MAX_INTERNAL);
        }
        task.waves = (task.waves * WAVE_FACTOR).min(max_waves);
        self.lose(id.query, &[id]);
    }

    /// The reader is not to blame. The producer runs again if its attempt still counts.
    fn exchange_lost(&mut self, reader: TaskId, producer: TaskId) {
        let Some(query) = self.queries.get_mut(&reader.query) else { return };
        if query.current(producer).is_none() {
            return self.lose(reader.query, &[reader]);
        }
        let Some(task) = query.task_mut(producer.stage, producer.task) else { return };
        task.exchange_losses += 1;
        if task.exchange_losses > MAX_EXCHANGE_LOSSES {
            let text = format!(
                "task {reader} could not read the output of task {producer}, nor of the attempts before it; check the network between executors"
            );
            return self.end(reader.query, Err(Failure::new(FailureKind::Unavailable, text)));
        }
        self.lose(reader.query, &[producer, reader]);
    }

    pub(crate) fn result_begun(&mut self, id: TaskId) {
        if let Some(query) = self.queries.get_mut(&id.query)
            && query.current(id).is_some()
            && let Some(task) = query.task_mut(id.stage, id.task)
        {
            task.begun = true;
        }
    }

    pub(crate) fn result_read(&mut self, id: TaskId) {
        if let Some(query) = self.queries.get_mut(&id.query)
            && query.current(id).is_some()
            && let Some(task) = query.task_mut(id.stage, id.task)
        {
            task.begun = true;
            task.read = true;
            self.touched.insert(id.query);
        }
    }

    pub(crate) fn result_lost(&mut self, id: TaskId) {
        if self.queries.get(&id.query).is_some_and(|query| query.current(id).is_some()) {
            self.lose(id.query, &[id]);
        }
    }
}
