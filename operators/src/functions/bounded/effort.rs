//! Estimates how long a function takes for each row, in steps.

use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::sizes::{OfRow, constant_bytes, value_bytes};

/// Most steps of a group of rows between two checks for a stop (10^8: half a second of `levenshtein`).
const STEPS_AT_ONCE: u64 = 100_000_000;
/// Most steps of `levenshtein` for one row (4 * 10^9: two texts of 63,000 bytes, some 20 seconds).
const MOST_STEPS_OF_ROW: u64 = 4_000_000_000;

/// Functions whose time grows with the product of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effort {
    /// `levenshtein(a, b)`: takes exactly the product of both lengths.
    Exact,
    /// Regular expressions and searches of one list in another: take at most the product, mostly less.
    AtMost,
}

impl Effort {
    pub(super) fn of(function: &str) -> Option<Self> {
        Some(match function {
            "levenshtein" => Self::Exact,
            "regexp_count" | "regexp_instr" | "regexp_like" | "regexp_match" | "regexp_replace" | "array_has_all"
            | "array_has_any" => Self::AtMost,
            _ => return None,
        })
    }

    /// Row counts of consecutive groups. If there are several, the call checks for a stop before each group.
    pub(super) fn parts(self, args: &ScalarFunctionArgs, function: &str) -> Result<Vec<usize>> {
        if self == Self::AtMost && most_steps(args).is_some_and(|steps| steps <= STEPS_AT_ONCE) {
            return Ok(vec![args.number_rows]);
        }
        let steps = steps(args);
        let (mut parts, mut rows, mut sum) = (vec![], 0, 0_u64);
        for row in 0..args.number_rows {
            let of_row = steps(row);
            if self == Self::Exact && of_row > MOST_STEPS_OF_ROW {
                return exec_err!(
                    "the arguments of {function} are too long: the product of their lengths in bytes is {of_row} in \
                     one row, and the limit is {MOST_STEPS_OF_ROW}; shorten them, for example with left()"
                );
            }
            if rows > 0 && sum.saturating_add(of_row) > STEPS_AT_ONCE {
                parts.push(rows);
                (rows, sum) = (0, 0);
            }
            (rows, sum) = (rows + 1, sum.saturating_add(of_row));
        }
        parts.push(rows);
        Ok(parts)
    }
}

/// An upper bound of the steps of all rows, if it is known without a loop over the rows.
fn most_steps(args: &ScalarFunctionArgs) -> Option<u64> {
    match &args.args[..] {
        [ColumnarValue::Array(texts), pattern @ ColumnarValue::Scalar(_), ..] => {
            Some(constant_bytes(pattern).saturating_mul(texts.get_buffer_memory_size() as u64))
        }
        _ => None,
    }
}

/// The steps of each row.
fn steps(args: &ScalarFunctionArgs) -> OfRow<'_, u64> {
    let [first, second, ..] = &args.args[..] else { return Box::new(|_| 0) };
    let (first, second) = (value_bytes(first), value_bytes(second));
    Box::new(move |row| first(row).saturating_mul(second(row)))
}
