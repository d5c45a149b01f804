//! The stage graph, which the planner gives to the scheduler's machine.

use std::fmt;

use crate::ids::StageId;

/// When a consumer may start reading an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As soon as every producer task has been placed. The consumer reads rows while the producers run.
    Streaming,
    /// After every producer task has finished.
    Complete,
}

/// How a stage's rows are spread over its output partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Rows with equal keys are in one partition. Each consumer task reads partitions with consecutive numbers.
    Hash,
    /// Rows keep their partitions: task `i` of the consumer reads the rows that task `i` of the producer wrote.
    Forward,
    /// One partition, read whole by every consumer task.
    Broadcast,
    /// One partition, read by a one-task stage.
    Gather,
    /// One sorted run per producer task, merged by a one-task stage.
    Merge,
    /// One sorted run per producer task, with an index. Each consumer partition reads the rows in its range of keys.
    Range,
    /// The query's result, which is read once, for the client. The writer waits for the reader, and rows that were
    /// read are dropped.
    Result,
}

/// Whether a second attempt puts the same rows into the same partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Determinism {
    /// The same rows in the same partitions, and in the same order. If a client has read a part of a partition, the
    /// next attempt can deliver the rest. Only the last stage can be repeatable, and only if it reads no other stage.
    Repeatable,
    /// The same rows in the same partitions, in any order. A consumer that has read all rows of a lost attempt keeps
    /// them.
    Reproducible,
    /// Possibly other rows or other partitions. If a task of the stage runs again, all consumers of the stage do too.
    Varying,
}

/// One input of a stage: the exchange that a lower-numbered stage writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    pub stage: StageId,
    pub delivery: Delivery,
    /// Whether the stage has no rows when this input has none.
    pub vital: bool,
}

/// A join of two hashed inputs that may become a broadcast join once the size of its build side is known.
/// Precondition: nothing else in the stage depends on the hash partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinSwitch {
    pub build: StageId,
    /// Only this join reads the stage of the probe side. The stage of the join has the same number of tasks.
    pub probe: StageId,
    /// The largest build side that every task may read whole.
    pub max_build_bytes: u64,
}

/// A join of two hashed inputs whose heavy partitions may be shared by all tasks of the stage. Precondition: nothing
/// else in the stage depends on the hash partitions. The join reads both inputs after they have finished, because the
/// heavy partitions are known only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinSplit {
    pub build: StageId,
    pub probe: StageId,
    /// The number of partitions of each of the two exchanges.
    pub partitions: u32,
    /// Bytes below which a partition of the probe side is not shared.
    pub min_bytes: u64,
}

/// The changes that are allowed in a stage once the sizes of its inputs are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adaptivity {
    /// Input bytes per task: with less input, fewer tasks than planned share the work. `None` forbids fewer tasks.
    pub bytes_per_task: Option<u64>,
    pub join: Option<JoinSwitch>,
    pub split: Option<JoinSplit>,
}

/// One stage for the scheduler's machine. Only the event loop has its encoded plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub inputs: Vec<Input>,
    /// Stages that must have finished once before this stage starts, because this stage tests rows by their run-time
    /// filters.
    pub after: Vec<StageId>,
    /// The number of tasks that share the stage's work. At least 1; 0 if the stage need not run.
    pub tasks: u32,
    /// For each task a number that stands for the remote files that it reads, so that it goes to the executor whose
    /// cache has them. Empty if the stage reads no remote files.
    pub reads: Vec<u64>,
    pub output: OutputKind,
    pub determinism: Determinism,
    /// Whether a task can read its inputs in several passes (waves) when memory is short.
    pub wavable: bool,
    pub adaptivity: Adaptivity,
}

/// The stages of a query. Stage `i` is `StageId(i)`. The inputs of a stage have lower numbers. The rows of the last
/// stage are the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageGraph {
    stages: Vec<Stage>,
}

/// Why a list of stages is not a graph that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageGraphError {
    Empty,
    NoTasks(StageId),
    InputNotBefore {
        stage: StageId,
        input: StageId,
    },
    /// The stage is marked repeatable, but it reads another stage or is not the last one.
    NotRepeatable(StageId),
    /// The stage waits for a stage that depends on it, or for a stage that does not exist.
    WaitsForItself(StageId),
    /// The stage waits for `after`, but no consumer of `after` depends on the stage. So `after` may become unneeded
    /// before the stage starts.
    WaitsInVain {
        stage: StageId,
        after: StageId,
    },
}

impl fmt::Display for StageGraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a stage graph needs at least one stage"),
            Self::NoTasks(stage) => write!(f, "stage {stage} has no tasks"),
            Self::InputNotBefore { stage, input } => {
                write!(f, "stage {stage} reads stage {input}, which does not come before it")
            }
            Self::NotRepeatable(stage) => {
                write!(f, "stage {stage} is called repeatable, and reads other stages or feeds one")
            }
            Self::WaitsForItself(stage) => write!(f, "stage {stage} waits for itself"),
            Self::WaitsInVain { stage, after } => {
                write!(f, "stage {stage} waits for stage {after}, and nothing reads both")
            }
        }
    }
}

impl std::error::Error for StageGraphError {}

impl StageGraph {
    /// Checks that producers come before consumers, that each stage has tasks, and that repeatable stages and stages in
    /// `after` are valid.
    pub fn new(stages: Vec<Stage>) -> Result<Self, StageGraphError> {
        if stages.is_empty() {
            return Err(StageGraphError::Empty);
        }
        for (id, stage) in numbered(&stages) {
            if stage.tasks == 0 {
                return Err(StageGraphError::NoTasks(id));
            }
            if let Some(input) = stage.inputs.iter().find(|input| input.stage >= id) {
                return Err(StageGraphError::InputNotBefore { stage: id, input: input.stage });
            }
            let may_repeat = stage.inputs.is_empty() && id.0 as usize + 1 == stages.len();
            if stage.determinism == Determinism::Repeatable && !may_repeat {
                return Err(StageGraphError::NotRepeatable(id));
            }
        }
        let graph = Self { stages };
        graph.check_waits()?;
        Ok(graph)
    }

