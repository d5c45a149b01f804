//! A Bloom filter in which each key sets up to four bits of one 64-bit word. A test is one load and one comparison.

use datafusion::common::{Result, internal_err};

use super::words::{bytes_of, words_of};

const WORD_BYTES: usize = 8;
const LEAST_BYTES: f64 = 64.0 * 1024.0;
/// Factor by which a filter is larger than the expected keys need, because estimates are often too low.
const SPARE: f64 = 4.0;
/// Bits per key. With 12 bits, about 1.2 % of the absent keys pass.
const BITS_PER_KEY: f64 = 12.0;
/// Share of bits that are set with [`BITS_PER_KEY`]: 1 - e^(-4/12).
const FILLED: f64 = 0.28;
/// Share of set bits above which too many absent keys pass for the test to be worth its cost.
const MAX_FILLED: f64 = 0.6;

/// A set of hashes. It may also contain hashes that were never inserted.
#[derive(Clone)]
pub(super) struct Bloom {
    /// Their number is a power of two.
    words: Vec<u64>,
}

impl Bloom {
    /// Bytes of the largest filter (4 MiB).
    pub(super) const MAX_BYTES: usize = 4 << 20;

    /// A filter for about `keys` keys with room for four times as many. It is shrunk before it is sent.
    pub(super) fn for_keys(keys: f64) -> Self {
        let bytes = (keys * SPARE * BITS_PER_KEY / 8.0).clamp(LEAST_BYTES, Self::MAX_BYTES as f64) as usize;
        Self { words: vec![0; (bytes / WORD_BYTES).next_power_of_two().min(Self::MAX_BYTES / WORD_BYTES)] }
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let index = self.index(hash);
        self.words[index] |= bits(hash);
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        let bits = bits(hash);
        self.words[self.index(hash)] & bits == bits
    }

    /// The low half of a hash chooses the word, the high half the bits.
    fn index(&self, hash: u64) -> usize {
        hash as u32 as usize & (self.words.len() - 1)
    }

    /// Adds all hashes of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        while self.words.len() > other.words.len() {
            self.fold();
        }
        // A hash chooses its word by its low bits, so a word of the larger filter falls into the word at its position
        // without the upper bits. Example: word 5 of 8 falls into word 1 of 4.
        let mask = self.words.len() - 1;
        for (index, more) in other.words.iter().enumerate() {
            self.words[index & mask] |= more;
        }
    }

    fn fold(&mut self) {
        let upper = self.words.split_off(self.words.len() / 2);
        for (word, more) in self.words.iter_mut().zip(upper) {
            *word |= more;
        }
    }

    /// Whether more than 60 % of the bits are set ([`MAX_FILLED`]). Then more than 13 % of the absent keys pass (0.6 to
    /// the power of four bits).
    pub(super) fn is_full(&self) -> bool {
        self.filled() > MAX_FILLED
    }

    /// The share of bits that are set.
    fn filled(&self) -> f64 {
        let set: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        set as f64 / (self.words.len() * WORD_BYTES * 8) as f64
    }

    /// The same keys in a smaller filter. Halves the filter as long as the share of set bits stays at most [`FILLED`],
    /// down to 128 words (1 KiB).
    fn shrunk(&self) -> Self {
        let mut shrunk = self.clone();
        while shrunk.words.len() > 128 && shrunk.filled() * 2.0 <= FILLED {
            shrunk.fold();
        }
        shrunk
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        bytes_of(&self.shrunk().words)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let words = words_of(bytes)?;
        if !words.len().is_power_of_two() || bytes.len() > Self::MAX_BYTES {
            return internal_err!("a Bloom filter has {} bytes", bytes.len());
        }
        Ok(Self { words })
    }
}

fn bits(hash: u64) -> u64 {
    (32..56).step_by(6).fold(0, |bits, shift| bits | 1 << (hash >> shift & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn filter(keys: std::ops::Range<u64>, expected: f64) -> Bloom {
        let mut bloom = Bloom::for_keys(expected);
        keys.for_each(|key| bloom.insert(hash(key)));
        bloom
    }

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let bloom = filter(0..10_000, 10_000.0);
        assert!((0..10_000).all(|key| bloom.contains(hash(key))));
        let wrong = (10_000..110_000).filter(|key| bloom.contains(hash(*key))).count();
        assert!(wrong < 4_000, "{wrong} of 100,000 passed");
        assert!(!bloom.is_full());
        assert!(filter(0..400_000, 1_000.0).is_full());
    }

    #[test]
    fn filters_of_different_sizes_merge_both_ways() {
        let (small, large) = (filter(0..1_000, 1_000.0), filter(1_000..2_000, 50_000.0));
        for (into, from) in [(&small, &large), (&large, &small)] {
            let mut merged = into.clone();
            merged.merge(from);
            assert!((0..2_000).all(|key| merged.contains(hash(key))));
        }
    }

    #[test]
    fn bytes_keep_it() {
        for keys in [0, 500, 100_000] {
            let bytes = filter(0..keys, 500.0).to_bytes();
            assert!(bytes.len() <= 1024.max(keys as usize * 3), "{} bytes for {keys} keys", bytes.len());
            let bloom = Bloom::from_bytes(&bytes).expect("it was just made");
            assert!((0..keys).all(|key| bloom.contains(hash(key))));
            assert!(bloom.to_bytes() == bytes);
        }
        assert!(Bloom::from_bytes(&[0; 33]).is_err());
        assert!(Bloom::from_bytes(&[]).is_err());
    }
}
