//! Drops rows at the scan if a join above will not match them.
//!
//! DataFusion gives the keys of a join's build side to the scans of the probe side, which skip row groups without these
//! keys. If all row groups have some of the keys, none is skipped. This rule also tests single rows:
//!
//! - If at most 2 % of the rows are expected to match, the scan tests each row. It decodes the other columns only for
//!   rows that pass.
//! - If at most 50 % are expected to match and the join is far (an exchange, an aggregation or a join that drops few
//!   rows lies between), a filter above the scan tests the rows.
//! - Otherwise no test is added: the join itself tests a row at the same cost.
//!
//! ```text
//!   Join: k                         Join: k
//!     build                           build
//!     Repartition: hash(k)    ->      Repartition: hash(k)
//!       Scan                            Filter: k in build
//!                                         Scan
//! ```

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use hwacha_execution::session::hwacha_options;
use hwacha_operators::scan::{file_scan, read_position, with_source};
use hwacha_operators::tree::{at_positions, with_children};

use crate::build_keys::BuildKeys;
use crate::cluster::Cluster;
use crate::estimate::{Estimate, estimate, matching_fraction};
use crate::tuning::{FILTERED_SHARE, SCAN_TESTED_SHARE, USELESS_SHARE};

/// Lets scans, or filters above them, test single rows by the keys of joins.
#[derive(Debug)]
pub struct RowFiltersRule {
    pub cluster: Cluster,
}

impl PhysicalOptimizerRule for RowFiltersRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match hwacha_options(config).optimizer.row_filters {
            true => self.below(&plan, &[]),
            false => Ok(plan),
        }
    }

    fn name(&self) -> &str {
        "row_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The keys of a join's build side, at one node between the join and a scan.
#[derive(Clone, Copy, Debug)]
struct Keys {
    /// The id of the run-time filter with these keys.
    id: u64,
    /// Distinct keys in the filter that the stage of this node gets.
    distinct: f64,
    /// Distinct keys in the filter that other stages get, see `BuildKeys::distinct`.
    distinct_told: f64,
    /// Whether an exchange, an aggregation or a join that drops few rows lies between this node and the join.
    far: bool,
}

impl Keys {
    fn of(join: &HashJoinExec, id: u64) -> Result<Self> {
        let distinct = estimate(join.left())?.distinct(join.on().iter().map(|(left, _)| left));
        Ok(Self { id, distinct, distinct_told: BuildKeys::of(join)?.distinct, far: false })
    }
}

impl RowFiltersRule {
    fn below(&self, plan: &Arc<dyn ExecutionPlan>, keys: &[Keys]) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some((scan, node)) = scan_of(plan) {
            return filtered(plan, node, scan, keys);
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            // If this join keeps at least half of its probe rows, the filters of the joins above are tested below it, so
            // it reads fewer rows. Such filters are `far`.
            let far = !keys.is_empty() && estimate(plan)?.rows >= FILTERED_SHARE * estimate(join.right())?.rows;
            let mut probe: Vec<_> = keys.iter().map(|keys| Keys { far: keys.far || far, ..*keys }).collect();
            if let Some(id) = plan.dynamic_expressions_produced().first().and_then(|filter| filter.expression_id()) {
                probe.push(Keys::of(join, id)?);
            }
            return with_children(plan, vec![self.below(join.left(), keys)?, self.below(join.right(), &probe)?]);
        }
        let exchange = plan.is::<RepartitionExec>() && self.cluster.tasks > 1;
        let far = |keys: &Keys| Keys {
            distinct: if exchange { keys.distinct_told } else { keys.distinct },
            far: keys.far || exchange || plan.is::<AggregateExec>(),
            ..*keys
        };
        let keys: Vec<_> = keys.iter().map(far).collect();
        let children = plan.children().into_iter().map(|child| self.below(child, &keys)).collect::<Result<Vec<_>>>()?;
        if children.iter().zip(plan.children()).all(|(new, old)| Arc::ptr_eq(new, old)) {
            return Ok(Arc::clone(plan));
        }
        with_children(plan, children)
    }
}

