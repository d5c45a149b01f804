//! Suites: tables, and queries over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::{clickbench, files, h2o, tpcds, tpch};

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
        Self { tables: tables(directory, tpch::TABLES), queries: numbered(tpch::QUERIES) }
    }

    /// The queries of TPC-DS over the tables of a directory. The directory holds the queries as `q*.sql`.
    pub fn tpcds(directory: &Path) -> io::Result<Self> {
        Ok(Self { tables: tables(directory, tpcds::tables()), ..Self::directory(directory)? })
    }

    /// The 43 queries of ClickBench over the table of a directory.
    pub fn clickbench(directory: &Path) -> Self {
        Self { tables: tables(directory, [clickbench::TABLE]), queries: numbered(statements(clickbench::QUERIES)) }
    }

    /// The 15 queries of the h2o benchmark over the tables of a directory.
    pub fn h2o(directory: &Path) -> Self {
        Self { tables: tables(directory, h2o::TABLES), queries: numbered(statements(h2o::QUERIES)) }
    }

    /// The files of a directory: `NAME.parquet` is the table `NAME`, and `qNUMBER.sql` is the query `NUMBER`.
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

fn tables<'a>(directory: &Path, names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, PathBuf> {
    names.into_iter().map(|name| (name.to_owned(), files::path(directory, name))).collect()
}

fn numbered<'a>(queries: impl IntoIterator<Item = &'a str>) -> BTreeMap<usize, String> {
    (1..).zip(queries.into_iter().map(str::to_owned)).collect()
}

/// The statements of a text, each ended by `;` at the end of a line.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}
