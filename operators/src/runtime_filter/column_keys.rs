//! The known values of one key column: all values while they are few, then only the least and the greatest.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::is_not_null;
use arrow::compute::kernels::cmp::neq;
use arrow::datatypes::Schema;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::{Accumulator, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, in_list, is_null, lit};
use datafusion::physical_expr::utils::conjunction;
use hwacha_proto::exchange as wire;
use prost::Message;

use super::broken;
use crate::scalars::{decode_scalar, encode_scalar};

/// Most values of a list (20: DataFusion does not prune by a longer list, see docs/decisions/004).
const MOST_LISTED: usize = 20;

/// The values of one key column.
#[derive(Clone, Debug)]
pub(super) struct ColumnKeys {
    values: Values,
    has_null: bool,
}

/// The values that are not NULL.
#[derive(Clone, Debug)]
enum Values {
    /// All values, each once.
    Few(Vec<ScalarValue>),
    /// The least and the greatest.
    Between(ScalarValue, ScalarValue),
    /// Any value, because the values have no order.
    Any,
}

impl ColumnKeys {
    /// No values yet.
    pub(super) fn none() -> Self {
        Self { values: Values::Few(vec![]), has_null: false }
    }

    /// Adds all values of an array.
    pub(super) fn add(&mut self, more: &ArrayRef) {
        let nulls = more.logical_null_count();
        self.has_null |= nulls > 0;
        if nulls == more.len() {
            return;
        }
        let listed = match &self.values {
            Values::Few(few) => with_more(few, more),
            Values::Between(..) | Values::Any => None,
        };
        self.values = listed.map_or_else(|| self.values.spanning(&Values::between(bounds(more))), Values::Few);
    }

    /// Adds the values of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        self.has_null |= other.has_null;
        self.values = self.values.united(&other.values);
    }

    /// Whether all values are listed. [`ColumnKeys::test`] then lets no other value pass.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.values, Values::Few(_))
    }

    /// A predicate on `key` over rows of `schema`, by which a scan also skips files and row groups; `None` if neither
    /// values nor bounds are known. NULL passes if the build side has NULL and NULLs match each other.
    pub(super) fn test(
        &self,
        key: &Arc<dyn PhysicalExpr>,
        schema: &Schema,
        nulls_match: bool,
    ) -> Option<Arc<dyn PhysicalExpr>> {
        let compare = |operator, value: &ScalarValue| -> Arc<dyn PhysicalExpr> {
            Arc::new(BinaryExpr::new(Arc::clone(key), operator, lit(value.clone())))
        };
        let test = match &self.values {
            Values::Few(few) if few.is_empty() => lit(false),
            Values::Few(few) => {
                in_list(Arc::clone(key), few.iter().cloned().map(lit).collect(), &false, schema).ok()?
            }
            Values::Between(least, greatest) => {
                conjunction([compare(Operator::GtEq, least), compare(Operator::LtEq, greatest)])
            }
            Values::Any => return None,
        };
        Some(match nulls_match && self.has_null {
            true => Arc::new(BinaryExpr::new(is_null(Arc::clone(key)).ok()?, Operator::Or, test)),
            false => test,
        })
    }

    /// The values in their wire form.
    pub(super) fn to_wire(&self) -> Result<wire::ColumnKeys> {
        let values = match &self.values {
            Values::Few(few) => {
                let values = few.iter().map(encoded).collect::<Result<_>>()?;
                Some(wire::column_keys::Values::Few(wire::ListedKeys { values }))
            }
            Values::Between(least, greatest) => {
                let (least, greatest) = (encoded(least)?, encoded(greatest)?);
                Some(wire::column_keys::Values::Between(wire::KeyBounds { least, greatest }))
            }
            Values::Any => None,
        };
        Ok(wire::ColumnKeys { values, has_null: self.has_null })
    }

    /// Reads what [`ColumnKeys::to_wire`] wrote.
    pub(super) fn from_wire(keys: &wire::ColumnKeys) -> Result<Self> {
        let values = match &keys.values {
            Some(wire::column_keys::Values::Few(few)) => {
                Values::Few(few.values.iter().map(|value| decoded(value)).collect::<Result<_>>()?)
            }
            Some(wire::column_keys::Values::Between(bounds)) => {
                Values::Between(decoded(&bounds.least)?, decoded(&bounds.greatest)?)
            }
            None => Values::Any,
        };
        Ok(Self { values, has_null: keys.has_null })
    }
}

