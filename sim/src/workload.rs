//! The workload of a seed: the cluster, the queries and the faults. All are drawn before the simulation starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hwacha_model::{
    Adaptivity, Delivery, Determinism, FailureKind, Input, JoinSplit, JoinSwitch, OutputKind, QueryId, Stage,
    StageGraph, StageId, TaskIndex, Timestamp,
};
use hwacha_scheduler_core::Config;

use crate::rng::Rng;

/// Time in ms after which no message is lost, delayed or duplicated any more, and no slot becomes blocked.
pub(crate) const FAULTS_UNTIL_MS: u64 = 15_000;
/// Time in ms at which the last query is submitted. By then every executor process that a fault has ended was noticed
/// and replaced.
const CALM_FROM_MS: u64 = 45_000;
/// Number of partitions of the exchanges that joins read.
pub(crate) const PARTITIONS: u32 = 8;
/// Time in ms by which every query must have ended.
pub(crate) const ALL_ENDED_BY_MS: u64 = 400_000;
/// Time in ms by which the last query must have ended, even if the readers of other queries stall.
pub(crate) const LAST_ENDED_BY_MS: u64 = CALM_FROM_MS + 60_000;
pub(crate) const LAST_QUERY: QueryId = QueryId(100);

/// The way in which commands reach executors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commands {
    /// On one stream per connection, in order. Commands in transit are lost when the connection breaks.
    InOrder,
    /// Each on its own. While there are faults, a command may be lost, arrive twice, or arrive out of order.
    Scattered,
}

/// Everything that is drawn before the simulation starts.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub config: Config,
    pub commands: Commands,
    /// Slots of each host.
    pub hosts: Vec<u32>,
    pub queries: BTreeMap<QueryId, QueryPlan>,
    pub faults: Vec<(Timestamp, Fault)>,
}

/// A query of the workload, drawn before the simulation starts.
#[derive(Clone, Debug)]
pub(crate) struct QueryPlan {
    pub session: u64,
    pub submitted: Timestamp,
    pub graph: StageGraph,
    /// Set if the query is first planned as a small query with one task.
    pub small: Option<Small>,
    /// Whether the query can be planned again after memory has run out. A small query always can.
    pub replannable: bool,
    /// Stages whose tasks write no rows.
    pub empty: BTreeSet<StageId>,
    pub canceled: Option<Timestamp>,
    /// How long the reader of the result stalls after it has received rows.
    pub stalls: Option<Duration>,
    pub plan_fails: bool,
    pub troubles: BTreeMap<(StageId, TaskIndex), Trouble>,
}

/// Whether a query that is first planned for one task really is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Small {
    Truly,
    Outgrown,
}

/// A reason why attempts of a task fail, other than the cluster's faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    UserError,
    /// This number of attempts fail. Later attempts succeed. The same holds for `Unavailable`.
    Internal(u32),
    Unavailable(u32),
    /// Attempts with fewer waves than this fail.
    Memory {
        waves: u32,
    },
}

/// A fault of the cluster.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The process dies, and a new one starts later. If `silent`, the scheduler does not notice the end of the
    /// connection.
    Crash {
        host: usize,
        back_after: Duration,
        silent: bool,
    },
    /// The process does nothing for a while.
    Hang {
        host: usize,
        lasting: Duration,
    },
    /// The connection breaks. The scheduler notices after `noticed_after`; the executor connects again after
    /// `back_after`.
    Break {
        host: usize,
        back_after: Duration,
        noticed_after: Duration,
    },
    Drain {
        host: usize,
    },
    /// The scheduler's clock jumps ahead, as it does when its process was suspended.
    Jump(Duration),
    /// For a while, readers sometimes fail to read outputs that exist.
    BadNetwork {
        lasting: Duration,
    },
}

impl Workload {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let config = config(rng);
        let hosts: Vec<u32> = (0..rng.between(1, 5)).map(|_| rng.between(1, 3) as u32).collect();
        let calm = rng.percent(15);
        let commands = if rng.percent(30) { Commands::Scattered } else { Commands::InOrder };
        let mut queries: BTreeMap<_, _> =
            (1..=rng.between(1, 4)).map(|id| (QueryId(id), QueryPlan::draw(rng))).collect();
        queries.insert(LAST_QUERY, QueryPlan::peaceful(rng));
        let count = if calm { 0 } else { rng.between(1, 6) };
        let mut faults: Vec<_> =
            (0..count).map(|_| (millis(rng.between(100, 10_000)), Fault::draw(rng, hosts.len()))).collect();
        if !calm && rng.percent(4) {
            faults.extend(blackout(rng, hosts.len()));
        }
        Self { config, commands, hosts, queries, faults }
    }
}

fn config(rng: &mut Rng) -> Config {
    Config {
        lost_after: Duration::from_secs(5),
        executor_wait: Duration::from_secs(10),
        relaunch_after: Duration::from_secs(2),
        max_running: rng.between(1, 4) as usize,
        max_queued: rng.between(1, 4) as usize,
        max_executor_losses: rng.between(1, 3) as u32,
        ..Config::default()
    }
}

