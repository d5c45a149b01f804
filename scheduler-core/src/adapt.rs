//! Adapts a stage to the real sizes of its inputs before its first task is placed, and finds tasks that need not run
//! or go on.
//!
//! A stage changes only before its first attempt, so all its attempts share the work in the same way. Sizes decide how
//! a stage runs, but not which rows it gives. If a stage has no rows, its consumers are skipped only if a second
//! attempt at the stage would have no rows either.
//!
//! ```text
//! planned     stage 1: 4 tasks, 4 MiB per task, reads stage 0
//!             stage 0 finishes with 5 MiB
//! adapted     stage 1: 2 tasks
//! ```

use std::collections::{BTreeMap, BTreeSet};

use hwacha_model::{Adaptation, Determinism, QueryId, Reading, Stage, StageGraph, StageId, TaskId};

use crate::action::Action;
use crate::machine::Machine;
use crate::query::{Attempt, Query};
use crate::repair::needed;

/// A partition of the probe side is heavy above this multiple of the mean partition size (1.5: not measured, see
/// docs/decisions/021).
const HEAVY: f64 = 1.5;

impl Machine {
    /// Decides how a stage runs. Its inputs are ready, and it changes only if none of its tasks has had an attempt.
    pub(crate) fn adapt_to_sizes(&mut self, id: QueryId, stage: StageId) {
        let query = self.queries.get_mut(&id).expect("unplaced queries exist");
        if !query.stage(stage).is_untouched() {
            return;
        }
        let adaptations = if let Some((join, broadcast)) = switchable(query, stage) {
            let Adaptation::Broadcast { build, .. } = broadcast else { unreachable!("joins are switched so") };
            query.stages[join.0 as usize].readings.insert(build, Reading::Whole);
            query.stages[stage.0 as usize].unhashed = true;
            vec![(join, broadcast), (stage, Adaptation::Unhashed { join })]
        } else if let Some((readings, split)) = splittable(query, stage) {
            query.stages[stage.0 as usize].readings.extend(readings);
            vec![(stage, split)]
        } else if let Some((tasks, shrunk)) = shrinkable(query, stage) {
            query.resize(stage, tasks);
            vec![(stage, shrunk)]
        } else {
            vec![]
        };
        self.announce(id, adaptations);
    }

    /// After a stage has finished: skips stages that cannot have rows, and stops tasks whose rows nobody needs.
    pub(crate) fn adapt_to_end(&mut self, id: QueryId, finished: StageId) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let mut adaptations = skip_empty(query, finished);
        let unread = unread(query);
        for stage in unread.stages {
            match query.stage(stage).is_untouched() {
                true => {
                    query.resize(stage, 0);
                    adaptations.push((stage, Adaptation::Unread));
                }
                false => adaptations.push((stage, Adaptation::Stopped)),
            }
        }
        if !adaptations.is_empty() {
            query.pending = needed(query, &BTreeSet::new());
        }
        self.announce(id, adaptations);
        unread.attempts.into_iter().for_each(|attempt| self.discard(attempt));
    }

    fn announce(&mut self, query: QueryId, adaptations: Vec<(StageId, Adaptation)>) {
        let action = |(stage, adaptation)| Action::Adapted { query, stage, adaptation };
        self.actions.extend(adaptations.into_iter().map(action));
    }
}

/// The join that reads `probe`, if the join has not started and its finished build side is small enough for every task
/// to read it whole.
fn switchable(query: &Query, probe: StageId) -> Option<(StageId, Adaptation)> {
    let reads = |stage: &Stage| stage.adaptivity.join.filter(|join| join.probe == probe);
    let (id, join) = query.graph().consumers(probe).find_map(|(id, stage)| Some((id, reads(stage)?)))?;
    let build_bytes = bytes(query, join.build)?;
    let broadcast = Adaptation::Broadcast { build: join.build, build_bytes };
    (query.stage(id).is_untouched() && build_bytes <= join.max_build_bytes).then_some((id, broadcast))
}

/// How the tasks of a join read its finished inputs to share the heavy partitions of the probe side. A partition is
/// shared only if the copies of its build rows for all tasks have at most the bytes of its probe rows. `None` if no
/// partition is shared.
fn splittable(query: &Query, id: StageId) -> Option<([(StageId, Reading); 2], Adaptation)> {
    let stage = query.graph().stage(id);
    let split = stage.adaptivity.split.filter(|_| stage.tasks > 1 && query.stage(id).readings.is_empty())?;
    let (build_bytes, probe_bytes) = (bytes(query, split.build)?, bytes(query, split.probe)?);
    let (build, probe) = (heavy_partitions(query, split.build), heavy_partitions(query, split.probe));
    let mean = |bytes: u64| bytes as f64 / f64::from(split.partitions);
    let is_worth_it = |partition: &u32, bytes: u64| {
        let copied = build.get(partition).map_or(mean(build_bytes), |bytes| *bytes as f64);
        bytes >= split.min_bytes
            && bytes as f64 > mean(probe_bytes) * HEAVY
            && copied * f64::from(stage.tasks) <= bytes as f64
    };
    let heavy: BTreeMap<u32, u64> =
        probe.into_iter().filter(|(partition, bytes)| is_worth_it(partition, *bytes)).collect();
    let partitions: Vec<u32> = heavy.keys().copied().collect();
    let adaptation = Adaptation::Split {
        partitions: partitions.len() as u32,
        bytes: heavy.values().sum(),
        probe: split.probe,
        probe_bytes,
    };
    let readings =
        [(split.build, Reading::Copied(partitions.clone())), (split.probe, Reading::Dealt(partitions.clone()))];
    (!partitions.is_empty()).then_some((readings, adaptation))
}

