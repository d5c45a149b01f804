//! The words of scenarios.
//!
//! ```text
//! config max_running=1                 before everything else
//! @12                                  time is 12 s from here on
//! join 1 slots 2 knowing 1.0.0.0       beat 1 blocked 2 knowing 1.0.0.0       disconnect 1       drain 1       tick
//! submit 1 session 5                   planned 1: 2; 2; 1 varying wavable <- 0 1c         planfailed 1       cancel 1
//! start 1.0.0.0                        read 1.1.0.0 1.0.0.0         finish 1.0.0.0 rows 0 bytes 0 heavy=3:500
//! fail 1.0.0.0 internal
//! begun 1.1.0.0                        fetched 1.1.0.0              unfetched 1.1.0.0             stalled 1
//! status 1                             executors
//! ```
//!
//! - `planned 1 last: 2` is a plan that cannot be replaced by another one.
//! - A stage is its number of tasks, its properties (`varying`, `repeatable`, `wavable` and those below) and its
//!   inputs. Stages are numbered from 0.
//! - Marks of inputs: `c` must be complete, `v` is vital (without its rows the stage has none), `w` is waited for,
//!   but not read.
//! - `per=100`: fewer tasks may share the work, one for each 100 bytes of input.
//! - `join=0,1,500`: a join of stages 0 and 1 may read all of stage 0 in each task, if stage 0 has at most 500 bytes.
//! - `split=0,1,4,300`: a join of stages 0 (build side) and 1 (probe side), with 4 partitions each. All tasks may share
//!   the heavy partitions of stage 1 that have at least 300 bytes.
//! - A report comes from the executor that its attempt was last launched on, unless it ends in `from 7`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hwacha_model::{
    Adaptivity, Assignment, Delivery, Determinism, ExecutorId, Failure, FailureKind, HeavyPartition, Input, JoinSplit,
    JoinSwitch, OutputKind, Producer, QueryId, Reading, Stage, StageGraph, StageId, TaskId, TaskIndex, TaskStats,
    Timestamp,
};

use crate::{Action, Config, Event, Machine, invariants};

/// The transcript of a scenario.
pub(super) fn run(scenario: &str) -> String {
    let lines = || scenario.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let config = lines().filter_map(|line| line.strip_prefix("config ")).fold(Config::default(), configured);
    let mut play = Play {
        machine: Machine::new(config),
        now: Timestamp::default(),
        executors: BTreeMap::new(),
        transcript: String::new(),
    };
    for line in lines().filter(|line| !line.starts_with("config ")) {
        play.line(line);
    }
    play.transcript
}

fn configured(mut config: Config, settings: &str) -> Config {
    for (name, value) in settings.split_whitespace().filter_map(|setting| setting.split_once('=')) {
        let count = value.parse::<u32>().expect("settings are numbers");
        match name {
            "max_running" => config.max_running = count as usize,
            "max_queued" => config.max_queued = count as usize,
            "max_executor_losses" => config.max_executor_losses = count,
            "max_waves" => config.max_waves = count,
            "start_within" => config.start_within_heartbeats = count,
            other => panic!("no setting {other}"),
        }
    }
    config
}

struct Play {
    machine: Machine,
    now: Timestamp,
    /// The executor on which each attempt was launched last.
    executors: BTreeMap<TaskId, ExecutorId>,
    transcript: String,
}

impl Play {
    fn line(&mut self, line: &str) {
        if let Some(seconds) = line.strip_prefix('@') {
            let seconds = seconds.parse().expect("a time is a number of seconds");
            self.now = Timestamp::after_origin(Duration::from_secs_f64(seconds));
            return;
        }
        if let Some(query) = line.strip_prefix("status ") {
            let status = self.machine.query_status(QueryId(query.parse().expect("a query's number")));
            return writeln!(self.transcript, "{line}: {status:?}").expect("strings take all text");
        }
        if line == "executors" {
            for executor in self.machine.executors() {
                writeln!(self.transcript, "{executor:?}").expect("strings take all text");
            }
            return;
        }
        let event = self.event(line);
        self.machine.handle(self.now, event);
        let actions: Vec<_> = std::iter::from_fn(|| self.machine.next_action()).collect();
        if !actions.is_empty() {
            writeln!(self.transcript, "{line}").expect("strings take all text");
        }
        for action in &actions {
            if let Action::Launch { executor, assignment } = action {
                self.executors.insert(assignment.attempt, *executor);
            }
            writeln!(self.transcript, "    {}", shown(action)).expect("strings take all text");
        }
        if let Err(broken) = invariants::check(&self.machine) {
            panic!("after `{line}`: {broken}\n{}", self.transcript);
        }
    }

