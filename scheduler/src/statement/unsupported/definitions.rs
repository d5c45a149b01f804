//! CREATE TABLE, CREATE EXTERNAL TABLE and CREATE VIEW: columns, constraints, and the options of views.

use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, ColumnOptionDef, ConstraintCharacteristics, CreateTable, CreateView, PrimaryKeyConstraint,
    TableConstraint, UniqueConstraint, ViewColumnDef,
};

use super::types::{self, Purpose};
use super::{refuse, refused};
use crate::error::Error;

const CONSTRAINTS: &str = "CREATE TABLE does not support PRIMARY KEY, UNIQUE and other constraints, since nothing \
                           would check them; leave them out";
const EXTERNAL_CONSTRAINTS: &str =
    "CREATE EXTERNAL TABLE does not support FOREIGN KEY, CHECK and indexes; leave them out";
const INDEXES: &str = "there are no indexes; leave out USING and the index's name and options";

/// Where a table's rows come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// From a query. Its columns are cast to the declared types.
    Query,
    /// From nothing: the table is created empty and stays empty.
    Nowhere,
    /// From files. The declared columns describe what the files contain.
    Files,
}

pub(super) fn check_table(create: &CreateTable) -> Result<(), Error> {
    let CreateTable {
        temporary,
        columns,
        constraints,
        query,
        or_replace: _,
        if_not_exists: _,
        name: _,
        // The planner refuses the fields from here on.
        external: _,
        dynamic: _,
        global: _,
        transient: _,
        volatile: _,
        iceberg: _,
        snapshot: _,
        hive_distribution: _,
        hive_formats: _,
        table_options: _,
        file_format: _,
        location: _,
        without_rowid: _,
        like: _,
        clone: _,
        version: _,
        comment: _,
        on_commit: _,
        on_cluster: _,
        primary_key: _,
        order_by: _,
        partition_by: _,
        cluster_by: _,
        clustered_by: _,
        inherits: _,
        partition_of: _,
        for_values: _,
        strict: _,
        copy_grants: _,
        enable_schema_evolution: _,
        change_tracking: _,
        data_retention_time_in_days: _,
        max_data_extension_time_in_days: _,
        default_ddl_collation: _,
        with_aggregation_policy: _,
        with_row_access_policy: _,
        with_storage_lifecycle_policy: _,
        with_tags: _,
        external_volume: _,
        base_location: _,
        catalog: _,
        catalog_sync: _,
        storage_serialization_policy: _,
        target_lag: _,
        warehouse: _,
        refresh_mode: _,
        initialize: _,
        require_user: _,
        diststyle: _,
        distkey: _,
        sortkey: _,
        backup: _,
    } = create;
    refuse([
        (
            *temporary,
            "temporary tables are not supported; leave out TEMPORARY, and DROP the table when you no longer need it",
        ),
        (!constraints.is_empty(), CONSTRAINTS),
    ])?;
    let rows = if query.is_some() { Rows::Query } else { Rows::Nowhere };
    columns.iter().try_for_each(|column| check_column(column, rows))
}

/// PRIMARY KEY and UNIQUE are accepted: like WITH ORDER they promise what the files contain, and plans use the
/// promise.
pub(super) fn check_external_table(create: &CreateExternalTable) -> Result<(), Error> {
    let CreateExternalTable {
        name: _,
        columns,
        file_type: _,
        locations: _,
        table_partition_cols: _,
        order_exprs: _,
        if_not_exists: _,
        or_replace: _,
        temporary,
        // `create::external_table` refuses it.
        unbounded: _,
        // An option that the format does not know is an error.
        options: _,
        constraints,
    } = create;
    refuse([(
        *temporary,
        "temporary tables are not supported; leave out TEMPORARY, and DROP the table when you no longer need it",
    )])?;
    columns.iter().try_for_each(|column| check_column(column, Rows::Files))?;
    constraints.iter().try_for_each(|constraint| match constraint {
        TableConstraint::PrimaryKey(key) => check_key(key),
        TableConstraint::Unique(unique) => check_unique(unique),
        TableConstraint::ForeignKey(_)
        | TableConstraint::Check(_)
        | TableConstraint::Index(_)
        | TableConstraint::FulltextOrSpatial(_)
        | TableConstraint::PrimaryKeyUsingIndex(_)
        | TableConstraint::UniqueUsingIndex(_) => refused(EXTERNAL_CONSTRAINTS),
    })
}

