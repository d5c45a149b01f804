//! The suites by name: loads their tables and queries, and generates their tables.

use std::path::Path;

use clap::ValueEnum;
use hwacha_workloads::suite::Suite;
use hwacha_workloads::{clickbench, h2o, tpcds, tpch};

use crate::Result;

/// Rows of a generated table at scale 1, for suites without scale factors of their own.
const ROWS_AT_SCALE_1: f64 = 1e6;

/// The available suites of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteName {
    /// The 22 queries of TPC-H.
    Tpch,
    /// The 99 queries of TPC-DS. The data directory must hold them as `q*.sql`; `cargo xtask correctness` writes them.
    Tpcds,
    /// The 43 queries of ClickBench over a generated table `hits` (a million rows at scale 1).
    Clickbench,
    /// The 15 queries of the h2o benchmark (a million rows at scale 1).
    H2o,
    /// The queries `q*.sql` of the data directory, over its tables.
    Directory,
}

impl SuiteName {
    /// The tables and queries in a directory.
    pub(crate) fn load(self, data: &Path) -> Result<Suite> {
        let data = std::path::absolute(data)?;
        let suite = match self {
            Self::Tpch => Suite::tpch(&data),
            Self::Tpcds => Suite::tpcds(&data)?,
            Self::Clickbench => Suite::clickbench(&data),
            Self::H2o => Suite::h2o(&data),
            Self::Directory => Suite::directory(&data)?,
        };
        let (there, wanted) = (suite.queries.len(), self.queries());
        match wanted {
            Some(wanted) if there != wanted => Err(self.missing(&data, there).into()),
            None if there == 0 => Err(self.missing(&data, there).into()),
            _ => Ok(suite),
        }
    }

    /// The number of queries. `None` if any number of queries is allowed.
    fn queries(self) -> Option<usize> {
        match self {
            Self::Tpch => Some(22),
            Self::Tpcds => Some(99),
            Self::Clickbench => Some(43),
            Self::H2o => Some(15),
            Self::Directory => None,
        }
    }

    fn missing(self, data: &Path, there: usize) -> String {
        let data = data.display();
        match self {
            Self::Tpcds => format!(
                "{data} has {there} of the 99 queries of TPC-DS; `python workloads/queries/tpcds/export.py {data}` writes \
                 them, with the packages that are pinned in tests/python/requirements.txt"
            ),
            Self::Directory => format!("{data} has no queries; they are files q1.sql, q2.sql and so on"),
            _ => format!("{} has {there} queries", self.name()),
        }
    }

    /// Writes the tables that are missing in the directory.
    pub(crate) fn generate(self, data: &Path, scale: f64) -> Result<()> {
        let rows = (ROWS_AT_SCALE_1 * scale) as usize;
        match self {
            Self::Tpch => tpch::generate(data, scale, |_| {})?,
            Self::Tpcds => tpcds::generate(data, scale)?,
            Self::Clickbench => clickbench::generate(data, rows)?,
            Self::H2o => h2o::generate(data, rows)?,
            Self::Directory => {}
        }
        Ok(())
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
