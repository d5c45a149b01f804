//! Merges equal stages into one, for example the scans of a small table that several joins broadcast.
//!
//! ```text
//!   0: scan dates -> broadcast                   0: scan dates -> broadcast
//!   1: join sales, source(0)            ->       1: join sales, source(0)
//!   2: scan dates -> broadcast                   2: join returns, source(0)
//!   3: join returns, source(2)
//! ```
//!
//! `Mark::Shared` adds an exchange. Merging equal stages adds none, because each stage already ends in one. So stages
//! are merged after the cut, when all filters are in their places. Stages whose scans test different filters stay
//! different. Executors know a stage only by its encoding, so two stages are equal if their encodings are equal after
//! their inputs were merged.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_plan::displayable;
use hwacha_model::StageId;
use hwacha_operators::determinism::is_volatile_plan;
use hwacha_operators::exchange::{ExchangeSourceExec, SourceSpec};

use super::StagePlan;
use super::exchanges::FinishedStage;

/// Merges equal stages. `stages` and the result are in order, producers first.
pub(super) fn merged(stages: Vec<FinishedStage>) -> Result<Vec<FinishedStage>> {
    let mut different = Different::default();
    for stage in stages {
        different.add(stage)?;
    }
    let Different { mut stages, numbers, .. } = different;
    for stage in &mut stages {
        stage.after = stage.after.iter().map(|after| numbers[after.0 as usize]).collect();
    }
    Ok(stages)
}

/// The stages that are not equal to an earlier stage.
#[derive(Default)]
struct Different {
    stages: Vec<FinishedStage>,
    /// Indices into `stages`, by the displayed plan. Only stages with the same text are compared by their encodings.
    alike: HashMap<String, Vec<usize>>,
    /// The new number of each given stage.
    numbers: Vec<StageId>,
}

impl Different {
    fn add(&mut self, mut stage: FinishedStage) -> Result<()> {
        stage.plan = self.renumbered(stage.plan)?;
        let bare = stage.without_taps();
        let text = displayable(bare.as_ref()).indent(false).to_string();
        let alike = self.alike.entry(text).or_default();
        let stages = &mut self.stages;
        let number = match alike.iter().copied().find(|other| is_equal(&stages[*other], &stage, &bare)) {
            Some(number) => {
                stages[number].add_taps(stage.sink().taps().cloned());
                stages[number].after.extend(stage.after);
                number
            }
            None => {
                alike.push(stages.len());
                stages.push(stage);
                stages.len() - 1
            }
        };
        self.numbers.push(StageId(number as u32));
        Ok(())
    }

    /// `plan` with the new numbers of its inputs.
    fn renumbered(&self, plan: StagePlan) -> Result<StagePlan> {
        plan.transform_up(|node| {
            let Some(source) = node.downcast_ref::<ExchangeSourceExec>() else { return Ok(Transformed::no(node)) };
            let stage = self.numbers[source.spec().stage.0 as usize];
            if stage == source.spec().stage {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(Arc::new(ExchangeSourceExec::new(SourceSpec { stage, ..source.spec().clone() }))))
        })
        .data()
    }
}

/// Whether two stages write the same rows. `bare` is the plan of `other` without its run-time filters in the sink.
fn is_equal(one: &FinishedStage, other: &FinishedStage, bare: &StagePlan) -> bool {
    let encoded = |plan: &StagePlan| hwacha_codec::encode(plan).ok();
    let is_same = || encoded(bare).is_some_and(|bytes| encoded(&one.without_taps()) == Some(bytes));
    one.tasks == other.tasks && !is_volatile_plan(bare).unwrap_or(true) && is_same()
}
