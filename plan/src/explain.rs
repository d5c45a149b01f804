//! Formats a distributed plan as text: the stages in the output of `EXPLAIN` and `EXPLAIN ANALYZE`.

use std::fmt::{self, Write};

use datafusion::physical_plan::displayable;
use hwacha_model::{Adaptation, Determinism, StageId, StoreUse, TaskStats};
use hwacha_proto::control::OperatorMetrics;

use crate::splitter::QueryPlan;

/// Shows the stages of `plan`, consumers first, each with its operators.
pub fn stage_graph(plan: &QueryPlan) -> String {
    let mut text = String::new();
    if let Some(unmet) = &plan.unmet {
        writeln!(text, "Planned as one task, since the plan for several tasks does not meet a requirement: {unmet}")
            .expect("strings take all writes");
    }
    for (id, stage) in plan.graph.iter().rev() {
        let varying = match stage.determinism {
            Determinism::Repeatable => ", repeatable",
            Determinism::Reproducible => "",
            Determinism::Varying => ", varying",
        };
        let after: String = stage.after.iter().map(|after| format!(", after stage {after}")).collect();
        writeln!(text, "Stage {id}: {}{varying}{after}", count(stage.tasks as usize, "task"))
            .expect("strings take all writes");
        let operators = displayable(plan.stages[id.0 as usize].as_ref()).indent(false).to_string();
        for line in operators.lines() {
            writeln!(text, "  {line}").expect("strings take all writes");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The measurements of one task of a stage.
#[derive(Clone, Debug, Default)]
pub struct TaskMetrics {
    pub stats: TaskStats,
    pub elapsed_nanos: u64,
    pub operators: Vec<OperatorMetrics>,
}

/// The reason why a query was planned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedAnew {
    /// The first plan ran on one executor, and its operators gave more than `max_rows` rows.
    Outgrown { max_rows: u64 },
    /// A task ran out of memory, and more waves did not help or were not possible.
    OutOfMemory,
}

impl fmt::Display for PlannedAnew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outgrown { max_rows } => {
                write!(
                    f,
                    "Planned again for all executors, since the operators of the first plan returned more than \
                     {max_rows} rows on one executor"
                )
            }
            Self::OutOfMemory => {
                write!(f, "Planned again with tasks that can run in waves, since a task ran out of memory")
            }
        }
    }
}

/// Shows the stages of `plan` with the measurements of their tasks: totals, and min/median/max over tasks.
/// `stages[i]` are the tasks of stage `i`. One line gives the reason for each change of a stage (`adaptations`). The
/// first line gives the reason why the query was planned again, if it was.
pub fn analyzed_stage_graph(
    plan: &QueryPlan,
    stages: &[Vec<TaskMetrics>],
    adaptations: &[(StageId, Adaptation)],
    planned_anew: Option<PlannedAnew>,
) -> String {
    let mut text = String::new();
    if let Some(why) = planned_anew {
        writeln!(text, "{why}").expect("strings take all writes");
    }
    for (id, _) in plan.graph.iter().rev() {
        let tasks = &stages[id.0 as usize];
        let total = |value: fn(&TaskMetrics) -> u64| tasks.iter().map(value).sum::<u64>();
        let elapsed = spread(tasks.iter().map(|task| task.elapsed_nanos), nanos);
        let rows = spread(tasks.iter().map(|task| task.stats.output_rows), |rows| rows.to_string());
        writeln!(
            text,
            "Stage {id}: {}, elapsed {elapsed}, output rows {rows}, exchange {} written, {} received over the network, \
             spilled {}",
            count(tasks.len(), "task"),
            bytes(total(|task| task.stats.output_bytes)),
            bytes(total(|task| task.stats.received_bytes)),
            bytes(total(|task| task.stats.spilled_bytes)),
        )
        .expect("strings take all writes");
        for (_, adaptation) in adaptations.iter().filter(|(stage, _)| *stage == id) {
            writeln!(text, "  adapted: {adaptation}").expect("strings take all writes");
        }
        operators(&mut text, tasks);
    }
    text.truncate(text.trim_end().len());
    text
}

/// Writes one line per operator. All tasks of a stage run the same plan, so their operators correspond by position.
fn operators(text: &mut String, tasks: &[TaskMetrics]) {
    let Some(first) = tasks.first() else { return };
    for (position, operator) in first.operators.iter().enumerate() {
        let each = || tasks.iter().filter_map(|task| task.operators.get(position));
        let rows = spread(each().map(|operator| operator.output_rows), |rows| rows.to_string());
        let time = spread(each().map(|operator| operator.compute_nanos), nanos);
        let written: u64 = each().map(|operator| operator.output_bytes).sum();
        let spilled: u64 = each().map(|operator| operator.spilled_bytes).sum();
        let indent = "  ".repeat(operator.depth as usize + 1);
        write!(text, "{indent}{}, metrics=[rows {rows}, time {time}", operator.label).expect("strings take all writes");
        if written > 0 {
            write!(text, ", bytes {}", bytes(written)).expect("strings take all writes");
        }
        if spilled > 0 {
            write!(text, ", spilled {}", bytes(spilled)).expect("strings take all writes");
        }
        if each().any(|operator| operator.store.is_some()) {
            let used = each().filter_map(|operator| operator.store).map(StoreUse::from);
            let StoreUse { requests, retries, bytes: sent, cached_bytes, wait_nanos } =
                used.fold(StoreUse::default(), StoreUse::with);
            write!(
                text,
                ", store requests {requests}, retries {retries}, bytes {}, cached {}, wait {}",
                bytes(sent),
                bytes(cached_bytes),
                nanos(wait_nanos)
            )
            .expect("strings take all writes");
        }
        text.push_str("]\n");
    }
}

/// `total (min/median/max)`, or the value alone when there is one task.
fn spread(values: impl Iterator<Item = u64>, show: impl Fn(u64) -> String) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    match values[..] {
        [] => show(0),
        [only] => show(only),
        [least, .., most] => {
            let total = values.iter().sum();
            format!("{} ({}/{}/{})", show(total), show(least), show(values[values.len() / 2]), show(most))
        }
    }
}

fn nanos(nanos: u64) -> String {
    format!("{:.3}ms", nanos as f64 / 1e6)
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)),
    }
}

fn count(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}
