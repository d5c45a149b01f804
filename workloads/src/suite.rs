//! Tables and queries that are run together: TPC-H, or whatever a directory holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::tpch;

/// Parquet files as tables, and numbered queries over them.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// The tables' names and files.
    pub tables: BTreeMap<String, PathBuf>,
    pub queries: BTreeMap<usize, String>,
}

impl Suite {
    /// The 22 queries of TPC-H over the tables of a directory.
    pub fn tpch(directory: &Path) -> Self {
        Self {
            tables: tpch::TABLES.map(|table| (table.to_owned(), tpch::path(directory, table))).into(),
            queries: (1..).zip(tpch::QUERIES.map(str::to_owned)).collect(),
        }
    }

    /// The files of a directory: `*.parquet` are tables by their names, `q*.sql` are queries by their numbers.
    pub fn directory(directory: &Path) -> io::Result<Self> {
        let mut suite = Self::default();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("parquet") => drop(suite.tables.insert(name, path)),
                Some("sql") => {
                    if let Some(number) = name.strip_prefix('q').and_then(|number| number.parse().ok()) {
                        let sql = fs::read_to_string(&path)?;
                        suite.queries.insert(number, sql.trim().trim_end_matches(';').to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(suite)
    }
}
