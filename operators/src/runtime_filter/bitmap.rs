//! A set of whole numbers from a known range, with one bit for each number of the range. A test reads one word.
//! Adjacent keys have adjacent bits, so a scan in key order tests bits that are in the CPU cache. A hash would
//! scatter them.

use std::iter;
use std::ops::Range;

use datafusion::common::{Result, internal_err};
use hwacha_proto::exchange as wire;
use prost::{decode_length_delimiter, encode_length_delimiter};

use super::broken;
use super::words::{bytes_of, words_of};

const WORD_BITS: u64 = 64;
/// Words that are added at once, starting with the word of the new key (1,024 words: 8 KiB, the bits of 65,536
/// numbers).
const ROOM: usize = 1024;
/// Share of set bits in `Bitmap::words` from which a set is sent as words (1/16: the words then take two bytes per
/// number). Below it, each number is sent as its distance from the number before.
const DENSE: f64 = 1.0 / 16.0;
/// Share of set bits in the range above which the set is not tested, because most rows would pass.
const MAX_FILLED: f64 = 0.6;

/// The expected range of a join's key, known from statistics before the join runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub least: i64,
    /// Number of whole numbers in the range.
    pub values: u64,
}

impl KeyRange {
    /// Most whole numbers in a range (2^27: its bits take 16 MiB). A key with a longer range gets a Bloom filter.
    const MAX_VALUES: u64 = 1 << 27;
    /// Most whole numbers in a range per expected key (1,024: 128 bytes of bitmap per key). For sparser keys a Bloom
    /// filter is much smaller.
    const MAX_VALUES_PER_KEY: u64 = 1024;

    /// The range, if a bitmap over it suits about `expected_keys` keys. Example: from 1 to 60,000,000 a bitmap suits
    /// 573,000 keys and does not suit 10,000 keys. A range of up to 65,536 numbers suits any number of keys.
    pub fn worth(range: (f64, f64), expected_keys: u64) -> Option<Self> {
        let (least, greatest) = range;
        let values = greatest - least + 1.0;
        let most = expected_keys.saturating_mul(Self::MAX_VALUES_PER_KEY).clamp(1 << 16, Self::MAX_VALUES);
        // From 2^53 on, floats do not tell adjacent whole numbers apart.
        let exact = least.abs().max(greatest.abs()) < (1_u64 << 53) as f64;
        (exact && (1.0..=most as f64).contains(&values)).then_some(Self { least: least as i64, values: values as u64 })
    }

    /// Number of words with one bit for each number of the range.
    fn words(self) -> usize {
        self.values.div_ceil(WORD_BITS) as usize
    }
}

/// A set of numbers from a range.
#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    range: KeyRange,
    /// Position of `words[0]` among the words of the whole range.
    first: usize,
    /// The words in use and some beside them, not the words of the whole range: the keys of one task often lie close
    /// together, and the other keys belong to other tasks.
    words: Vec<u64>,
    /// How many bits are set.
    len: u64,
}

impl Bitmap {
    pub(super) fn new(range: KeyRange) -> Self {
        Self { range, first: 0, words: vec![], len: 0 }
    }

    /// The position of a number's bit. A number outside the range gets a position beyond the end.
    fn position(&self, number: i64) -> u64 {
        (number as u64).wrapping_sub(self.range.least as u64)
    }

    /// Inserts a number. Returns `false` if the number is outside the range.
    pub(super) fn insert(&mut self, number: i64) -> bool {
        let position = self.position(number);
        let is_inside = position < self.range.values;
        if is_inside {
            self.set(position);
        }
        is_inside
    }

    fn set(&mut self, position: u64) {
        let (word, bit) = ((position / WORD_BITS) as usize, 1 << (position % WORD_BITS));
        if word.wrapping_sub(self.first) >= self.words.len() {
            self.cover(word..(word + ROOM).min(self.range.words()));
        }
        let word = &mut self.words[word - self.first];
        self.len += u64::from(*word & bit == 0);
        *word |= bit;
    }

    /// Makes room for these words.
    fn cover(&mut self, wanted: Range<usize>) {
        if self.words.is_empty() {
            self.first = wanted.start;
            // Reserved memory costs nothing until it is written. Growing later would copy the words.
            self.words.reserve_exact(self.range.words() - self.first);
        }
        if wanted.start < self.first {
            // Smaller keys are likely to follow, so the room doubles downwards.
            let first = wanted.start.min(self.first.saturating_sub(self.words.len()));
            self.words.splice(0..0, iter::repeat_n(0, self.first - first));
            self.first = first;
        }
        self.words.resize(self.words.len().max(wanted.end - self.first), 0);
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        let position = self.position(number);
        let word = self.words.get(((position / WORD_BITS) as usize).wrapping_sub(self.first));
        word.is_some_and(|word| word >> (position % WORD_BITS) & 1 == 1)
    }

