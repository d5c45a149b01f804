//! The invariants that hold after every event. Tests and the simulation check them each time.

use std::collections::{BTreeMap, BTreeSet};

use hwacha_model::{Determinism, ExecutorId, QueryId, Reading, StageId, TaskId, TaskIndex};

use crate::executor::Executor;
use crate::machine::Machine;
use crate::query::{Attempt, Query, QueryState, StageTasks};
use crate::repair::needed;

/// Fails with a text that describes the first broken invariant.
pub fn check(machine: &Machine) -> Result<(), String> {
    for (id, executor) in &machine.executors {
        slots(machine, *id, executor)?;
        deadline(machine, *id, executor)?;
    }
    for (id, query) in &machine.queries {
        queues(machine, *id, query)?;
        if query.state == QueryState::Running {
            attempts(machine, query)?;
            pending(query)?;
            one_version(query)?;
        }
    }
    Ok(())
}

/// No slot is lent twice, and none to an attempt that does not count.
fn slots(machine: &Machine, id: ExecutorId, executor: &Executor) -> Result<(), String> {
    if executor.used_slots() > executor.slots {
        return Err(format!("executor {id} lends {} slots and has {}", executor.used_slots(), executor.slots));
    }
    if let Some(attempt) = executor.parked.difference(&executor.live).next() {
        return Err(format!("executor {id} has parked {attempt}, which does not run"));
    }
    for attempt in executor.live.iter().chain(&executor.finished) {
        let current = machine.queries.get(&attempt.query).and_then(|query| query.current(*attempt));
        let Some(current) = current else {
            return Err(format!("executor {id} holds {attempt}, which does not count"));
        };
        if current.executor != id || current.is_live() != executor.live.contains(attempt) {
            return Err(format!("executor {id} holds {attempt}, which is elsewhere or in another state"));
        }
    }
    Ok(())
}

fn deadline(machine: &Machine, id: ExecutorId, executor: &Executor) -> Result<(), String> {
    let deadline = executor.loss_deadline(&machine.config);
    if !machine.loss_deadlines.contains(&(deadline, id)) || machine.loss_deadlines.len() != machine.executors.len() {
        return Err(format!("executor {id} is not watched until {deadline}"));
    }
    Ok(())
}

fn queues(machine: &Machine, id: QueryId, query: &Query) -> Result<(), String> {
    if machine.stalled.iter().any(|id| machine.queries.get(id).is_none_or(|query| query.state == QueryState::Queued)) {
        return Err(format!("of the stalled queries {:?} one does not run", machine.stalled));
    }
    let queued = machine.queue.contains(&id);
    if queued != (query.state == QueryState::Queued) {
        return Err(format!("query {id} is {:?} and in the queue: {queued}", query.state));
    }
    if !query.pending.is_empty() && !machine.unplaced.contains(&id) {
        return Err(format!("query {id} has pending tasks that nobody places"));
    }
    Ok(())
}

fn attempts(machine: &Machine, query: &Query) -> Result<(), String> {
    for (id, _) in query.graph().iter() {
        let stage = query.stage(id);
        let finished = stage.attempts().filter(|attempt| !attempt.is_live()).count();
        let all_placed = stage.attempts().count() == stage.tasks.len();
        if stage.is_placed() != all_placed || stage.is_finished() != (finished == stage.tasks.len()) {
            return Err(format!("stage {id} counts its attempts wrongly"));
        }
        for attempt in stage.attempts() {
            shares(stage, attempt)?;
            placed(machine, query, attempt)?;
            bindings(query, attempt)?;
        }
    }
    Ok(())
}

/// All attempts of a stage share its work in the same way.
fn shares(stage: &StageTasks, attempt: &Attempt) -> Result<(), String> {
    let assignment = &attempt.assignment;
    let unusual = assignment.inputs.iter().filter(|input| input.reading != Reading::Share);
    let alike = assignment.tasks as usize == stage.tasks.len()
        && assignment.unhashed == stage.unhashed
        && unusual.map(|input| (&input.stage, &input.reading)).eq(&stage.readings);
    if alike { Ok(()) } else { Err(format!("{} shares the work of its stage otherwise than others", attempt.id())) }
}

/// An attempt that counts is on an executor that is not lost, unless it has finished and the client has read all its
/// rows.
fn placed(machine: &Machine, query: &Query, attempt: &Attempt) -> Result<(), String> {
    let id = attempt.id();
    match machine.executors.get(&attempt.executor) {
        Some(executor) if attempt.is_live() && !executor.live.contains(&id) => {
            Err(format!("{id} is live without a slot"))
        }
        Some(executor) if !attempt.is_live() && !executor.finished.contains(&id) => {
            Err(format!("the output of {id} is not accounted for"))
        }
        None if attempt.is_live() => Err(format!("{id} is live on a lost executor")),
        None if !query.reading(id).is_at_end() => Err(format!("the output of {id} was lost and counts")),
        Some(_) | None => Ok(()),
    }
}

/// A live attempt reads each producer task once, from the attempt that counts or from one that it has read whole.
fn bindings(query: &Query, attempt: &Attempt) -> Result<(), String> {
    if !attempt.is_live() || query.reading(attempt.id()).is_at_end() {
        return Ok(());
    }
    for input in &attempt.assignment.inputs {
        let tasks: BTreeSet<_> = input.producers.iter().map(|producer| producer.attempt.task).collect();
        if tasks.len() != input.producers.len() || tasks.len() != query.stage(input.stage).tasks.len() {
            return Err(format!("{} does not read each task of stage {} once", attempt.id(), input.stage));
        }
        for producer in &input.producers {
            if query.current(producer.attempt).is_none() && !attempt.read.contains(&producer.attempt) {
                return Err(format!("{} reads {}, which does not count", attempt.id(), producer.attempt));
            }
        }
    }
    Ok(())
}

/// The pending tasks are exactly the tasks that have no attempt and whose output is needed.
fn pending(query: &Query) -> Result<(), String> {
    let needed = needed(query, &BTreeSet::new());
    if needed != query.pending {
        return Err(format!("pending are {:?}, and should be {needed:?}", query.pending));
    }
    Ok(())
}

/// If attempts of a task may differ in their rows, all readers read the same attempt.
fn one_version(query: &Query) -> Result<(), String> {
    let varies = |stage: StageId| query.graph().stage(stage).determinism == Determinism::Varying;
    let mut read: BTreeMap<(StageId, TaskIndex), TaskId> = BTreeMap::new();
    for attempt in query.attempts() {
        let varying = attempt.assignment.inputs.iter().filter(|input| varies(input.stage));
        for producer in varying.flat_map(|input| &input.producers) {
            let id = producer.attempt;
            let other = *read.entry((id.stage, id.task)).or_insert(id);
            if other != id {
                return Err(format!("{} reads {id}, and another attempt reads {other}", attempt.id()));
            }
        }
    }
    Ok(())
}