/// All hosts crash together for 25 s. Queries that need an executor wait 10 s for one, so they fail.
fn blackout(rng: &mut Rng, hosts: usize) -> Vec<(Timestamp, Fault)> {
    let at = millis(rng.between(100, 3_000));
    let crash = |host| (at, Fault::Crash { host, back_after: Duration::from_secs(25), silent: false });
    (0..hosts).map(crash).collect()
}

pub(crate) fn millis(millis: u64) -> Timestamp {
    Timestamp::after_origin(Duration::from_millis(millis))
}

impl Fault {
    fn draw(rng: &mut Rng, hosts: usize) -> Self {
        let host = rng.index(hosts);
        match rng.between(0, 9) {
            0..=2 => Self::Crash { host, back_after: rng.millis(100, 4_000), silent: rng.percent(20) },
            3 | 4 => Self::Hang { host, lasting: rng.millis(500, 12_000) },
            5 | 6 => Self::Break { host, back_after: rng.millis(10, 3_000), noticed_after: rng.millis(0, 1_000) },
            7 => Self::Drain { host },
            8 => Self::Jump(rng.millis(1_000, 60_000)),
            _ => Self::BadNetwork { lasting: rng.millis(100, 3_000) },
        }
    }
}

impl QueryPlan {
    fn draw(rng: &mut Rng) -> Self {
        let graph = graph(rng);
        let empty = graph.iter().map(|(id, _)| id).filter(|_| rng.percent(10)).collect();
        let submitted = millis(rng.between(0, 8_000));
        let troubles = if rng.percent(40) { troubles(rng, &graph) } else { BTreeMap::new() };
        let small = Small::draw(rng);
        Self {
            session: rng.between(1, 2),
            submitted,
            canceled: rng.percent(8).then(|| submitted + rng.millis(0, 5_000)),
            stalls: rng.percent(10).then(|| rng.millis(5_000, 200_000)),
            plan_fails: rng.percent(2),
            small,
            replannable: small.is_some() || rng.percent(70),
            troubles,
            graph,
            empty,
        }
    }

    /// A query that is not canceled, has no troubles and does not stall.
    fn peaceful(rng: &mut Rng) -> Self {
        let (submitted, graph) = (millis(CALM_FROM_MS), graph(rng));
        let (empty, troubles) = (BTreeSet::new(), BTreeMap::new());
        let small = Small::draw(rng);
        Self {
            session: 1,
            submitted,
            graph,
            small,
            replannable: small.is_some(),
            empty,
            canceled: None,
            stalls: None,
            plan_fails: false,
            troubles,
        }
    }

    /// The first plan of the query, or the plan after it was planned again (`anew`).
    pub(crate) fn graph(&self, anew: bool) -> StageGraph {
        if self.small.is_none() || anew {
            return self.graph.clone();
        }
        let root = Stage { inputs: vec![], after: vec![], tasks: 1, ..self.graph.stage(self.graph.root()).clone() };
        StageGraph::new(vec![Stage { adaptivity: Adaptivity::default(), ..root }]).expect("one stage reads nothing")
    }
}

impl Small {
    fn draw(rng: &mut Rng) -> Option<Self> {
        match rng.between(0, 9) {
            0 => Some(Self::Truly),
            1 => Some(Self::Outgrown),
            _ => None,
        }
    }
}

fn troubles(rng: &mut Rng, graph: &StageGraph) -> BTreeMap<(StageId, TaskIndex), Trouble> {
    let mut troubles = BTreeMap::new();
    for _ in 0..rng.between(1, 2) {
        let stage = StageId(rng.between(0, u64::from(graph.root().0)) as u32);
        let task = TaskIndex(rng.between(0, u64::from(graph.stage(stage).tasks) - 1) as u32);
        let trouble = match rng.between(0, 9) {
            0 => Trouble::UserError,
            1..=3 => Trouble::Internal(rng.between(1, 2) as u32),
            4 | 5 => Trouble::Unavailable(rng.between(1, 4) as u32),
            _ => Trouble::Memory { waves: [4, 16, 64, 256][rng.index(4)] },
        };
        troubles.insert((stage, task), trouble);
    }
    troubles
}

