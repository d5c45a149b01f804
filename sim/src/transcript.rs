//! The readable log of one simulation: times, the events that the machine gets, the faults, and the machine's actions.

use std::fmt::Write;

use hwacha_model::{Assignment, Producer, Timestamp};
use hwacha_scheduler_core::{Action, Event};

/// The text of a transcript. Nothing is written unless the transcript was made with [`Transcript::kept`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript {
    text: Option<String>,
}

impl Transcript {
    pub(crate) fn kept() -> Self {
        Self { text: Some(String::new()) }
    }

    pub(crate) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }

    pub(crate) fn note(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            writeln!(text, "{now:>10} {}", line()).expect("strings take all text");
        }
    }

    pub(crate) fn event(&mut self, now: Timestamp, event: &Event) {
        self.note(now, || told(event));
    }

    pub(crate) fn action(&mut self, now: Timestamp, action: &Action) {
        self.note(now, || format!("    -> {}", wanted(action)));
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::ExecutorJoined { executor, slots, cache, known } => {
            let cache = cache.map(|cache| format!(" and cache {cache}")).unwrap_or_default();
            format!("executor {executor} joined with {slots} slots{cache}, knowing {}", listed(known))
        }
        Event::Heartbeat { executor, known, blocked_slots } => {
            format!("executor {executor} is alive, knowing {}, {blocked_slots} slots blocked", listed(known))
        }
        Event::ExecutorDisconnected { executor } => format!("executor {executor} disconnected"),
        Event::ExecutorDraining { executor } => format!("executor {executor} drains"),
        Event::QuerySubmitted { query, session } => format!("query {query} submitted by session {session}"),
        Event::QueryPlanned { query, graph, .. } => {
            let stage = |stage: &hwacha_model::Stage| {
                let inputs: Vec<_> =
                    stage.inputs.iter().map(|input| format!("{} {:?}", input.stage, input.delivery)).collect();
                let wavable = if stage.wavable { ", wavable" } else { "" };
                let waits: String = stage.after.iter().map(|after| format!(", after {after}")).collect();
                let reads = if stage.reads.is_empty() { String::new() } else { format!(", reads {:?}", stage.reads) };
                format!("{} {:?}{wavable}{waits}{reads} <- [{}]", stage.tasks, stage.determinism, inputs.join(", "))
            };
            let stages: Vec<_> = graph.iter().map(|(id, found)| format!("{id}: {}", stage(found))).collect();
            format!("query {query} planned: {}", stages.join("; "))
        }
        Event::PlanFailed { query, failure } => format!("query {query} not planned: {failure}"),
        Event::CancelRequested { query, failure } => format!("query {query} taken back: {failure}"),
        Event::Started { executor, attempt } => format!("{attempt} started on {executor}"),
        Event::InputRead { executor, attempt, producer } => format!("{attempt} on {executor} has read {producer}"),
        Event::Finished { executor, attempt, .. } => format!("{attempt} finished on {executor}"),
        Event::Failed { executor, attempt, failure } => {
            format!("{attempt} failed on {executor}: {:?}: {failure}", failure.kind)
        }
        Event::ResultBegun { attempt } => format!("rows of {attempt} are being delivered"),
        Event::ResultStalled { query } => format!("the client of query {query} takes no rows"),
        Event::ResultRead { attempt } => format!("rows of {attempt} have been delivered"),
        Event::ResultLost { attempt } => format!("rows of {attempt} cannot be read"),
        Event::Tick => "tick".to_owned(),
    }
}

fn wanted(action: &Action) -> String {
    match action {
        Action::Plan { query, executors, anew } => {
            let anew = anew.as_ref().map(|failure| format!(" anew after {failure:?}")).unwrap_or_default();
            format!("plan query {query}{anew} for {}", listed(executors))
        }
        Action::Launch { executor, assignment } => {
            format!("launch {} on {executor}{}", assignment.attempt, inputs(assignment))
        }
        Action::Adapted { query, stage, adaptation } => format!("query {query}, stage {stage}: {adaptation}"),
        Action::Abort { executor, attempt } => format!("abort {attempt} on {executor}"),
        Action::Release { executor, query } => format!("release query {query} on {executor}"),
        Action::ResultSource { query, producers } => format!("result of query {query} at {}", located(producers)),
        Action::End { query, outcome: Ok(()) } => format!("end of query {query}: ok"),
        Action::End { query, outcome: Err(failure) } => format!("end of query {query}: {:?}: {failure}", failure.kind),
        Action::Evict { executor } => format!("evict executor {executor}"),
    }
}

fn inputs(assignment: &Assignment) -> String {
    let inputs = assignment.inputs.iter().map(|input| format!(" < {}", located(&input.producers)));
    inputs.chain((assignment.waves > 1).then(|| format!(" in {} waves", assignment.waves))).collect()
}

fn located(producers: &[Producer]) -> String {
    producers.iter().map(|producer| format!("{}@{}", producer.attempt, producer.executor)).collect::<Vec<_>>().join(" ")
}

fn listed<T: ToString>(things: &[T]) -> String {
    if things.is_empty() { "nothing".to_owned() } else { things.iter().map(T::to_string).collect::<Vec<_>>().join(" ") }
}
