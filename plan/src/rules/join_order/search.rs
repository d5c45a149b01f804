//! Searches for the cheapest order of a region's joins. For up to `EXHAUSTIVE_RELATIONS` relations all orders are
//! tried. For more relations the search is greedy: each step joins the two sets whose join has the fewest rows.

use std::collections::HashMap;

use datafusion::physical_plan::joins::PartitionMode;

use super::super::cost::{Costs, Rows, Sides};
use super::region::{Condition, Existence, Key, Region, Relations};
use crate::estimate::{Estimate, matching_fraction, selectivity};
use crate::tuning::{EXHAUSTIVE_RELATIONS, LEAST_UNMATCHED};

/// How a set of relations becomes one plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Relation(usize),
    /// For a semi or anti join, `existence` is the inner relation, which alone is one of the two sides.
    Join {
        build: Relations,
        probe: Relations,
        mode: PartitionMode,
        existence: Option<usize>,
    },
    /// A join without an equality.
    Pairs {
        build: Relations,
        probe: Relations,
    },
}

/// The cheapest known plan of a set of relations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    pub step: Step,
    rows: Rows,
    cost: f64,
}

/// The distinct values of the keys that join two sets of relations.
#[derive(Clone, Copy, Debug)]
struct LinkKeys {
    left: f64,
    right: f64,
    /// The divisor in the row count of the join: left rows * right rows / `both`.
    both: f64,
}

/// The cheapest known plan of each set of relations.
pub(super) type Order = HashMap<Relations, Best>;

/// The cheapest plans found for the sets of a region's relations, among them the set of all relations.
pub(super) fn search(region: &Region, costs: Costs) -> Order {
    let search = Search::new(region, costs);
    if region.relations.len() > EXHAUSTIVE_RELATIONS {
        return search.greedy();
    }
    let order = search.exhaustive(false);
    match order.contains_key(&search.all()) {
        true => order,
        // No equality links some relations, so joins without an equality are tried too.
        false => search.exhaustive(true),
    }
}

struct Search<'a> {
    region: &'a Region,
    costs: Costs,
    /// For each class of equal keys: the relations, each with the number of distinct values of its key.
    classes: Vec<Vec<(usize, f64)>>,
    conditions: Vec<(Relations, f64)>,
}

impl<'a> Search<'a> {
    fn new(region: &'a Region, costs: Costs) -> Self {
        let distinct = |key: &Key| (key.relation, region.relations[key.relation].estimate.distinct([&key.expr]));
        let classes = region.equalities.iter().map(|class| class.iter().map(distinct).collect()).collect();
        let conditions =
            region.conditions.iter().map(|it| (it.relations(), condition_selectivity(region, it))).collect();
        Self { region, costs, classes, conditions }
    }

    fn all(&self) -> Relations {
        (1 << self.region.relations.len()) - 1
    }

    fn relations(&self) -> Order {
        let single = |(index, relation): (usize, &super::region::Relation)| {
            let rows = Rows::of(&relation.estimate);
            (1 << index, Best { step: Step::Relation(index), rows, cost: 0.0 })
        };
        self.region.relations.iter().enumerate().map(single).collect()
    }

    fn exhaustive(&self, pairs: bool) -> Order {
        let mut order = self.relations();
        for set in 1..=self.all() {
            if set.count_ones() < 2 {
                continue;
            }
            // Each split of the set is tried once: `part` always contains the lowest relation.
            let lowest = set & set.wrapping_neg();
            let mut part = (set - 1) & set;
            while part > 0 {
                if part & lowest != 0
                    && let (Some(left), Some(right)) = (order.get(&part), order.get(&(set & !part)))
                    && let Some(best) = self.join(part, left, set & !part, right, pairs)
                {
                    match order.get_mut(&set) {
                        None => drop(order.insert(set, best)),
                        // A cheaper plan keeps the row estimate of the first plan: the rows of a set do not depend on
                        // the join order.
                        Some(known) if best.cost < known.cost => *known = Best { rows: known.rows, ..best },
                        Some(_) => {}
                    }
                }
                part = (part - 1) & set;
            }
        }
        order
    }

