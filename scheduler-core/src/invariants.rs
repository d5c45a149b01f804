//! What holds after every event, whatever happened. Tests and the simulation check it each time.

use std::collections::BTreeSet;

use crate::machine::Machine;
use crate::query::{Attempt, Query, QueryState};

/// Says which invariant is broken, if one is.
pub fn check(machine: &Machine) -> Result<(), String> {
    slots(machine)?;
    for (id, query) in &machine.queries {
        queues(machine, *id, query)?;
        if query.state == QueryState::Running {
            for attempt in query.attempts() {
                placed(machine, attempt)?;
                bindings(query, attempt)?;
            }
            pending(query)?;
        }
    }
    Ok(())
}

/// No slot is lent twice, and none to an attempt that does not count.
fn slots(machine: &Machine) -> Result<(), String> {
    for (id, executor) in &machine.executors {
        if executor.live.len() > executor.slots as usize {
            return Err(format!("executor {id} lends {} slots and has {}", executor.live.len(), executor.slots));
        }
        for attempt in executor.live.union(&executor.finished) {
            let current = machine.queries.get(&attempt.query).and_then(|query| query.current(*attempt));
            let Some(current) = current else {
                return Err(format!("executor {id} holds {attempt}, which does not count"));
            };
            if current.executor != *id || current.is_live() != executor.live.contains(attempt) {
                return Err(format!("executor {id} holds {attempt}, which is elsewhere or in another state"));
            }
        }
    }
    Ok(())
}

fn queues(machine: &Machine, id: hwacha_model::QueryId, query: &Query) -> Result<(), String> {
    let queued = machine.queue.contains(&id);
    if queued != (query.state == QueryState::Queued) {
        return Err(format!("query {id} is {:?} and in the queue: {queued}", query.state));
    }
    if !query.pending.is_empty() && !machine.unplaced.contains(&id) {
        return Err(format!("query {id} has pending tasks that nobody places"));
    }
    Ok(())
}

/// A live attempt is on an executor that is there.
fn placed(machine: &Machine, attempt: &Attempt) -> Result<(), String> {
    match machine.executors.get(&attempt.executor) {
        Some(executor) if attempt.is_live() && !executor.live.contains(&attempt.id()) => {
            Err(format!("{} is live without a slot", attempt.id()))
        }
        None if attempt.is_live() => Err(format!("{} is live on a lost executor", attempt.id())),
        _ => Ok(()),
    }
}

/// A live attempt reads each producer task once, from the attempt that counts or from one that it has read whole.
fn bindings(query: &Query, attempt: &Attempt) -> Result<(), String> {
    if !attempt.is_live() {
        return Ok(());
    }
    for input in &attempt.assignment.inputs {
        let tasks: BTreeSet<_> = input.producers.iter().map(|producer| producer.attempt.task).collect();
        if tasks.len() != input.producers.len() || tasks.len() != query.stage_tasks(input.stage).len() {
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

/// Everything that something needs either has an attempt or is pending.
fn pending(query: &Query) -> Result<(), String> {
    let mut found = query.clone();
    found.find_pending();
    if found.pending != query.pending {
        return Err(format!("pending are {:?}, and should be {:?}", query.pending, found.pending));
    }
    Ok(())
}
