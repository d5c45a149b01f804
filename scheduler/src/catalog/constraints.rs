//! The constraints of an external table that plans may rely on.
//!
//! DataFusion 55 has two faults here (not reported upstream so far):
//!
//! - It numbers the columns of a key in the order of the statement, but moves the columns of PARTITIONED BY to the
//!   end of the table. A key then means other columns. Example:
//!   `(p, a, q, b, primary key (a, q)) partitioned by (q, p)` makes the table `(a, b, q, p)`. DataFusion keeps the
//!   key as columns 1 and 2, which are now `b` and `q`. The right columns are 0 and 2.
//! - It assumes that a UNIQUE column has at most one NULL. So ORDER BY leaves rows with NULL unsorted by the columns
//!   that follow. Its encoding of plans also turns UNIQUE into PRIMARY KEY.

use datafusion::common::{Constraint, Constraints};
use datafusion::logical_expr::CreateExternalTable;

/// The constraints of the table that `command` makes, by column positions in the table. Leaves out UNIQUE over a
/// nullable column.
pub(super) fn reliable_constraints(command: &CreateExternalTable) -> Constraints {
    let columns = command.schema.fields();
    let directories = &command.table_partition_cols;
    let files = (0..columns.len()).filter(|column| !directories.contains(columns[*column].name()));
    let place = |name: &String| columns.iter().position(|column| column.name() == name);
    let order: Vec<_> = files.chain(directories.iter().filter_map(place)).collect();
    let moved = |key: &[usize]| {
        let places = key.iter().map(|column| order.iter().position(|it| it == column));
        places.collect::<Option<Vec<_>>>()
    };
    let reliable = |constraint: &Constraint| match constraint {
        Constraint::PrimaryKey(key) => moved(key).map(Constraint::PrimaryKey),
        Constraint::Unique(key) if key.iter().any(|column| columns[*column].is_nullable()) => None,
        Constraint::Unique(key) => moved(key).map(Constraint::Unique),
    };
    Constraints::new_unverified(command.constraints.iter().filter_map(reliable).collect())
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{DdlStatement, LogicalPlan};
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn constraints(columns: &str, rest: &str) -> Vec<Constraint> {
        let sql = format!("create external table t({columns}) stored as parquet {rest} location '/nowhere/'");
        let plan = SessionContext::new().state().create_logical_plan(&sql).await.expect("a statement");
        let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) = plan else { panic!("it makes a table") };
        reliable_constraints(&command).to_vec()
    }

    #[tokio::test]
    async fn keys_follow_their_columns() {
        let columns = "p int, a int, q int, b int, primary key (a, q)";
        assert_eq!(constraints(columns, "").await, [Constraint::PrimaryKey(vec![1, 2])]);
        let moved = constraints(columns, "partitioned by (q, p)").await;
        assert_eq!(moved, [Constraint::PrimaryKey(vec![0, 2])], "the table is (a, b, q, p)");
    }

    #[tokio::test]
    async fn unique_columns_are_relied_on_where_none_is_null() {
        assert!(constraints("a int, b int not null, unique (a)", "").await.is_empty());
        assert_eq!(constraints("a int, b int not null, unique (b)", "").await, [Constraint::Unique(vec![1])]);
    }
}
