//! Builds the plan of a region in the order that the search has found.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{JoinSide, JoinType, Result, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::conjunction;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use hwacha_operators::tree::at_positions;

use super::region::{Condition, Existence, Key, Region, RegionColumn, Relations};
use super::search::{Order, Step};

/// The plan of the whole region. Its columns have the order and the names of `original`'s columns.
pub(super) fn rebuild(
    region: &Region,
    order: &Order,
    original: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let all = (1 << region.relations.len()) - 1;
    let needed = region.outputs.iter().copied().collect();
    let joined = Rebuild { region, order }.set(all, &needed)?;
    let schema = original.schema();
    let columns = region.outputs.iter().zip(schema.fields()).map(|(column, field)| {
        let index = joined.position(*column)?;
        let expr = Arc::new(Column::new(joined.plan.schema().field(index).name(), index));
        Ok(ProjectionExpr { expr, alias: field.name().clone() })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, joined.plan)?))
}

/// A plan whose output has the region's column `columns[i]` at position `i`.
struct Joined {
    plan: Arc<dyn ExecutionPlan>,
    columns: Vec<RegionColumn>,
}

impl Joined {
    fn position(&self, column: RegionColumn) -> Result<usize> {
        self.columns
            .iter()
            .position(|known| *known == column)
            .ok_or_else(|| internal_datafusion_err!("a column that a join needs was not kept below it"))
    }

    fn key(&self, key: &Key) -> Result<Arc<dyn PhysicalExpr>> {
        for column in key.columns() {
            self.position(column)?;
        }
        at_positions(&key.expr, &self.plan.schema(), |column| {
            self.position(RegionColumn { relation: key.relation, column }).expect("it was looked up before")
        })
    }
}

struct Rebuild<'a> {
    region: &'a Region,
    order: &'a Order,
}

impl Rebuild<'_> {
    /// The plan of a set of relations. Its output has at least the columns `needed`.
    fn set(&self, set: Relations, needed: &BTreeSet<RegionColumn>) -> Result<Joined> {
        let best = self.order.get(&set).ok_or_else(|| internal_datafusion_err!("a set of relations was not joined"))?;
        match best.step {
            Step::Relation(relation) => {
                let plan = Arc::clone(&self.region.relations[relation].plan);
                let columns = (0..plan.schema().fields().len()).map(|column| RegionColumn { relation, column });
                Ok(Joined { columns: columns.collect(), plan })
            }
            Step::Join { build, probe, mode, existence: Some(index) } => {
                let existence = self.region.relations[index].existence.as_ref().expect("it was found by it");
                self.test(build, probe, mode, (index, existence), needed)
            }
            Step::Join { build, probe, mode, existence: None } => self.join(build, probe, mode, needed),
            Step::Pairs { build, probe } => self.pairs(build, probe, needed),
        }
    }

    fn join(
        &self,
        build: Relations,
        probe: Relations,
        mode: PartitionMode,
        needed: &BTreeSet<RegionColumn>,
    ) -> Result<Joined> {
        let of = |set: Relations| move |key: &&Key| set >> key.relation & 1 == 1;
        let links: Vec<(&Key, &Key)> = self
            .region
            .equalities
            .iter()
            .filter_map(|class| class.iter().find(of(build)).zip(class.iter().find(of(probe))))
            .collect();
        let conditions = self.conditions(build, probe);
        let mut below = needed.clone();
        below.extend(links.iter().flat_map(|(build, probe)| build.columns().chain(probe.columns())));
        below.extend(conditions.iter().flat_map(|condition| condition.columns.iter().copied()));
        let (build, probe) = (self.set(build, &within(&below, build))?, self.set(probe, &within(&below, probe))?);
        let on = links.iter().map(|(left, right)| Ok((build.key(left)?, probe.key(right)?))).collect::<Result<_>>()?;
        let filter = join_filter(&conditions, &build, &probe)?;
        let (columns, kept) = kept(build.columns.iter().chain(&probe.columns), needed);
        let join = HashJoinExecBuilder::new(build.plan, probe.plan, on, JoinType::Inner)
            .with_partition_mode(mode)
            .with_filter(filter)
            .with_projection(kept)
            .build_exec()?;
        Ok(Joined { plan: join, columns })
    }

    fn test(
        &self,
        build: Relations,
        probe: Relations,
        mode: PartitionMode,
        (index, existence): (usize, &Existence),
        needed: &BTreeSet<RegionColumn>,
    ) -> Result<Joined> {
        let inner_builds = build == 1 << index;
        let (inner_set, outer_set) = if inner_builds { (build, probe) } else { (probe, build) };
        let on = existence.on.iter().map(|(outer, inner)| {
            let outer = self.region.equals(outer).find(|key| outer_set >> key.relation & 1 == 1);
            outer
                .map(|outer| (outer, inner))
                .ok_or_else(|| internal_datafusion_err!("a semi join was placed below the columns that it looks at"))
        });
        let on: Vec<(&Key, &Arc<dyn PhysicalExpr>)> = on.collect::<Result<_>>()?;
        let mut below = needed.clone();
        below.extend(on.iter().flat_map(|(outer, _)| outer.columns()));
        below.extend(existence.filter.iter().flat_map(|filter| filter.columns.iter().copied()));
        let inner = self.set(inner_set, &within(&below, inner_set))?;
        let outer = self.set(outer_set, &within(&below, outer_set))?;
        let pairs = on.iter().map(|(key, inner)| {
            let (outer, inner) = (outer.key(key)?, Arc::clone(inner));
            Ok(if inner_builds { (inner, outer) } else { (outer, inner) })
        });
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let join_type = match (existence.anti, inner_builds) {
            (false, true) => JoinType::RightSemi,
            (false, false) => JoinType::LeftSemi,
            (true, true) => JoinType::RightAnti,
            (true, false) => JoinType::LeftAnti,
        };
        let (columns, kept) = kept(outer.columns.iter(), needed);
        let filters: Vec<&Condition> = existence.filter.iter().collect();
        let (build, probe) = if inner_builds { (inner, outer) } else { (outer, inner) };
        let filter = join_filter(&filters, &build, &probe)?;
        let join = HashJoinExecBuilder::new(build.plan, probe.plan, pairs, join_type)
            .with_partition_mode(mode)
            .with_null_equality(existence.null_equality)
            .with_filter(filter)
            .with_projection(kept)
            .build_exec()?;
        Ok(Joined { plan: join, columns })
    }

    fn pairs(&self, build: Relations, probe: Relations, needed: &BTreeSet<RegionColumn>) -> Result<Joined> {
        let conditions = self.conditions(build, probe);
        let mut below = needed.clone();
        below.extend(conditions.iter().flat_map(|condition| condition.columns.iter().copied()));
        let (build, probe) = (self.set(build, &within(&below, build))?, self.set(probe, &within(&below, probe))?);
        let all = build.columns.iter().chain(&probe.columns);
        let Some(filter) = join_filter(&conditions, &build, &probe)? else {
            let columns = all.copied().collect();
            return Ok(Joined { plan: Arc::new(CrossJoinExec::new(build.plan, probe.plan)), columns });
        };
        let (columns, kept) = kept(all, needed);
        let join = NestedLoopJoinExec::try_new(build.plan, probe.plan, Some(filter), &JoinType::Inner, kept)?;
        Ok(Joined { plan: Arc::new(join), columns })
    }

    /// The conditions that the join of the two sets tests: they use columns of both sets and of no other relation.
    fn conditions(&self, left: Relations, right: Relations) -> Vec<&Condition> {
        let now = |set: Relations| set & !(left | right) == 0 && set & !left != 0 && set & !right != 0;
        self.region.conditions.iter().filter(|condition| now(condition.relations())).collect()
    }
}