    fn event(&self, line: &str) -> Event {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "join" | "beat" | "disconnect" | "drain" => executor_event(&words),
            "submit" | "planned" | "planfailed" | "cancel" => query_event(line, &words),
            "begun" => Event::ResultBegun { attempt: task_id(words[1]) },
            "stalled" => Event::ResultStalled { query: QueryId(number(words[1])) },
            "fetched" => Event::ResultRead { attempt: task_id(words[1]) },
            "unfetched" => Event::ResultLost { attempt: task_id(words[1]) },
            "tick" => Event::Tick,
            _ => self.report(&words),
        }
    }

    fn report(&self, words: &[&str]) -> Event {
        let attempt = task_id(words[1]);
        let from = words.iter().position(|word| *word == "from").map(|at| ExecutorId(number(words[at + 1])));
        let executor = from.unwrap_or_else(|| self.executors[&attempt]);
        match words[0] {
            "start" => Event::Started { executor, attempt },
            "read" => Event::InputRead { executor, attempt, producer: task_id(words[2]) },
            "finish" => {
                let after = |word: &str| words.iter().position(|found| *found == word).map(|at| number(words[at + 1]));
                let (output_rows, output_bytes) = (after("rows").unwrap_or(10), after("bytes").unwrap_or(80));
                let heavy = |word: &&str| {
                    let (partition, bytes) = word.strip_prefix("heavy=")?.split_once(':')?;
                    Some(HeavyPartition { partition: number(partition) as u32, bytes: number(bytes) })
                };
                let heavy = words.iter().filter_map(heavy).collect();
                let stats = TaskStats { output_rows, output_bytes, heavy, ..TaskStats::default() };
                Event::Finished { executor, attempt, stats }
            }
            "fail" => Event::Failed { executor, attempt, failure: failure(&words[2..]) },
            other => panic!("no event {other}"),
        }
    }
}

fn executor_event(words: &[&str]) -> Event {
    let executor = ExecutorId(number(words[1]));
    let after = |word: &str| words.iter().position(|found| *found == word).map(|at| &words[at + 1..]);
    let known = after("knowing").unwrap_or_default().iter().map(|id| task_id(id)).collect();
    match words[0] {
        "join" => {
            let slots = after("slots").map_or(1, |rest| number(rest[0]) as u32);
            Event::ExecutorJoined { executor, slots, cache: after("cache").map(|rest| number(rest[0])), known }
        }
        "beat" => {
            let blocked_slots = after("blocked").map_or(0, |rest| number(rest[0]) as u32);
            Event::Heartbeat { executor, known, blocked_slots }
        }
        "disconnect" => Event::ExecutorDisconnected { executor },
        _ => Event::ExecutorDraining { executor },
    }
}

fn query_event(line: &str, words: &[&str]) -> Event {
    let query = QueryId(number(words[1].trim_end_matches(':')));
    match words[0] {
        "submit" => Event::QuerySubmitted { query, session: words.get(3).map_or(0, |session| number(session)) },
        "planned" => {
            let (head, stages) = line.split_once(':').expect("stages follow a colon");
            Event::QueryPlanned { query, graph: graph(stages), replannable: !head.ends_with("last") }
        }
        "planfailed" => Event::PlanFailed { query, failure: failure(&["user"]) },
        _ => Event::CancelRequested { query, failure: failure(&["canceled"]) },
    }
}

fn graph(stages: &str) -> StageGraph {
    StageGraph::new(stages.split(';').map(stage).collect()).expect("a valid graph")
}

