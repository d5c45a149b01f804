//! A split-block Bloom filter: eight bits of one 32-byte block a key, so that a test touches one cache line.

use datafusion::common::{Result, internal_err};

const WORDS: usize = 8;
const BLOCK_BYTES: usize = WORDS * 4;
/// Odd numbers that make eight bits of one hash, as in Parquet's filters.
const SALTS: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
/// With so many bits a key one absent key in a hundred passes.
const BITS_PER_KEY: f64 = 12.0;
/// Above this share of set bits too many absent keys pass for the test to be worth it.
const MAX_FILLED: f64 = 0.6;

/// A set of hashes that may contain some that were never put in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Bloom {
    /// A power of two of them.
    blocks: Vec<[u32; WORDS]>,
}

impl Bloom {
    /// The largest filter.
    pub(super) const MAX_BYTES: usize = 4 << 20;

    /// A filter for about so many keys.
    pub(super) fn for_keys(keys: f64) -> Self {
        let bytes = (keys * BITS_PER_KEY / 8.0).clamp(1024.0, Self::MAX_BYTES as f64) as usize;
        Self { blocks: vec![[0; WORDS]; (bytes / BLOCK_BYTES).next_power_of_two().min(Self::MAX_BYTES / BLOCK_BYTES)] }
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let index = self.index(hash);
        for (word, salt) in self.blocks[index].iter_mut().zip(SALTS) {
            *word |= bit(hash, salt);
        }
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.blocks[self.index(hash)].iter().zip(SALTS).all(|(word, salt)| word & bit(hash, salt) != 0)
    }

    /// The low half of a hash chooses the block, the high half the bits.
    fn index(&self, hash: u64) -> usize {
        hash as u32 as usize & (self.blocks.len() - 1)
    }

    /// Adds all that `other` contains.
    pub(super) fn merge(&mut self, other: &Self) {
        while self.blocks.len() > other.blocks.len() {
            self.fold();
        }
        // A block of the larger filter falls into the one whose number is its own without the upper bits.
        let mask = self.blocks.len() - 1;
        for (index, block) in other.blocks.iter().enumerate() {
            for (word, more) in self.blocks[index & mask].iter_mut().zip(block) {
                *word |= more;
            }
        }
    }

    fn fold(&mut self) {
        let upper = self.blocks.split_off(self.blocks.len() / 2);
        for (block, more) in self.blocks.iter_mut().zip(upper) {
            for (word, more) in block.iter_mut().zip(more) {
                *word |= more;
            }
        }
    }

    /// Whether so many bits are set that most keys pass.
    pub(super) fn is_full(&self) -> bool {
        let set: u64 = self.blocks.iter().flatten().map(|word| u64::from(word.count_ones())).sum();
        set as f64 > MAX_FILLED * (self.blocks.len() * BLOCK_BYTES * 8) as f64
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let blocks = bytes.len() / BLOCK_BYTES;
        if !bytes.len().is_multiple_of(BLOCK_BYTES) || !blocks.is_power_of_two() || bytes.len() > Self::MAX_BYTES {
            return internal_err!("a Bloom filter has {} bytes", bytes.len());
        }
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
        let block = |bytes: &[u8]| {
            let mut words = bytes.chunks_exact(4).map(word);
            std::array::from_fn(|_| words.next().expect("as many words as a block has"))
        };
        Ok(Self { blocks: bytes.chunks_exact(BLOCK_BYTES).map(block).collect() })
    }
}

fn bit(hash: u64, salt: u32) -> u32 {
    1 << (((hash >> 32) as u32).wrapping_mul(salt) >> 27)
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
        assert!(wrong < 2_000, "{wrong} of 100,000 passed");
        assert!(!bloom.is_full());
        assert!(filter(0..100_000, 1_000.0).is_full());
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
        let bloom = filter(0..500, 500.0);
        assert!(Bloom::from_bytes(&bloom.to_bytes()).is_ok_and(|same| same == bloom));
        assert!(Bloom::from_bytes(&[0; 33]).is_err());
        assert!(Bloom::from_bytes(&[]).is_err());
    }
}
