//! The 22 queries of TPC-H on the containers. The answers must equal those of a shell with a cluster in its own
//! process.
//!
//! `hwacha demo` has compared that kind of cluster with plain DataFusion when it wrote the tables. All numbers of the
//! answers are integers and decimals, so equal answers have equal texts.

use std::fs;
use std::path::Path;

use crate::steps;

use super::cluster::{Cluster, DATA};

const QUERIES: &str = "workloads/queries/tpch";
const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];
/// A row before each answer.
const MARK: &str = "answer of query";
/// The line of an executor's log about a started task.
pub(super) const STARTED: &str = "task started";

/// Every query is cut into tasks for all executors, however small its tables are.
const SPREAD: &str = "set hwacha.optimizer.single_task_bytes = 0; set hwacha.optimizer.adaptive_task_bytes = 4096;";

pub(super) fn check(cluster: &Cluster<'_>, root: &Path) -> Result<(), String> {
    let queries = (1..=22).map(|number| query(root, number)).collect::<Result<String, _>>()?;
    let expected = steps::output(&mut cluster.embedded_shell(&format!("{}{queries}", tables())))?;
    // All later queries use these tables, because tables belong to the scheduler.
    let came = steps::output(&mut cluster.shell(&format!("{}{SPREAD}{queries}", tables())))?;
    let (expected, came) = (answers(&expected), answers(&came));
    if expected.len() != 22 || came.len() != 22 {
        return Err(format!("{} and {} answers instead of 22", expected.len(), came.len()));
    }
    let wrong = (1..).zip(expected.iter().zip(&came)).filter(|(_, (expected, came))| expected != came);
    for (number, (expected, came)) in wrong.clone() {
        println!("query {number}: expected {expected:#?}, came {came:#?}");
    }
    match wrong.count() {
        0 => println!("TPC-H: 22 answers are right"),
        wrong => return Err(format!("{wrong} of 22 answers of TPC-H are wrong")),
    }
    for executor in cluster.executors() {
        let tasks = cluster.log(&executor)?.matches(STARTED).count();
        println!("{executor}: {tasks} tasks");
        if tasks == 0 {
            return Err(format!("{executor} got no task"));
        }
    }
    Ok(())
}

/// The statements that define the tables.
pub(super) fn tables() -> String {
    let create = |table| format!("create external table {table} stored as parquet location '{DATA}/{table}.parquet';");
    TABLES.map(create).concat()
}

fn query(root: &Path, number: usize) -> Result<String, String> {
    let path = root.join(QUERIES).join(format!("q{number}.sql"));
    let sql = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("select '{MARK} {number}' as mark;\n{};\n", sql.trim().trim_end_matches(';')))
}

/// The lines of each answer. They are sorted, because ORDER BY leaves the order of equal rows open.
fn answers(output: &str) -> Vec<Vec<&str>> {
    let parts = output.split("mark\n").skip(1);
    let lines = |part| {
        let mut lines: Vec<&str> = str::lines(part).filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        lines
    };
    parts.map(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_cut_into_answers() {
        let output = "mark\nanswer of query 1\nk,v\nb,2\na,1\n\nmark\nanswer of query 2\nn\n";
        let expected = [vec!["a,1", "answer of query 1", "b,2", "k,v"], vec!["answer of query 2", "n"]];
        assert_eq!(answers(output), expected);
    }
}