fn stage(text: &str) -> Stage {
    let (head, inputs) = text.split_once("<-").unwrap_or((text, ""));
    let inputs: Vec<_> = inputs
        .split_whitespace()
        .map(|word| word.split_at(word.find(char::is_alphabetic).unwrap_or(word.len())))
        .collect();
    let (waits, reads): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, marks)| marks.contains('w'));
    let input = |(id, marks): (&str, &str)| {
        let delivery = if marks.contains('c') { Delivery::Complete } else { Delivery::Streaming };
        Input { stage: stage_id(id), delivery, vital: marks.contains('v') }
    };
    let determinism = match head {
        head if head.contains("varying") => Determinism::Varying,
        head if head.contains("repeatable") => Determinism::Repeatable,
        _ => Determinism::Reproducible,
    };
    let after = |key: &str| head.split_whitespace().find_map(|word| word.strip_prefix(key));
    let join = |join: &str| {
        let [build, probe, max_build_bytes] = join.split(',').collect::<Vec<_>>()[..] else {
            panic!("{join} is no join")
        };
        JoinSwitch { build: stage_id(build), probe: stage_id(probe), max_build_bytes: number(max_build_bytes) }
    };
    let split = |split: &str| {
        let [build, probe, partitions, min_bytes] = split.split(',').map(number).collect::<Vec<_>>()[..] else {
            panic!("{split} is no join")
        };
        let (build, probe) = (StageId(build as u32), StageId(probe as u32));
        JoinSplit { build, probe, partitions: partitions as u32, min_bytes }
    };
    Stage {
        inputs: reads.into_iter().map(input).collect(),
        after: waits.into_iter().map(|(id, _)| stage_id(id)).collect(),
        tasks: number(head.split_whitespace().next().expect("a number of tasks")) as u32,
        reads: vec![],
        output: OutputKind::Hash,
        determinism,
        wavable: head.contains("wavable"),
        adaptivity: Adaptivity {
            bytes_per_task: after("per=").map(number),
            join: after("join=").map(join),
            split: after("split=").map(split),
        },
    }
}

fn stage_id(text: &str) -> StageId {
    StageId(number(text) as u32)
}

fn failure(words: &[&str]) -> Failure {
    let kind = match words[0] {
        "user" => FailureKind::UserError,
        "memory" => FailureKind::ResourcesExhausted,
        "lost" => FailureKind::ExecutorLost,
        "exchange" => FailureKind::ExchangeLost { producer: task_id(words[1]) },
        "unavailable" => FailureKind::Unavailable,
        "outgrown" => FailureKind::Outgrown,
        "canceled" => FailureKind::Canceled,
        "internal" => FailureKind::Internal,
        other => panic!("no failure {other}"),
    };
    Failure::new(kind, words[0])
}

fn task_id(text: &str) -> TaskId {
    let parts: Vec<u64> = text.split('.').map(number).collect();
    let [query, stage, task, attempt] = parts[..] else { panic!("{text} is no task") };
    TaskId {
        query: QueryId(query),
        stage: StageId(stage as u32),
        task: TaskIndex(task as u32),
        attempt: attempt as u32,
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn shown(action: &Action) -> String {
    match action {
        Action::Plan { query, executors, anew } => {
            let anew = anew.as_ref().map(|failure| format!(" anew after {failure:?}")).unwrap_or_default();
            format!("plan {query}{anew} on {}", listed(executors))
        }
        Action::Launch { executor, assignment } => {
            format!("launch {} on {executor}{}", assignment.attempt, details(assignment))
        }
        Action::Adapted { query, stage, adaptation } => format!("adapted {query}.{stage}: {adaptation}"),
        Action::Abort { executor, attempt } => format!("abort {attempt} on {executor}"),
        Action::Release { executor, query } => format!("release {query} on {executor}"),
        Action::ResultSource { query, producers } => format!("result of {query} at {}", located(producers)),
        Action::End { query, outcome: Ok(()) } => format!("end {query}: ok"),
        Action::End { query, outcome: Err(failure) } => format!("end {query}: {:?}: {failure}", failure.kind),
        Action::Evict { executor } => format!("evict {executor}"),
    }
}

fn details(assignment: &Assignment) -> String {
    let mut text = String::new();
    for input in &assignment.inputs {
        let reading = match &input.reading {
            Reading::Share => String::new(),
            Reading::Whole => " all of".to_owned(),
            Reading::Copied(partitions) => format!(" all {} of", listed(partitions)),
            Reading::Dealt(partitions) => format!(" part of {} of", listed(partitions)),
        };
        write!(text, " <{reading} {}", located(&input.producers)).expect("strings take all text");
    }
    if assignment.unhashed {
        text.push_str(" unhashed");
    }
    if assignment.waves > 1 {
        write!(text, " in {} waves", assignment.waves).expect("strings take all text");
    }
    text
}

fn located(producers: &[Producer]) -> String {
    listed(&producers.iter().map(|producer| format!("{}@{}", producer.attempt, producer.executor)).collect::<Vec<_>>())
}

fn listed<T: ToString>(things: &[T]) -> String {
    things.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}
