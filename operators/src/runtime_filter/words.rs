//! Words of 64 bits as bytes, little-endian.

use datafusion::common::{Result, internal_err};

pub(super) fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(super) fn words_of(bytes: &[u8]) -> Result<Vec<u64>> {
    let (words, []) = bytes.as_chunks() else { return internal_err!("{} bytes are no whole words", bytes.len()) };
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}
