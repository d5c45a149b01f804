//! Seeds that failed once. The tests always run them.
//!
//! If the drawing of workloads changes, a seed stands for another workload and no longer repeats its old failure. The
//! scenarios in `scheduler-core/src/tests/` do not depend on seeds, so they keep covering the old failures.

/// The seeds.
pub const SEEDS: &[u64] = &[1691];