impl Values {
    fn between(bounds: Option<(ScalarValue, ScalarValue)>) -> Self {
        bounds.map_or(Self::Any, |(least, greatest)| Self::Between(least, greatest))
    }

    fn united(&self, others: &Self) -> Self {
        if let (Self::Few(few), Self::Few(more)) = (self, others) {
            let more = more.iter().filter(|value| !few.contains(value));
            let united: Vec<_> = few.iter().chain(more).cloned().collect();
            if united.len() <= MOST_LISTED {
                return Self::Few(united);
            }
        }
        self.spanning(others)
    }

    /// The range from the least to the greatest value of both.
    fn spanning(&self, others: &Self) -> Self {
        match (self, others) {
            (Self::Few(none), some) | (some, Self::Few(none)) if none.is_empty() => some.clone(),
            _ => Self::between(self.bounds().zip(others.bounds()).and_then(|(mine, others)| widest(mine, others))),
        }
    }

    fn bounds(&self) -> Option<(ScalarValue, ScalarValue)> {
        match self {
            Self::Few(few) => bounds(&ScalarValue::iter_to_array(few.iter().cloned()).ok()?),
            Self::Between(least, greatest) => Some((least.clone(), greatest.clone())),
            Self::Any => None,
        }
    }
}

/// `few` with the new values of `more`; `None` if there are more than [`MOST_LISTED`] or values cannot be compared.
fn with_more(few: &[ScalarValue], more: &ArrayRef) -> Option<Vec<ScalarValue>> {
    let mut few = few.to_vec();
    let mut others = is_not_null(more).ok()?;
    for value in &few {
        others = without(&others, more, value)?;
    }
    while let Some(row) = others.values().set_indices().next() {
        if few.len() == MOST_LISTED {
            return None;
        }
        let value = ScalarValue::try_from_array(more, row).ok()?;
        others = without(&others, more, &value)?;
        few.push(value);
    }
    Some(few)
}

/// The marked rows whose value differs from `value`.
fn without(marked: &BooleanArray, values: &ArrayRef, value: &ScalarValue) -> Option<BooleanArray> {
    let others = neq(values, &value.to_scalar().ok()?).ok()?;
    // Rows with NULL are never marked, so the result of their comparison does not matter.
    Some(BooleanArray::new(marked.values() & others.values(), None))
}

/// The least and greatest value; `None` if the values have no order or all of them are NULL.
fn bounds(values: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    let (mut least, mut greatest) =
        (MinAccumulator::try_new(values.data_type()).ok()?, MaxAccumulator::try_new(values.data_type()).ok()?);
    least.update_batch(std::slice::from_ref(values)).ok()?;
    greatest.update_batch(std::slice::from_ref(values)).ok()?;
    let (least, greatest) = (least.evaluate().ok()?, greatest.evaluate().ok()?);
    let known = !least.is_null() && !greatest.is_null() && least.data_type() == *values.data_type();
    known.then_some((least, greatest))
}

fn widest(mine: (ScalarValue, ScalarValue), others: (ScalarValue, ScalarValue)) -> Option<(ScalarValue, ScalarValue)> {
    let least = if others.0.partial_cmp(&mine.0)?.is_lt() { others.0 } else { mine.0 };
    let greatest = if others.1.partial_cmp(&mine.1)?.is_gt() { others.1 } else { mine.1 };
    Some((least, greatest))
}

fn encoded(value: &ScalarValue) -> Result<Vec<u8>> {
    Ok(encode_scalar(value)?.encode_to_vec())
}

fn decoded(bytes: &[u8]) -> Result<ScalarValue> {
    decode_scalar(&wire::Scalar::decode(bytes).map_err(broken)?)
}