fn within(columns: &BTreeSet<RegionColumn>, set: Relations) -> BTreeSet<RegionColumn> {
    columns.iter().copied().filter(|column| set >> column.relation & 1 == 1).collect()
}

/// The needed columns of a join, and their positions. The positions are `None` if all columns are needed.
fn kept<'a>(
    columns: impl Iterator<Item = &'a RegionColumn>,
    needed: &BTreeSet<RegionColumn>,
) -> (Vec<RegionColumn>, Option<Vec<usize>>) {
    let all: Vec<_> = columns.copied().collect();
    let positions: Vec<_> = (0..all.len()).filter(|position| needed.contains(&all[*position])).collect();
    if positions.len() == all.len() {
        return (all, None);
    }
    (positions.iter().map(|position| all[*position]).collect(), Some(positions))
}

fn join_filter(conditions: &[&Condition], left: &Joined, right: &Joined) -> Result<Option<JoinFilter>> {
    let mut columns: Vec<RegionColumn> = conditions.iter().flat_map(|it| it.columns.iter().copied()).collect();
    columns.sort_unstable();
    columns.dedup();
    if columns.is_empty() {
        return Ok(None);
    }
    let (mut indices, mut fields) = (vec![], vec![]);
    for column in &columns {
        let (side, joined) = match left.position(*column) {
            Ok(_) => (JoinSide::Left, left),
            Err(_) => (JoinSide::Right, right),
        };
        let index = joined.position(*column)?;
        indices.push(ColumnIndex { index, side });
        fields.push(Arc::clone(&joined.plan.schema().fields()[index]));
    }
    let schema = Arc::new(Schema::new(fields));
    let exprs = conditions.iter().map(|condition| {
        at_positions(&condition.expr, &schema, |index| {
            columns.binary_search(&condition.columns[index]).expect("all columns of all conditions are there")
        })
    });
    let expr = conjunction(exprs.collect::<Result<Vec<_>>>()?);
    Ok(Some(JoinFilter::new(expr, indices, schema)))
}
