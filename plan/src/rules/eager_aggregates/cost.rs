//! Chooses the place below an aggregation where aggregating its rows first saves the most time.

use datafusion::common::{JoinSide, Result};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use super::super::cost::{Costs, Rows, group_row};
use super::path::{Path, Step};
use crate::estimate::{Estimate, estimate};
use crate::tuning::EAGER_COST_SHARE;

/// The depth in the path where an earlier aggregation saves the most time. `None` if none saves enough. An aggregation
/// of fewer than `least_rows` rows is not considered.
pub(super) fn best_depth(
    aggregate: &AggregateExec,
    path: &Path,
    least_rows: usize,
    costs: Costs,
) -> Result<Option<usize>> {
    let given = path.0.iter().map(|step| estimate(&step.plan)).collect::<Result<Vec<_>>>()?;
    let mut above = grouping(aggregate, &given[0]);
    let mut best = None;
    for depth in 1..path.0.len() {
        above += passing(&path.0[depth - 1], &given[depth], &given[depth - 1], costs)?;
        let rows = given[depth].rows;
        if rows < least_rows as f64 || !path.can_aggregate(depth) {
            continue;
        }
        let left = groups(&path.0[depth], &given[depth]) * costs.cluster.partitions() as f64 / rows;
        let (eager, saved) = (rows * eager_row(&path.0[depth], &given[depth]), above * (1.0 - left));
        let gain = saved - eager;
        if gain > (1.0 - EAGER_COST_SHARE) * above && best.is_none_or(|(_, most)| gain > most) {
            best = Some((depth, gain));
        }
    }
    Ok(best.map(|(depth, _)| depth))
}

/// The cost of `aggregate` over `rows`.
fn grouping(aggregate: &AggregateExec, rows: &Estimate) -> f64 {
    let keys = aggregate.group_expr().expr();
    let columns = keys.iter().flat_map(|(expr, _)| collect_columns(expr));
    let texts = columns.filter(|column| rows.columns.get(column.index()).is_some_and(|it| it.is_text)).count();
    let groups = rows.distinct(keys.iter().map(|(expr, _)| expr));
    let sets = aggregate.group_expr().groups().len().max(1) as f64;
    rows.rows * sets * group_row(groups, keys.len(), texts)
}

/// The cost of the rows from `below` in the node of `step`: to move them, to build or probe, and to emit the output.
/// It is 0 if the node is no join.
fn passing(step: &Step, below: &Estimate, output: &Estimate, costs: Costs) -> Result<f64> {
    let Some(join) = step.plan.downcast_ref::<HashJoinExec>() else { return Ok(0.0) };
    let (rows, output) = (Rows::of(below), Rows::of(output));
    let probes = step.side != JoinSide::Left;
    let built = if probes { estimate(join.left())?.rows } else { below.rows };
    let moves = *join.partition_mode() == PartitionMode::Partitioned;
    Ok(costs.one_side(rows, moves, built, probes, output))
}

fn groups(step: &Step, rows: &Estimate) -> f64 {
    let distinct = |key: &usize| rows.columns.get(*key).map_or(f64::INFINITY, |column| column.distinct);
    step.needs.keys.iter().map(distinct).product::<f64>().min(rows.rows).max(1.0)
}

fn eager_row(step: &Step, rows: &Estimate) -> f64 {
    let is_text = |key: &&usize| rows.columns.get(**key).is_some_and(|column| column.is_text);
    group_row(groups(step, rows), step.needs.keys.len(), step.needs.keys.iter().filter(is_text).count())
}
