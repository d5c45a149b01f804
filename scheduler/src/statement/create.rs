//! Definitions: creates external tables, views, and tables written from a query, and drops them.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{CreateExternalTable, CreateMemoryTable, CreateView};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{ColumnDef, ColumnOption, Statement as SqlStatement};
use futures::StreamExt;
use hwacha_execution::failure::{disk_failure, io_cause};
use hwacha_model::Failure;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;

use super::store_options::NewStore;
use super::{Answer, StatementRunner, command, local_name};
use crate::catalog::{Definition, IfTaken, TableDirectory, check_files, open_external, unreadable};
use crate::error::{Error, ErrorKind};

/// Rows after which a table's next file begins (4,194,304). A larger table has several files, which executors can
/// share.
const FILE_ROWS: usize = 4 << 20;
/// Maximum attempts at CREATE TABLE AS when executors are lost (3).
const MAX_ATTEMPTS: u32 = 3;
/// Maximum batches that wait for the thread that writes files (4). At this number, reading from the executors waits.
const QUEUE: usize = 4;

pub(super) async fn external_table(
    runner: &StatementRunner,
    create: CreateExternalTable,
    sql: &str,
    mut store: Option<NewStore>,
) -> Result<Answer, Error> {
    let if_taken = IfTaken::of(create.or_replace, create.if_not_exists);
    let name = local_name(&create.name)?.to_owned();
    if !may_take(runner, &name, if_taken)? {
        return Ok(command("CREATE EXTERNAL TABLE"));
    }
    if create.unbounded {
        return Err(Error::unsupported("unbounded tables are not supported"));
    }
    // The table is opened now, so a wrong location or file is an error of this statement.
    check_files(&runner.snapshot.state, &create.locations, false)?;
    let table = open_external(&runner.snapshot.state, &create).await;
    let table = table.map_err(|error| unreadable(&create.locations, &error))?;
    check_files(&runner.snapshot.state, &create.locations, table.schema().fields().is_empty())?;
    let record = store.as_ref().map(|store| (&store.name[..], store.store.to_text()));
    if runner.catalog.put_external(&name, sql, record, if_taken)?
        && let Some(store) = &mut store
    {
        store.keep();
    }
    Ok(command("CREATE EXTERNAL TABLE"))
}

pub(super) async fn view(runner: &StatementRunner, view: CreateView, sql: &str) -> Result<Answer, Error> {
    let name = local_name(&view.name)?.to_owned();
    let if_taken = IfTaken::of(view.or_replace, false);
    may_take(runner, &name, if_taken)?;
    if view.temporary {
        return Err(Error::unsupported("temporary views are not supported; leave out TEMPORARY"));
    }
    if let Some(parameter) = view.input.get_parameter_names()?.iter().min() {
        return Err(Error::invalid(format!("a view has no parameters; write a value in place of {parameter}")));
    }
    runner.catalog.put(&name, Definition::View { sql: sql.to_owned() }, if_taken)?;
    Ok(command("CREATE VIEW"))
}

/// The positions of the columns that CREATE TABLE … AS declares NOT NULL.
pub(super) fn required_columns(statement: &Statement) -> Vec<usize> {
    let Statement::Statement(statement) = statement else { return vec![] };
    let SqlStatement::CreateTable(create) = statement.as_ref() else { return vec![] };
    let is_required =
        |column: &ColumnDef| column.options.iter().any(|option| matches!(option.option, ColumnOption::NotNull));
    (0..).zip(&create.columns).filter(|(_, column)| is_required(column)).map(|(position, _)| position).collect()
}

/// Writes the rows of a query to a new directory. The table exists only after its last row was written. The directory
/// is deleted if the statement fails or its client disconnects. `required` are the positions of the columns that must
/// not contain NULL.
pub(super) async fn table(
    runner: &StatementRunner,
    create: CreateMemoryTable,
    required: &[usize],
) -> Result<Answer, Error> {
    // Statements with constraints, defaults or TEMPORARY were refused before.
    let CreateMemoryTable { name, input, if_not_exists, or_replace, constraints: _, column_defaults: _, temporary: _ } =
        create;
    let if_taken = IfTaken::of(or_replace, if_not_exists);
    let name = local_name(&name)?.to_owned();
    if !may_take(runner, &name, if_taken)? {
        return Ok(command("CREATE TABLE"));
    }
    for attempt in 1.. {
        let answer = without_nulls(runner.query(input.as_ref().clone()).await?, required);
        let directory = runner.catalog.create_directory()?;
        match write(answer, &directory).await? {
            Written::Whole => {
                runner.catalog.put_table(&name, &directory, if_taken)?;
                break;
            }
            Written::Interrupted(error) if attempt == MAX_ATTEMPTS => return Err(error),
            Written::Interrupted(error) => tracing::warn!(table = name, %error, "writing the table again"),
        }
    }
    Ok(command("CREATE TABLE"))
}

/// The outcome of writing a table's rows.
enum Written {
    Whole,
    /// Executors were lost after some rows were written. The table is not in the catalog yet, so the query can run
    /// again.
    Interrupted(Error),
}

