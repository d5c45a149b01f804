//! What the demonstration, the tests and the benchmarks run: TPC-H data and queries, other suites, and the judge of
//! answers.

pub mod answers;
pub mod suite;
pub mod tpch;
