//! Suites of tables and queries, and the comparison of answers. The demo, the tests and the benchmarks use them.

pub mod answers;
pub mod clickbench;
pub mod files;
pub mod h2o;
pub mod oracle;
pub mod suite;
pub mod tpcds;
pub mod tpch;

mod random;