    /// Joins the two sets whose join has the fewest rows, until one set is left.
    fn greedy(&self) -> Order {
        let mut order = self.relations();
        let mut sets: Vec<Relations> = order.keys().copied().collect();
        sets.sort_unstable();
        while sets.len() > 1 {
            let candidates = |pairs: bool| {
                let mut best: Option<(usize, usize, Best)> = None;
                for (i, left) in sets.iter().enumerate() {
                    for (j, right) in sets.iter().enumerate().skip(i + 1) {
                        let Some(found) = self.join(*left, &order[left], *right, &order[right], pairs) else {
                            continue;
                        };
                        let is_better = best
                            .as_ref()
                            .is_none_or(|(_, _, best)| (found.rows.rows, found.cost) < (best.rows.rows, best.cost));
                        if is_better {
                            best = Some((i, j, found));
                        }
                    }
                }
                best
            };
            let found = candidates(false).or_else(|| candidates(true));
            let (i, j, best) = found.expect("any two sets can be paired, once what they are tested for is there");
            let joined = sets[i] | sets[j];
            sets.remove(j);
            sets[i] = joined;
            order.insert(joined, best);
        }
        order
    }

    /// The cheapest join of two sets. `None` if they cannot be joined yet, or if no equality links them and `pairs` is
    /// not set.
    fn join(&self, left_set: Relations, left: &Best, right_set: Relations, right: &Best, pairs: bool) -> Option<Best> {
        match (self.existence(left_set), self.existence(right_set)) {
            (Some(_), Some(_)) => None,
            (None, Some((index, existence))) => self.test(left_set, left, index, existence, right),
            (Some((index, existence)), None) => self.test(right_set, right, index, existence, left),
            (None, None) => self.combine(left_set, left, right_set, right, pairs),
        }
    }

    /// The relation that `set` consists of, if it is the inner relation of a semi or anti join.
    fn existence(&self, set: Relations) -> Option<(usize, &'a Existence)> {
        let index = set.trailing_zeros() as usize;
        let existence = self.region.relations[index].existence.as_ref().filter(|_| set.count_ones() == 1)?;
        Some((index, existence))
    }

    fn combine(
        &self,
        left_set: Relations,
        left: &Best,
        right_set: Relations,
        right: &Best,
        pairs: bool,
    ) -> Option<Best> {
        let keys = self.keys(left_set, left.rows.rows, right_set, right.rows.rows);
        if keys.is_none() && !pairs {
            return None;
        }
        let both = left_set | right_set;
        let now = |set: &Relations| set & !both == 0 && set & !left_set != 0 && set & !right_set != 0;
        let kept: f64 = self.conditions.iter().filter(|(set, _)| now(set)).map(|(_, share)| share).product();
        let rows = Rows {
            rows: left.rows.rows * right.rows.rows / keys.map_or(1.0, |keys| keys.both) * kept,
            row_bytes: left.rows.row_bytes + right.rows.row_bytes,
            row_texts: left.rows.row_texts + right.rows.row_texts,
        };
        let step = |build: &Best, build_set, probe: &Best, probe_set| match keys {
            Some(keys) => {
                let (build_keys, probe_keys) =
                    if build_set == left_set { (keys.left, keys.right) } else { (keys.right, keys.left) };
                let sides =
                    Sides { build: build.rows, probe: probe.rows, matching: matching_fraction(probe_keys, build_keys) };
                let (mode, cost) = self.costs.join(sides, rows, true);
                (Step::Join { build: build_set, probe: probe_set, mode, existence: None }, cost)
            }
            None => {
                let cost = self.costs.cross(build.rows, probe.rows, rows);
                (Step::Pairs { build: build_set, probe: probe_set }, cost)
            }
        };
        let (step, cost) = cheaper(step(left, left_set, right, right_set), step(right, right_set, left, left_set));
        Some(Best { step, rows, cost: left.cost + right.cost + cost })
    }