/// The bytes of the heavy partitions of a stage's output, summed over the reports of its tasks.
fn heavy_partitions(query: &Query, stage: StageId) -> BTreeMap<u32, u64> {
    let mut heavy = BTreeMap::new();
    for said in query.stage(stage).attempts().flat_map(|attempt| &attempt.stats.heavy) {
        *heavy.entry(said.partition).or_default() += said.bytes;
    }
    heavy
}

/// The number of tasks that is enough for the bytes of a stage's finished inputs, if it is smaller than planned.
fn shrinkable(query: &Query, id: StageId) -> Option<(u32, Adaptation)> {
    let stage = query.graph().stage(id);
    let bytes_per_task = stage.adaptivity.bytes_per_task.filter(|_| query.stage(id).readings.is_empty())?;
    let input_bytes = stage.inputs.iter().map(|input| bytes(query, input.stage)).sum::<Option<u64>>()?;
    let tasks = input_bytes.div_ceil(bytes_per_task.max(1)).max(1);
    let tasks = u32::try_from(tasks).ok().filter(|tasks| *tasks < stage.tasks)?;
    Some((tasks, Adaptation::Shrunk { tasks, planned: stage.tasks, input_bytes }))
}

/// The output bytes of a stage; `None` until all its tasks have finished.
fn bytes(query: &Query, stage: StageId) -> Option<u64> {
    let stage = query.stage(stage);
    stage.is_finished().then(|| stage.attempts().map(|attempt| attempt.stats.output_bytes).sum())
}

/// If `finished` has no rows in any attempt, consumers for which this input is vital have no rows either. Sets their
/// task count to 0, then does the same for their consumers, and so on. The root stage is never skipped.
fn skip_empty(query: &mut Query, finished: StageId) -> Vec<(StageId, Adaptation)> {
    let has_rows = query.stage(finished).attempts().any(|attempt| attempt.stats.output_rows > 0);
    if has_rows || !is_settled(query.graph(), finished) {
        return vec![];
    }
    let mut skipped = vec![];
    let mut empty = vec![finished];
    while let Some(input) = empty.pop() {
        let suffers = |stage: &Stage| stage.inputs.iter().any(|read| read.stage == input && read.vital);
        let stages = query.graph().consumers(input).filter(|(_, stage)| suffers(stage)).map(|(id, _)| id);
        let stages: Vec<_> =
            stages.filter(|id| !query.is_root(*id) && query.runs(*id) && query.stage(*id).is_untouched()).collect();
        for stage in stages {
            query.resize(stage, 0);
            skipped.push((stage, Adaptation::Empty { input }));
            empty.push(stage);
        }
    }
    skipped
}

/// Whether a stage and all stages below it give the same rows in every attempt.
fn is_settled(graph: &StageGraph, stage: StageId) -> bool {
    let varies = |stage: &Stage| stage.determinism == Determinism::Varying;
    !graph.iter().any(|(id, below)| varies(below) && graph.leads_to(stage, id, false))
}

/// Stages and attempts whose consumers neither run nor wait to run.
#[derive(Default)]
struct Unread {
    stages: Vec<StageId>,
    /// The live attempts whose rows nobody needs.
    attempts: Vec<TaskId>,
}

fn unread(query: &Query) -> Unread {
    let mut unread = Unread::default();
    let mut goes_on: BTreeSet<StageId> = BTreeSet::new();
    for (id, _) in query.graph().iter().rev() {
        let mut consumers = query.graph().consumers(id);
        if !query.runs(id) {
            continue;
        }
        if query.is_root(id) || consumers.any(|(consumer, _)| goes_on.contains(&consumer)) {
            goes_on.insert(id);
            continue;
        }
        // If a reader has read an attempt whole, the attempt has written all rows, and its report is about to come.
        let readers = || query.graph().consumers(id).flat_map(|(consumer, _)| query.stage(consumer).attempts());
        let is_read = |attempt: &TaskId| readers().any(|reader| reader.read.contains(attempt));
        let live = query.stage(id).attempts().filter(|attempt| attempt.is_live()).map(Attempt::id);
        let (read, useless): (Vec<_>, Vec<_>) = live.partition(is_read);
        if !read.is_empty() {
            goes_on.insert(id);
        }
        if read.is_empty() || !useless.is_empty() {
            unread.stages.push(id);
        }
        unread.attempts.extend(useless);
    }
    unread
}
