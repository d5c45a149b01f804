//! Makes one stage of those that are equal, such as scans of a small table whose rows several joins want everywhere.
//!
//! Unlike parts that are marked as shared, these cost no exchange: each had one of its own. So they are looked for when
//! all filters are where they belong, and stages whose scans test different filters are different. What executors know of
//! a stage is its encoding; so stages do the same when their encodings are equal, once what they read has become one.

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

/// The stages, producers first, of which no two are equal.
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

/// The stages that are not equal to an earlier one.
#[derive(Default)]
struct Different {
    stages: Vec<FinishedStage>,
    /// Those that look alike.
    alike: HashMap<String, Vec<usize>>,
    /// What each of the given stages has become.
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

    /// `plan`, which reads what its inputs have become.
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

/// Whether two stages, the second of which is `bare` without its taps, write the same rows.
fn is_equal(one: &FinishedStage, other: &FinishedStage, bare: &StagePlan) -> bool {
    let encoded = |plan: &StagePlan| hwacha_codec::encode(plan).ok();
    let is_same = || encoded(bare).is_some_and(|bytes| encoded(&one.without_taps()) == Some(bytes));
    one.tasks == other.tasks && !is_volatile_plan(bare).unwrap_or(true) && is_same()
}
