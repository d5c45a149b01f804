//! What the demonstration, the tests and the benchmarks run: suites of tables and queries, and the judge of answers.

pub mod answers;
pub mod clickbench;
pub mod files;
pub mod h2o;
pub mod oracle;
pub mod suite;
pub mod tpcds;
pub mod tpch;

mod random;