/// The file scan at the top of `plan`, and its node. A filter above the scan is skipped.
fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<(&FileScanConfig, &Arc<dyn ExecutionPlan>)> {
    let node = plan.downcast_ref::<FilterExec>().map_or(plan, FilterExec::input);
    Some((file_scan(node)?, node))
}

/// `plan` with a test of single rows if this saves time: in the scan `node`, or in a new filter above `plan`.
fn filtered(
    plan: &Arc<dyn ExecutionPlan>,
    node: &Arc<dyn ExecutionPlan>,
    scan: &FileScanConfig,
    keys: &[Keys],
) -> Result<Arc<dyn ExecutionPlan>> {
    let unchanged = || Ok(Arc::clone(plan));
    let Some(source) = scan.file_source().downcast_ref::<ParquetSource>() else { return unchanged() };
    let Some(predicate) = source.filter() else { return unchanged() };
    let read = Read { scan: estimate(node)?, source };
    let (mut few, mut some, mut far) = (false, vec![], vec![]);
    for part in split_conjunction(&predicate) {
        let part = Arc::clone(part);
        let passing = read.passing(&part, keys);
        if passing.is_some_and(|(share, _)| share > USELESS_SHARE) {
            continue;
        }
        // The query's own conditions are tested last.
        let (share, is_far) = passing.unwrap_or((1.0, false));
        few |= share <= SCAN_TESTED_SHARE;
        far.extend((is_far && share <= FILTERED_SHARE).then(|| Arc::clone(&part)));
        some.push((share, part));
    }
    if few {
        // The most selective test comes first: each test decodes its columns only for rows that passed the earlier
        // tests.
        some.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let predicate = conjunction(some.into_iter().map(|(_, part)| part));
        let source = source.with_predicate(predicate).with_pushdown_filters(true);
        let scan = with_source(node, scan, Arc::new(source))?;
        return if Arc::ptr_eq(plan, node) { Ok(scan) } else { with_children(plan, vec![scan]) };
    }
    if far.is_empty() {
        return unchanged();
    }
    let projection = plan.downcast_ref::<FilterExec>().and_then(|filter| filter.projection().as_deref());
    let tests = far.iter().map(|part| read.over_output(part, projection, &plan.schema()));
    let tests: Vec<_> = tests.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    match tests.is_empty() {
        true => unchanged(),
        false => Ok(Arc::new(FilterExec::try_new(conjunction(tests), Arc::clone(plan))?)),
    }
}

/// The estimate and the source of a scan. The source's predicate uses positions of the table's columns, not of the
/// scan's output.
struct Read<'a> {
    scan: Estimate,
    source: &'a ParquetSource,
}

impl Read<'_> {
    /// The share of rows that pass `part` of the predicate, and whether the join is far. `None` if `part` is not the
    /// run-time filter of a join above.
    fn passing(&self, part: &Arc<dyn PhysicalExpr>, keys: &[Keys]) -> Option<(f64, bool)> {
        let id = part.downcast_ref::<DynamicFilterPhysicalExpr>()?.expression_id()?;
        let keys = keys.iter().find(|keys| keys.id == id)?;
        let distinct: f64 = collect_columns(part)
            .iter()
            .filter_map(|column| self.scan.columns.get(read_position(self.source, column.index())?))
            .map(|column| column.distinct)
            .product();
        Some((matching_fraction(distinct.min(self.scan.rows), keys.distinct), keys.far))
    }

    /// `part` over the output of the scan, or of the filter above the scan, which has this `projection`. `None` if the
    /// output lacks a column that `part` tests.
    fn over_output(
        &self,
        part: &Arc<dyn PhysicalExpr>,
        projection: Option<&[usize]>,
        schema: &Schema,
    ) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let place = |column: usize| {
            let output = read_position(self.source, column)?;
            projection.map_or(Some(output), |kept| kept.iter().position(|kept| *kept == output))
        };
        let is_given = collect_columns(part).iter().all(|column| place(column.index()).is_some());
        let over = is_given.then(|| at_positions(part, schema, |column| place(column).expect("all are given")));
        over.transpose()
    }
}