fn check_column(column: &ColumnDef, rows: Rows) -> Result<(), Error> {
    let ColumnDef { name, data_type, options } = column;
    types::check(data_type, if rows == Rows::Query { Purpose::Cast } else { Purpose::Declaration })?;
    for ColumnOptionDef { name: _, option } in options {
        match option {
            ColumnOption::Null => {}
            // For a table made from a query, NOT NULL is checked when the rows are written.
            ColumnOption::NotNull => {}
            ColumnOption::PrimaryKey(key) if rows == Rows::Files => check_key(key)?,
            ColumnOption::Unique(unique) if rows == Rows::Files => check_unique(unique)?,
            ColumnOption::ForeignKey(_) | ColumnOption::Check(_) if rows == Rows::Files => {
                refused(EXTERNAL_CONSTRAINTS)?
            }
            ColumnOption::PrimaryKey(_)
            | ColumnOption::Unique(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_) => refused(CONSTRAINTS)?,
            ColumnOption::Default(_) => refused(format!(
                "DEFAULT is not supported, since rows are never inserted; leave it out of column {name}"
            ))?,
            ColumnOption::Materialized(_)
            | ColumnOption::Ephemeral(_)
            | ColumnOption::Alias(_)
            | ColumnOption::DialectSpecific(_)
            | ColumnOption::CharacterSet(_)
            | ColumnOption::Collation(_)
            | ColumnOption::Comment(_)
            | ColumnOption::OnUpdate(_)
            | ColumnOption::Generated { .. }
            | ColumnOption::Options(_)
            | ColumnOption::Identity(_)
            | ColumnOption::OnConflict(_)
            | ColumnOption::Policy(_)
            | ColumnOption::Tags(_)
            | ColumnOption::Srid(_)
            | ColumnOption::Invisible => {
                refused(format!("{option} is not supported; leave it out of column {name}"))?;
            }
        }
    }
    Ok(())
}

fn check_key(key: &PrimaryKeyConstraint) -> Result<(), Error> {
    let PrimaryKeyConstraint { name: _, index_name, index_type, columns: _, index_options, characteristics } = key;
    refuse([(index_name.is_some() || index_type.is_some() || !index_options.is_empty(), INDEXES)])?;
    characteristics.as_ref().map_or(Ok(()), check_characteristics)
}

fn check_unique(unique: &UniqueConstraint) -> Result<(), Error> {
    let UniqueConstraint {
        name: _,
        index_name,
        index_type_display: _,
        index_type,
        columns: _,
        index_options,
        characteristics,
        // NULLS NOT DISTINCT promises more than plans use.
        nulls_distinct: _,
    } = unique;
    refuse([(index_name.is_some() || index_type.is_some() || !index_options.is_empty(), INDEXES)])?;
    characteristics.as_ref().map_or(Ok(()), check_characteristics)
}

fn check_characteristics(characteristics: &ConstraintCharacteristics) -> Result<(), Error> {
    // Constraints are never checked, so the time of the check does not matter.
    let ConstraintCharacteristics { deferrable: _, initially: _, enforced } = characteristics;
    refuse([(*enforced == Some(true), "ENFORCED is not supported: files are not checked; write NOT ENFORCED")])
}

pub(super) fn check_view(create: &CreateView) -> Result<(), Error> {
    let CreateView {
        or_alter,
        secure,
        columns,
        params,
        or_replace: _,
        name: _,
        name_before_not_exists: _,
        query: _,
        // The planner or `create::view` refuses the fields from here on.
        materialized: _,
        options: _,
        cluster_by: _,
        comment: _,
        with_no_schema_binding: _,
        if_not_exists: _,
        temporary: _,
        copy_grants: _,
        to: _,
    } = create;
    refuse([
        (*or_alter, "CREATE OR ALTER VIEW is not supported; write CREATE OR REPLACE VIEW"),
        (*secure, "secure views are not supported: everybody who may query sees all tables; leave out SECURE"),
        (params.is_some(), "ALGORITHM, DEFINER and SQL SECURITY are not supported for views; leave them out"),
    ])?;
    columns.iter().try_for_each(|column| {
        // The planner refuses the options.
        let ViewColumnDef { name: _, data_type, options: _ } = column;
        refuse([(data_type.is_some(), "the columns of a view have no types of their own; use CAST in its query")])
    })
}