    /// The distinct values of the keys that link two sets; `None` if no equality links them.
    fn keys(&self, left_set: Relations, left_rows: f64, right_set: Relations, right_rows: f64) -> Option<LinkKeys> {
        let (mut left_keys, mut right_keys, mut linked) = (1.0, 1.0, false);
        for class in &self.classes {
            let fewest = |set: Relations| {
                class
                    .iter()
                    .filter(|(relation, _)| set >> relation & 1 == 1)
                    .map(|(_, distinct)| *distinct)
                    .reduce(f64::min)
            };
            if let (Some(left), Some(right)) = (fewest(left_set), fewest(right_set)) {
                left_keys *= left;
                right_keys *= right;
                linked = true;
            }
        }
        let (left, right) = (left_keys.min(left_rows).max(1.0), right_keys.min(right_rows).max(1.0));
        // If each side has fewer rows than its key columns have combinations of values, the columns depend on each
        // other. Then each combination is assumed to occur once on the side with fewer rows.
        let dependent = left < left_keys && right < right_keys;
        linked.then(|| LinkKeys { left, right, both: if dependent { left.min(right) } else { left.max(right) } })
    }

    /// A semi or anti join of a set with the relation `index`.
    fn test(&self, set: Relations, outer: &Best, index: usize, existence: &Existence, inner: &Best) -> Option<Best> {
        let mut outer_keys = 1.0;
        for (key, _) in &existence.on {
            let key = self.region.equals(key).find(|key| set >> key.relation & 1 == 1)?;
            outer_keys *= self.region.relations[key.relation].estimate.distinct([&key.expr]);
        }
        let needed = existence.filter.as_ref().map_or(0, Condition::relations) & !(1 << index);
        if needed & !set != 0 {
            return None;
        }
        let inner_keys = self.region.relations[index].estimate.distinct(existence.on.iter().map(|(_, inner)| inner));
        let matching = matching_fraction(outer_keys.min(outer.rows.rows), inner_keys);
        let kept = if existence.anti { (1.0 - matching).max(LEAST_UNMATCHED) } else { matching };
        let rows = Rows { rows: outer.rows.rows * kept, ..outer.rows };
        let inner_set = 1 << index;
        // An anti join emits outer rows without a partner, so a run-time filter must not drop them.
        let outer_matching = if existence.anti { 1.0 } else { matching };
        let inner_matching = matching_fraction(inner_keys, outer_keys.min(outer.rows.rows));
        let outer_builds = Sides { build: outer.rows, probe: inner.rows, matching: inner_matching };
        let inner_builds = Sides { build: inner.rows, probe: outer.rows, matching: outer_matching };
        // A collected outer side would emit its rows in each task, so it is collected only if there is one task.
        let (outer_mode, outer_cost) = self.costs.join(outer_builds, rows, self.costs.cluster.tasks == 1);
        let (inner_mode, inner_cost) = self.costs.join(inner_builds, rows, true);
        let step = |build, probe, mode| Step::Join { build, probe, mode, existence: Some(index) };
        let (step, cost) =
            cheaper((step(inner_set, set, inner_mode), inner_cost), (step(set, inner_set, outer_mode), outer_cost));
        Some(Best { step, rows, cost: outer.cost + inner.cost + cost })
    }
}

fn cheaper(first: (Step, f64), second: (Step, f64)) -> (Step, f64) {
    if second.1 < first.1 { second } else { first }
}

fn condition_selectivity(region: &Region, condition: &Condition) -> f64 {
    let columns: Vec<_> = condition
        .columns
        .iter()
        .map(|column| region.relations[column.relation].estimate.columns[column.column].clone())
        .collect();
    selectivity(&condition.expr, &Estimate { rows: f64::MAX, columns })
}