/// Draws a graph of one to seven stages. Each stage except the last is read by one or two later stages.
fn graph(rng: &mut Rng) -> StageGraph {
    let count = rng.between(1, 7) as usize;
    let mut inputs: Vec<Vec<Input>> = vec![vec![]; count];
    for producer in 0..count - 1 {
        for _ in 0..if rng.percent(20) { 2 } else { 1 } {
            let consumer = if rng.percent(60) {
                producer + 1
            } else {
                rng.between(producer as u64 + 1, count as u64 - 1) as usize
            };
            let delivery = if rng.percent(50) { Delivery::Streaming } else { Delivery::Complete };
            let stage = StageId(producer as u32);
            if inputs[consumer].iter().all(|input| input.stage != stage) {
                inputs[consumer].push(Input { stage, delivery, vital: rng.percent(50) });
            }
        }
    }
    let mut stages: Vec<Stage> = inputs.into_iter().map(|inputs| stage(rng, inputs)).collect();
    gather(&mut stages);
    let graph = StageGraph::new(stages.clone()).expect("inputs point to lower numbers");
    waits(rng, &graph, &mut stages);
    joins(rng, &graph, &mut stages);
    layouts(&mut stages);
    if count == 1 && rng.percent(70) {
        (stages[0].determinism, stages[0].wavable) = (Determinism::Repeatable, false);
    }
    // The root stage is not shrunk: the reader of the result expects the planned number of tasks.
    stages[count - 1].adaptivity.bytes_per_task = None;
    StageGraph::new(stages).expect("waits are only added where they are allowed")
}

/// Draws waits like those of run-time filters: some stages of a join's probe side wait for the join's build side. Waits
/// that a stage graph does not allow are left out.
fn waits(rng: &mut Rng, graph: &StageGraph, stages: &mut [Stage]) {
    for (_, join) in graph.iter().filter(|(_, stage)| stage.inputs.len() > 1) {
        let (build, probe) = (join.inputs[0].stage, join.inputs[1].stage);
        let below = graph.iter().map(|(id, _)| id).filter(|id| graph.leads_to(probe, *id, false));
        for stage in below {
            stages[stage.0 as usize].after.push(build);
            if rng.percent(50) || StageGraph::new(stages.to_vec()).is_err() {
                stages[stage.0 as usize].after.pop();
            }
        }
    }
}

/// Draws joins that adapt. Some may switch to a broadcast build side, if no other stage reads the probe side and both
/// stages have the same task count. Some may split heavy partitions.
fn joins(rng: &mut Rng, graph: &StageGraph, stages: &mut [Stage]) {
    for (id, join) in graph.iter().filter(|(_, stage)| stage.inputs.len() > 1) {
        let (build, probe) = (join.inputs[0].stage, join.inputs[1].stage);
        let probed = graph.stage(probe);
        let movable = probed.tasks == join.tasks && probed.output != OutputKind::Forward;
        if graph.consumers(probe).count() == 1 && movable && rng.percent(70) {
            stages[id.0 as usize].adaptivity.join = Some(JoinSwitch { build, probe, max_build_bytes: 150 });
        }
        if rng.percent(50) {
            stages[id.0 as usize].adaptivity.split =
                Some(JoinSplit { build, probe, partitions: PARTITIONS, min_bytes: 60 });
            let probe = stages[id.0 as usize].inputs.iter_mut().find(|input| input.stage == probe);
            probe.expect("joins read their probe sides").delivery = Delivery::Complete;
        }
    }
}

/// Turns adaptation off for stages with a forward exchange: their readers expect certain rows from certain tasks.
fn layouts(stages: &mut [Stage]) {
    for stage in stages.iter_mut().filter(|stage| stage.output == OutputKind::Forward) {
        stage.adaptivity = Adaptivity::default();
    }
}

fn stage(rng: &mut Rng, inputs: Vec<Input>) -> Stage {
    let kinds = [
        OutputKind::Hash,
        OutputKind::Forward,
        OutputKind::Broadcast,
        OutputKind::Gather,
        OutputKind::Merge,
        OutputKind::Range,
    ];
    Stage {
        inputs,
        after: vec![],
        tasks: rng.between(1, 4) as u32,
        reads: if rng.percent(20) { (0..4).map(|_| rng.between(0, 9)).collect() } else { vec![] },
        output: kinds[rng.index(kinds.len())],
        determinism: if rng.percent(25) { Determinism::Varying } else { Determinism::Reproducible },
        wavable: rng.percent(50),
        adaptivity: Adaptivity { bytes_per_task: rng.percent(50).then_some(100), join: None, split: None },
    }
}

/// Gives one task to each stage that reads a gathered or merged output.
fn gather(stages: &mut [Stage]) {
    let single: Vec<bool> =
        stages.iter().map(|stage| matches!(stage.output, OutputKind::Gather | OutputKind::Merge)).collect();
    for stage in stages {
        if stage.inputs.iter().any(|input| single[input.stage.0 as usize]) {
            stage.tasks = 1;
        }
    }
}

impl Trouble {
    /// The failure of the next attempt, if it fails, and the trouble that remains for later attempts.
    pub(crate) fn strike(self, waves: u32) -> (Option<FailureKind>, Self) {
        match self {
            Self::UserError => (Some(FailureKind::UserError), self),
            Self::Internal(0) | Self::Unavailable(0) => (None, self),
            Self::Internal(left) => (Some(FailureKind::Internal), Self::Internal(left - 1)),
            Self::Unavailable(left) => (Some(FailureKind::Unavailable), Self::Unavailable(left - 1)),
            Self::Memory { waves: enough } => ((waves < enough).then_some(FailureKind::ResourcesExhausted), self),
        }
    }
}
