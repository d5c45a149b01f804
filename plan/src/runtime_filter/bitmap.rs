//! A set of whole numbers from a known range: one bit for each that it could hold. A test is one load, and neighbours
//! among the keys are neighbours in memory, which no hash leaves them.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, internal_err};
use hwacha_proto::exchange as wire;

const WORD_BITS: u64 = 64;
/// Where so large a share is set, a set is sent word by word; else each number by its distance to the one before.
const DENSE: f64 = 1.0 / 16.0;
/// Above this share most numbers pass.
const MAX_FILLED: f64 = 0.6;

/// Where the keys of a join lie, as far as it is known before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub least: i64,
    /// How many numbers the range has.
    pub values: u64,
}

impl KeyRange {
    /// The longest range; its bits take 16 MiB.
    const MAX_VALUES: u64 = 1 << 27;
    /// Of longer ones a Bloom filter takes far less room.
    const MAX_VALUES_PER_KEY: u64 = 1024;

    /// The range, if a bit for each of its numbers is a good way to hold about so many keys.
    pub(crate) fn worth(range: (f64, f64), expected_keys: u64) -> Option<Self> {
        let (least, greatest) = range;
        let values = greatest - least + 1.0;
        let most = expected_keys.saturating_mul(Self::MAX_VALUES_PER_KEY).clamp(1 << 16, Self::MAX_VALUES);
        // Beyond, floating point does not tell neighbours apart.
        let exact = least.abs().max(greatest.abs()) < (1_u64 << 53) as f64;
        (exact && (1.0..=most as f64).contains(&values)).then_some(Self { least: least as i64, values: values as u64 })
    }
}

/// Whether keys of that type can be held so.
pub(crate) fn is_whole_number(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64 || *data_type == DataType::Date32
}

/// Keys as the numbers that a bitmap holds.
pub(super) fn numbers(keys: &ArrayRef) -> Result<Int64Array> {
    let numbers = match keys.data_type() {
        DataType::Date32 => cast(&cast(keys, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(keys, &DataType::Int64)?,
    };
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

/// A set of numbers from a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bitmap {
    range: KeyRange,
    words: Vec<u64>,
}

impl Bitmap {
    pub(super) fn new(range: KeyRange) -> Self {
        Self { range, words: vec![0; range.values.div_ceil(WORD_BITS) as usize] }
    }

    /// Where a number's bit is; beyond the end for those outside the range.
    fn position(&self, number: i64) -> u64 {
        (number as u64).wrapping_sub(self.range.least as u64)
    }

    /// Puts a number in; `false` when it is outside the range.
    pub(super) fn insert(&mut self, number: i64) -> bool {
        let position = self.position(number);
        if position < self.range.values {
            self.words[(position / WORD_BITS) as usize] |= 1 << (position % WORD_BITS);
        }
        position < self.range.values
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        let position = self.position(number);
        self.words.get((position / WORD_BITS) as usize).is_some_and(|word| word >> (position % WORD_BITS) & 1 == 1)
    }

    /// Adds all that `other` contains; `false` when that is over another range.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.range == other.range
    }

    fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn filled(&self) -> f64 {
        self.len() as f64 / self.range.values as f64
    }

    /// Whether so many numbers are in it that most keys pass.
    pub(super) fn is_full(&self) -> bool {
        self.filled() > MAX_FILLED
    }

    pub(super) fn to_wire(&self) -> wire::KeyBitmap {
        let (least, values) = (self.range.least, self.range.values);
        if self.filled() >= DENSE {
            return wire::KeyBitmap { least, values, words: self.words.clone(), gaps: vec![] };
        }
        let mut gaps = Vec::with_capacity(self.len() as usize);
        let mut next = 0;
        for (index, word) in self.words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                let position = index as u64 * WORD_BITS + u64::from(left.trailing_zeros());
                gaps.push(position - next);
                next = position + 1;
                left &= left - 1;
            }
        }
        wire::KeyBitmap { least, values, words: vec![], gaps }
    }

    pub(super) fn from_wire(wire: &wire::KeyBitmap) -> Result<Self> {
        let range = KeyRange { least: wire.least, values: wire.values };
        if range.values > KeyRange::MAX_VALUES {
            return internal_err!("a set of keys is over {} numbers", range.values);
        }
        let mut bitmap = Self::new(range);
        if !wire.words.is_empty() {
            if wire.words.len() != bitmap.words.len() {
                return internal_err!("a set of keys has {} words", wire.words.len());
            }
            bitmap.words.clone_from(&wire.words);
        }
        let mut next = 0_u64;
        for gap in &wire.gaps {
            let position = next.saturating_add(*gap);
            if position >= range.values {
                return internal_err!("a set of keys has one beyond its range");
            }
            bitmap.words[(position / WORD_BITS) as usize] |= 1 << (position % WORD_BITS);
            next = position + 1;
        }
        Ok(bitmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: KeyRange = KeyRange { least: -5, values: 1000 };

    fn bitmap(numbers: impl IntoIterator<Item = i64>) -> Bitmap {
        let mut bitmap = Bitmap::new(RANGE);
        assert!(numbers.into_iter().all(|number| bitmap.insert(number)));
        bitmap
    }

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let mut held = bitmap([-5, 0, 58, 59]);
        assert!(held.merge(&bitmap([994])));
        let found: Vec<_> = (-100..1100).filter(|number| held.contains(*number)).collect();
        assert_eq!(found, [-5, 0, 58, 59, 994]);
        assert!(!held.contains(i64::MIN) && !held.contains(i64::MAX));
        assert!(!held.insert(995) && !held.insert(-6) && !held.insert(i64::MAX));
        assert!(!held.merge(&Bitmap::new(KeyRange { least: 0, ..RANGE })));
    }

    #[test]
    fn the_wire_keeps_few_and_many() {
        for held in [bitmap([]), bitmap([-5, 994]), bitmap((0..900).step_by(2))] {
            let wire = held.to_wire();
            assert!(wire.words.is_empty() != wire.gaps.is_empty() || held.len() == 0);
            assert_eq!(Bitmap::from_wire(&wire).expect("it was just made"), held);
        }
        let broken = wire::KeyBitmap { least: 0, values: 10, words: vec![], gaps: vec![3, 7] };
        assert!(Bitmap::from_wire(&broken).is_err());
        let huge = wire::KeyBitmap { values: u64::MAX, ..broken };
        assert!(Bitmap::from_wire(&huge).is_err());
    }

    #[test]
    fn a_range_is_worth_it_when_its_bits_are_no_more_than_a_hash_would_take_many_times() {
        assert_eq!(KeyRange::worth((1.0, 6e7), 573_000), Some(KeyRange { least: 1, values: 60_000_000 }));
        assert_eq!(KeyRange::worth((1.0, 6e7), 10_000), None);
        assert_eq!(KeyRange::worth((-9.0, 9.0), 2), Some(KeyRange { least: -9, values: 19 }));
        assert_eq!(KeyRange::worth((-9e18, 9e18), u64::MAX), None);
        assert_eq!(KeyRange::worth((5.0, 4.0), 10), None);
    }
}