    /// Checks each stage in `after`: it must not depend on the waiting stage, but one of its consumers must. This
    /// consumer cannot end before the waiting stage, so the stage in `after` is needed until the waiting stage starts.
    fn check_waits(&self) -> Result<(), StageGraphError> {
        for (stage, waiting) in self.iter() {
            for &after in &waiting.after {
                if after.0 as usize >= self.stages.len() || self.leads_to(after, stage, true) {
                    return Err(StageGraphError::WaitsForItself(stage));
                }
                if !self.consumers(after).any(|(consumer, _)| self.leads_to(consumer, stage, false)) {
                    return Err(StageGraphError::WaitsInVain { stage, after });
                }
            }
        }
        Ok(())
    }

    /// Whether `from` is `to` or depends on it, directly or through other stages. Stages in `after` count only if
    /// `waits` is set.
    pub fn leads_to(&self, from: StageId, to: StageId, waits: bool) -> bool {
        let (mut seen, mut next) = (vec![false; self.stages.len()], vec![from]);
        while let Some(id) = next.pop() {
            if id == to {
                return true;
            }
            if !std::mem::replace(&mut seen[id.0 as usize], true) {
                let stage = self.stage(id);
                next.extend(stage.inputs.iter().map(|input| input.stage));
                next.extend(stage.after.iter().filter(|_| waits));
            }
        }
        false
    }

    /// The last stage, whose rows are the result.
    pub fn root(&self) -> StageId {
        StageId(self.stages.len() as u32 - 1)
    }

    /// The stage with this id. Panics if there is none.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0 as usize]
    }

    /// All stages, producers first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (StageId, &Stage)> {
        numbered(&self.stages)
    }

    /// The stages that read `producer`.
    pub fn consumers(&self, producer: StageId) -> impl Iterator<Item = (StageId, &Stage)> {
        self.iter().filter(move |(_, stage)| stage.inputs.iter().any(|input| input.stage == producer))
    }

    /// Sets the task count of a stage; 0 if the stage need not run.
    pub fn resize(&mut self, id: StageId, tasks: u32) {
        self.stages[id.0 as usize].tasks = tasks;
    }

    /// The number of tasks of all stages together.
    pub fn total_tasks(&self) -> usize {
        self.stages.iter().map(|stage| stage.tasks as usize).sum()
    }
}

fn numbered(stages: &[Stage]) -> impl DoubleEndedIterator<Item = (StageId, &Stage)> {
    stages.iter().enumerate().map(|(number, stage)| (StageId(number as u32), stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(inputs: &[u32], tasks: u32) -> Stage {
        Stage {
            inputs: inputs
                .iter()
                .map(|&id| Input { stage: StageId(id), delivery: Delivery::Streaming, vital: false })
                .collect(),
            after: vec![],
            tasks,
            reads: vec![],
            output: OutputKind::Hash,
            determinism: Determinism::Reproducible,
            wavable: false,
            adaptivity: Adaptivity::default(),
        }
    }

    #[test]
    fn a_graph_is_checked_when_it_is_made() {
        assert_eq!(StageGraph::new(vec![]), Err(StageGraphError::Empty));
        assert_eq!(StageGraph::new(vec![stage(&[], 0)]), Err(StageGraphError::NoTasks(StageId(0))));
        assert_eq!(
            StageGraph::new(vec![stage(&[0], 1)]),
            Err(StageGraphError::InputNotBefore { stage: StageId(0), input: StageId(0) })
        );
        let repeatable = |inputs: &[u32]| Stage { determinism: Determinism::Repeatable, ..stage(inputs, 1) };
        assert!(StageGraph::new(vec![repeatable(&[])]).is_ok());
        let not_repeatable = |stage| Err(StageGraphError::NotRepeatable(StageId(stage)));
        assert_eq!(StageGraph::new(vec![repeatable(&[]), stage(&[0], 1)]), not_repeatable(0));
        assert_eq!(StageGraph::new(vec![stage(&[], 1), repeatable(&[0])]), not_repeatable(1));
    }

    #[test]
    fn a_stage_waits_only_for_what_is_needed_until_it_starts() {
        let graph = |after: u32| {
            let waiting = Stage { after: vec![StageId(after)], ..stage(&[], 1) };
            StageGraph::new(vec![stage(&[], 1), waiting, stage(&[0, 1], 1), stage(&[2], 1)]).map(|_| ())
        };
        assert_eq!(graph(0), Ok(()));
        assert_eq!(graph(2), Err(StageGraphError::WaitsForItself(StageId(1))));
        let waiting = Stage { after: vec![StageId(0)], ..stage(&[1], 1) };
        assert_eq!(
            StageGraph::new(vec![stage(&[], 1), stage(&[0], 1), waiting]),
            Err(StageGraphError::WaitsInVain { stage: StageId(2), after: StageId(0) })
        );
    }

    #[test]
    fn consumers_are_found_from_their_inputs() {
        let graph = StageGraph::new(vec![stage(&[], 2), stage(&[0], 2), stage(&[0, 1], 1)]).expect("a valid graph");
        let readers: Vec<_> = graph.consumers(StageId(0)).map(|(id, _)| id.0).collect();
        assert_eq!(readers, [1, 2]);
        assert_eq!(graph.root(), StageId(2));
        assert_eq!(graph.total_tasks(), 5);
    }
}
