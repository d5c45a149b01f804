//! Seeds that failed once. The tests run them for ever.
//!
//! A change to what a seed stands for makes these ordinary seeds; the scenarios in `scheduler-core` keep what they taught.

/// The seeds.
pub const SEEDS: &[u64] = &[1691];