/// Declares the `required` columns of an answer as not nullable. A row with NULL in one of them is an error.
fn without_nulls(answer: Answer, required: &[usize]) -> Answer {
    let Answer { schema, rows, kind } = answer;
    let field = |(position, field): (usize, &FieldRef)| match required.contains(&position) {
        true => Arc::new(field.as_ref().clone().with_nullable(false)),
        false => Arc::clone(field),
    };
    let fields: Fields = schema.fields().iter().enumerate().map(field).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let (required, known) = (required.to_vec(), Arc::clone(&schema));
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let has_null = |position: &&usize| batch.column(**position).logical_null_count() > 0;
        if let Some(position) = required.iter().find(has_null) {
            let name = known.field(*position).name();
            return Err(Error::invalid(format!(
                "column \"{name}\" is NOT NULL, but the query returns NULL for it; leave out NOT NULL, or filter out \
                 these rows"
            )));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&known), batch.columns().to_vec(), &options);
        Ok(batch.map_err(DataFusionError::from)?)
    });
    Answer { schema, rows: rows.boxed(), kind }
}

pub(super) fn drop(
    runner: &StatementRunner,
    name: &TableReference,
    noun: &'static str,
    if_exists: bool,
) -> Result<Answer, Error> {
    let done = if noun == "view" { "DROP VIEW" } else { "DROP TABLE" };
    let name = local_name(name)?;
    let definition = match runner.catalog.definition(name) {
        None if if_exists => return Ok(command(done)),
        None => return Err(Error::not_found(format!("{noun} \"{name}\" does not exist"))),
        Some(definition) if definition.noun() != noun => {
            let real = definition.noun();
            return Err(Error::invalid(format!("\"{name}\" is a {real}; use DROP {}", real.to_uppercase())));
        }
        Some(definition) => definition,
    };
    runner.catalog.remove(name, &definition)?;
    Ok(command(done))
}

/// Whether a table of this name may be created. The catalog checks the name again when it adds the table.
fn may_take(runner: &StatementRunner, name: &str, if_taken: IfTaken) -> Result<bool, Error> {
    match runner.catalog.definition(name) {
        None => Ok(true),
        Some(taken) => if_taken.allows(name, &taken),
    }
}

/// Writes rows as they arrive. A thread of its own encodes and writes them; a bounded queue feeds it.
async fn write(mut answer: Answer, directory: &Arc<TableDirectory>) -> Result<Written, Error> {
    let (sender, mut receiver) = mpsc::channel::<RecordBatch>(QUEUE);
    // The writer holds the directory too, so the directory is not deleted while it writes.
    let (schema, held) = (Arc::clone(&answer.schema), Arc::clone(directory));
    let writing = tokio::task::spawn_blocking(move || {
        let mut files = TableFiles::create(held, schema)?;
        while let Some(batch) = receiver.blocking_recv() {
            files.write(&batch)?;
        }
        files.finish()
    });
    let (mut failed, mut has_rows) = (None, false);
    while let Some(batch) = answer.rows.next().await {
        match batch {
            Ok(batch) => {
                has_rows = true;
                if sender.send(batch).await.is_err() {
                    // The writer has ended with an error, which is returned below.
                    break;
                }
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    std::mem::drop(sender);
    let written = writing.await.map_err(|error| DataFusionError::External(Box::new(error)))?;
    match failed {
        Some(error) if has_rows && error.kind() == ErrorKind::Unavailable => Ok(Written::Interrupted(error)),
        Some(error) => Err(error),
        None => written.map(|()| Written::Whole).map_err(|error| unwritten(directory, error)),
    }
}

/// Names the directory in the error if the disk has failed.
fn unwritten(directory: &TableDirectory, error: DataFusionError) -> Error {
    match io_cause(&error) {
        Some(cause) => {
            let problem = format!("the rows cannot be written to {}: {cause}", directory.path().display());
            Error::Failed(Failure::new(disk_failure(cause), problem))
        }
        None => error.into(),
    }
}

/// The Parquet files of one table.
struct TableFiles {
    directory: Arc<TableDirectory>,
    schema: SchemaRef,
    current: ArrowWriter<std::fs::File>,
    current_rows: usize,
    files: usize,
}

impl TableFiles {
    fn create(directory: Arc<TableDirectory>, schema: SchemaRef) -> Result<Self, DataFusionError> {
        let current = open_file(directory.path(), 0, &schema)?;
        Ok(Self { directory, schema, current, current_rows: 0, files: 1 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        if self.current_rows >= FILE_ROWS {
            let next = open_file(self.directory.path(), self.files, &self.schema)?;
            close_file(std::mem::replace(&mut self.current, next))?;
            self.files += 1;
            self.current_rows = 0;
        }
        self.current.write(batch)?;
        self.current_rows += batch.num_rows();
        Ok(())
    }

    fn finish(self) -> Result<(), DataFusionError> {
        close_file(self.current)?;
        Ok(std::fs::File::open(self.directory.path())?.sync_all()?)
    }
}

fn open_file(
    directory: &std::path::Path,
    number: usize,
    schema: &SchemaRef,
) -> Result<ArrowWriter<std::fs::File>, DataFusionError> {
    let file = std::fs::File::create(directory.join(format!("part-{number:05}.parquet")))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    Ok(ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))?)
}

fn close_file(writer: ArrowWriter<std::fs::File>) -> Result<(), DataFusionError> {
    Ok(writer.into_inner()?.sync_all()?)
}