    /// Adds all numbers of `other`. Returns `false` if `other` has another range.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        if self.range != other.range || other.words.is_empty() {
            return self.range == other.range;
        }
        self.cover(other.first..other.first + other.words.len());
        for (word, more) in self.words[other.first - self.first..].iter_mut().zip(&other.words) {
            self.len += u64::from((more & !*word).count_ones());
            *word |= more;
        }
        true
    }

    fn filled(&self) -> f64 {
        self.len as f64 / self.range.values as f64
    }

    /// Whether more than 60 % of the bits are set ([`MAX_FILLED`]). Most keys of the range would then pass the test.
    pub(super) fn is_full(&self) -> bool {
        self.filled() > MAX_FILLED
    }

    pub(super) fn to_wire(&self) -> wire::KeyBitmap {
        let (least, values) = (self.range.least, self.range.values);
        // The share counts the bits of `words`, not of the range: the keys of one task may lie close together.
        if self.len as f64 >= DENSE * (self.words.len() as u64 * WORD_BITS) as f64 {
            let words = bytes_of(&self.words);
            return wire::KeyBitmap { least, values, first_word: self.first as u64, words, gaps: vec![] };
        }
        let mut gaps = Vec::with_capacity(2 * self.len as usize);
        let mut next = 0;
        for (index, word) in self.words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                let position = (self.first + index) as u64 * WORD_BITS + u64::from(left.trailing_zeros());
                encode_length_delimiter((position - next) as usize, &mut gaps).expect("a vector grows");
                next = position + 1;
                left &= left - 1;
            }
        }
        wire::KeyBitmap { least, values, first_word: 0, words: vec![], gaps }
    }

    pub(super) fn from_wire(wire: &wire::KeyBitmap) -> Result<Self> {
        let range = KeyRange { least: wire.least, values: wire.values };
        if range.values > KeyRange::MAX_VALUES {
            return internal_err!("a set of keys is over {} numbers", range.values);
        }
        let mut bitmap = Self::new(range);
        bitmap.first = wire.first_word as usize;
        bitmap.words = words_of(&wire.words)?;
        bitmap.len = bitmap.words.iter().map(|word| u64::from(word.count_ones())).sum();
        if bitmap.first.saturating_add(bitmap.words.len()) > range.words() {
            return internal_err!("a set of keys has words beyond its range");
        }
        let (mut gaps, mut next) = (wire.gaps.as_slice(), 0_u64);
        while !gaps.is_empty() {
            let position = next.saturating_add(decode_length_delimiter(&mut gaps).map_err(broken)? as u64);
            if position >= range.values {
                return internal_err!("a set of keys has one beyond its range");
            }
            bitmap.set(position);
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

    fn found(bitmap: &Bitmap) -> Vec<i64> {
        (-100..1100).filter(|number| bitmap.contains(*number)).collect()
    }

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let mut held = bitmap([-5, 0, 58, 59]);
        assert!(held.merge(&bitmap([994])));
        assert_eq!(found(&held), [-5, 0, 58, 59, 994]);
        assert!(!held.contains(i64::MIN) && !held.contains(i64::MAX));
        assert!(!held.insert(995) && !held.insert(-6) && !held.insert(i64::MAX));
        assert!(!held.merge(&Bitmap::new(KeyRange { least: 0, ..RANGE })));
    }

    #[test]
    fn the_wire_keeps_few_and_many() {
        for keys in [vec![], vec![-5, 994], (0..900).step_by(2).collect(), (990..994).collect()] {
            let held = bitmap(keys.iter().copied());
            let wire = held.to_wire();
            assert!(wire.words.is_empty() != wire.gaps.is_empty() || keys.is_empty());
            let read = Bitmap::from_wire(&wire).expect("it was just made");
            assert_eq!(found(&read), keys);
            assert_eq!(read.len, keys.len() as u64);
        }
    }

    #[test]
    fn what_no_set_is_sent_as_is_refused() {
        let few = wire::KeyBitmap { least: 0, values: 10, first_word: 0, words: vec![], gaps: vec![3, 5] };
        assert!(Bitmap::from_wire(&few).is_ok());
        let refused = [
            wire::KeyBitmap { gaps: vec![3, 7], ..few.clone() },
            wire::KeyBitmap { gaps: vec![0xff], ..few.clone() },
            wire::KeyBitmap { values: u64::MAX, ..few.clone() },
            wire::KeyBitmap { words: vec![0; 7], ..few.clone() },
            wire::KeyBitmap { words: vec![0; 16], ..few.clone() },
            wire::KeyBitmap { first_word: u64::MAX, words: vec![0; 8], ..few.clone() },
        ];
        for wire in refused {
            assert!(Bitmap::from_wire(&wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn room_grows_both_ways() {
        let range = KeyRange { least: 0, values: 1 << 24 };
        let (mut upwards, mut downwards) = (Bitmap::new(range), Bitmap::new(range));
        let keys: Vec<_> = (5_000_000..6_000_000).step_by(997).collect();
        for key in &keys {
            assert!(upwards.insert(*key) && upwards.insert(*key));
        }
        for key in keys.iter().rev() {
            assert!(downwards.insert(*key + 3_000_000));
        }
        assert!(upwards.words.len() + downwards.words.len() < range.words() / 2);
        assert!(downwards.merge(&upwards) && downwards.merge(&Bitmap::new(range)));
        let expected: Vec<_> = keys.iter().copied().chain(keys.iter().map(|key| key + 3_000_000)).collect();
        let held: Vec<_> = (0..1 << 24).filter(|number| downwards.contains(*number)).collect();
        assert_eq!(held, expected);
        assert_eq!(downwards.len, expected.len() as u64);
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
