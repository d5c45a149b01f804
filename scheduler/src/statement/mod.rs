//! Carries out statements: queries go to the event loop, definitions to the catalog, settings to the session.

mod analyze;
mod create;
mod explain;
mod long_constants;
mod names;
mod parameters;
mod prepared;
mod store_options;
mod system_tables;
mod unsupported;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement as PlanStatement};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use hwacha_corrections::count_copies;
use hwacha_execution::planning_budget::check_size;
use hwacha_storage::Stores;
use tokio::runtime::Handle;

use crate::catalog::{CATALOG, Catalog, SCHEMA};
use crate::error::Error;
use crate::event_loop::EventLoopHandle;
use crate::parsing::{check_depth, check_growth, check_text, definition_text, parse, rewrite};
use crate::plan_cache::{PlanCache, PlanKey, ReusablePlan, files, is_reusable, tables};
use crate::planner::planner;
use crate::query::Submission;
use crate::results::{QueryGuard, rows};
use crate::session::{Session, Snapshot};
use crate::wire_schema::{to_wire, wire_schema};
use store_options::NewStore;

/// Rows on their way to a client, in wire form.
pub(crate) type Rows = BoxStream<'static, Result<RecordBatch, Error>>;

/// The result of a statement.
pub(crate) struct Answer {
    pub schema: SchemaRef,
    pub rows: Rows,
    pub kind: AnswerKind,
}

/// The result columns and the parameters of a statement that is not run.
pub(crate) struct Description {
    /// `None` when there are no rows.
    pub schema: Option<SchemaRef>,
    /// The placeholders, by position.
    pub parameters: SchemaRef,
}

/// What kind of statement an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// A query that runs on executors, by its number.
    Query(u64),
    /// A query that the scheduler process answered itself.
    Local,
    /// A statement without rows, by its name. It has been carried out already.
    Command(&'static str),
}

/// Carries out statements in one session.
#[derive(Clone)]
pub(crate) struct StatementRunner {
    pub event_loop: EventLoopHandle,
    pub catalog: Arc<Catalog>,
    pub session: Arc<Session>,
    /// The session as the statement sees it.
    pub snapshot: Snapshot,
    pub plans: Arc<PlanCache>,
}

impl StatementRunner {
    /// Carries out all statements of a text one after the other, with `parameters` for the placeholders. Returns the
    /// answer of the last statement.
    pub(crate) async fn run(&self, sql: &str, parameters: Vec<ScalarValue>) -> Result<Answer, Error> {
        let key = self.key(sql, &parameters);
        if let Some(query) = self.known(key.as_ref()).await {
            return self.run_query(query).await;
        }
        let statements = self.parse(sql).await?;
        let key = key.filter(|_| statements.len() == 1);
        let (mut runner, mut last) = (Cow::Borrowed(self), None);
        for statement in statements {
            // The rows of an earlier statement are read to their end first, since the next statement may rely on its
            // effects.
            if let Some(Answer { rows, .. }) = last.take() {
                rows.try_for_each(|_: RecordBatch| async { Ok(()) }).await?;
                runner.to_mut().snapshot = self.session.snapshot();
            }
            last = Some(runner.statement(statement, parameters.clone(), key.clone()).await?);
        }
        last.ok_or_else(|| Error::invalid("there is no statement in the text"))
    }

    /// The result columns and the parameters of a text's last statement. Nothing is carried out.
    pub(crate) async fn describe(&self, sql: &str) -> Result<Description, Error> {
        let key = self.key(sql, &[]);
        if let Some(query) = self.known(key.as_ref()).await {
            return Ok(Description { schema: Some(Arc::clone(&query.schema)), parameters: Arc::new(Schema::empty()) });
        }
        let mut statements = self.parse(sql).await?;
        let key = key.filter(|_| statements.len() == 1);
        let Some(statement) = statements.pop_back() else {
            return Err(Error::invalid("there is no statement in the text"));
        };
        if let Parsed::Statement(sql) = &statement
            && matches!(sql.as_ref(), SqlStatement::Analyze(_))
        {
            return Ok(Description { schema: None, parameters: Arc::new(Schema::empty()) });
        }
        let (plan, key) = self.meant(self.plan(statement).await?, key).await?;
        let schema = match &plan {
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => None,
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => Some(explain::schema()),
            // With placeholders, the types may depend on their values.
            plan if plan.get_parameter_names()?.is_empty() => {
                Some(Arc::clone(&self.prepare(plan.clone(), key).await?.schema))
            }
            plan => Some(wire_schema(plan.schema().as_arrow())),
        };
        Ok(Description { schema, parameters: wire_schema(&parameters::asked_for(&plan)?) })
    }

    async fn parse(&self, sql: &str) -> Result<VecDeque<Parsed>, Error> {
        check_text(sql)?;
        let (sql, state) = (sql.to_owned(), self.snapshot.state.clone());
        self.deep(move || {
            let options = &state.config_options().sql_parser;
            let names = IdentNormalizer::new(options.enable_ident_normalization);
            let mut statements = parse(&sql, options.dialect)?;
            for statement in &mut statements {
                check_depth(statement)?;
                check_growth(statement)?;
                rewrite(statement, &names)?;
                unsupported::check(statement, &state)?;
            }
            Ok(statements)
        })
        .await
    }

    /// Makes the logical plan. Opens the tables, which reads footers of files.
    async fn plan(&self, statement: Parsed) -> Result<LogicalPlan, Error> {
        // DataFusion cannot plan BEGIN, which is parsed as the same statement as START TRANSACTION.
        if let Parsed::Statement(sql) = &statement
            && matches!(sql.as_ref(), SqlStatement::StartTransaction { .. })
        {
            return Err(no_transactions());
        }
        let (runner, io) = (self.clone(), Handle::current());
        self.deep(move || {
            let planned = io.block_on(runner.snapshot.state.statement_to_plan(statement.clone()));
            let planned =
                planned.map_err(|error| names::missing(&runner, &statement).unwrap_or_else(|| error.into()))?;
            check_size(&planned)?;
            Ok(count_copies(planned)?)
        })
        .await
    }

    /// Runs work that recurses as deep as a statement, on one of the session's planning threads.
    async fn deep<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.session.planning.run(work).await?
    }

    /// The optimized plan. Its schema has the final types of the rows: before analysis a UNION has the types of its
    /// first branch, and before constant folding a rounded decimal has too many digits.
    async fn optimized(&self, plan: LogicalPlan) -> Result<LogicalPlan, Error> {
        let state = self.snapshot.state.clone();
        self.deep(move || Ok(state.optimize(&plan)?)).await
    }

    fn key(&self, sql: &str, parameters: &[ScalarValue]) -> Option<PlanKey> {
        PlanKey::new(sql, parameters, &self.snapshot, &self.catalog)
    }

    /// The cached plan of a query, if its files have not changed.
    async fn known(&self, key: Option<&PlanKey>) -> Option<Arc<ReusablePlan>> {
        let (key, state) = (key?, &self.snapshot.state);
        match self.plans.find(key, state).await {
            Some(plan) => Some(plan),
            None => self.plans.find(&key.clone().of_session(&self.session), state).await,
        }
    }

    /// The query to run, and the key to cache its plan under. An EXECUTE becomes the query that its session has
    /// prepared, so its key contains the session.
    async fn meant(&self, plan: LogicalPlan, key: Option<PlanKey>) -> Result<(LogicalPlan, Option<PlanKey>), Error> {
        let key = match plan {
            LogicalPlan::Statement(PlanStatement::Execute(_)) => key.map(|key| key.of_session(&self.session)),
            _ => key,
        };
        Ok((prepared::meant(self, plan).await?, key))
    }

    /// Optimizes a query, and caches the plan under `key` if it can be used again.
    async fn prepare(&self, query: LogicalPlan, key: Option<PlanKey>) -> Result<Arc<ReusablePlan>, Error> {
        let key = match key {
            Some(key) if is_reusable(&query)? && query.get_parameter_names()?.is_empty() => Some(key),
            _ => None,
        };
        let tables = tables(&query)?;
        let logical = self.optimized(query).await?;
        // Files are listed before the physical plan is made. If a file changes after the listing, the next lookup
        // notices it.
        let files = match &key {
            // If the files cannot be listed, planning fails too and gives the reason.
            Some(_) => files(&tables, &self.snapshot.state).await.unwrap_or(None),
            None => None,
        };
        let plan = Arc::new(ReusablePlan::new(logical, tables, files.unwrap_or_default()));
        if let (Some(key), Some(_)) = (key, files) {
            self.plans.keep(key, &plan);
        }
        Ok(plan)
    }

    /// Carries out one statement. The plan of a query is cached under `key`.
    async fn statement(
        &self,
        statement: Parsed,
        parameters: Vec<ScalarValue>,
        key: Option<PlanKey>,
    ) -> Result<Answer, Error> {
        if let Parsed::Statement(sql) = &statement
            && let SqlStatement::Analyze(analyze) = sql.as_ref()
        {
            self.forget_listings();
            return analyze::analyze_table(self, analyze.clone()).await;
        }
        let (mut statement, mut store) = (statement, None);
        if let Parsed::CreateExternalTable(create) = &mut statement {
            store = NewStore::take(create, &self.stores())?;
        }
        let mut plan = self.plan(statement.clone()).await?;
        if !parameters.is_empty() {
            plan = plan.with_param_values(parameters)?;
        }
        match plan {
            LogicalPlan::Ddl(ddl) => {
                self.forget_listings();
                let answer = self.definition(ddl, &statement, store).await;
                self.catalog.take_forgotten_stores().iter().for_each(|name| self.stores().remove_table(name));
                // Plans of older catalog versions are never looked up again, and they hold the files of dropped
                // tables.
                self.plans.forget_before(self.catalog.version());
                answer
            }
            LogicalPlan::Statement(plan) => self.of_session(plan, statement, key).await,
            LogicalPlan::Explain(explain) => explain::explain(self, explain).await,
            LogicalPlan::Analyze(analyze) => explain::analyze(self, analyze).await,
            LogicalPlan::Dml(dml) => Err(Error::unsupported(format!(
                "{} is not supported; make a new table with CREATE TABLE … AS SELECT",
                dml.op.name().to_uppercase()
            ))),
            LogicalPlan::Copy(_) => Err(Error::unsupported(
                "COPY is not supported by the server; write a result to a file with the shell's \\o or `hwacha sql -c … > FILE`",
            )),
            query => self.run_query(self.prepare(query, key).await?).await,
        }
    }

    /// Drops all cached listings of files, so statements that define or analyze tables see the current files.
    fn forget_listings(&self) {
        if let Some(listings) = self.snapshot.state.runtime_env().cache_manager.get_list_files_cache() {
            listings.clear();
        }
    }

    /// Runs a query on executors, or in this process if it reads only tables of information_schema.
    pub(crate) async fn query(&self, plan: LogicalPlan) -> Result<Answer, Error> {
        self.run_query(self.prepare(plan, None).await?).await
    }

    async fn run_query(&self, query: Arc<ReusablePlan>) -> Result<Answer, Error> {
        let schema = Arc::clone(&query.schema);
        if reads_only_system_tables(&query.logical)? {
            return self.local(query.logical.clone(), schema).await;
        }
        let guard = self.submit(query, false).await?;
        let kind = AnswerKind::Query(guard.ticket().query.0);
        let wire = Arc::clone(&schema);
        let rows = rows(guard).map(move |batch| Ok(to_wire(&batch?, &wire)?)).boxed();
        Ok(Answer { schema, rows, kind })
    }

    /// Submits an optimized query.
    async fn submit(&self, query: Arc<ReusablePlan>, collect_metrics: bool) -> Result<QueryGuard, Error> {
        let (mut state, mut settings) = (self.snapshot.state.clone(), self.snapshot.settings.clone());
        long_constants::shrink_batches(&mut state, &mut settings, &query.logical)?;
        let submission = Submission {
            session: self.session.number,
            settings,
            planner: planner(state, self.session.planning.clone(), query),
            collect_metrics,
        };
        Ok(QueryGuard::new(self.event_loop.clone(), self.event_loop.submit(submission).await?))
    }

    async fn local(&self, plan: LogicalPlan, schema: SchemaRef) -> Result<Answer, Error> {
        let (state, io) = (self.session.context().state(), Handle::current());
        let planning = state.clone();
        let plan = self.deep(move || Ok(system_tables::plan(&planning, &plan, &io)?)).await?;
        let wire = Arc::clone(&schema);
        let rows = system_tables::run(plan, &state)?.map(move |batch| Ok(to_wire(&batch?, &wire)?)).boxed();
        Ok(Answer { schema, rows, kind: AnswerKind::Local })
    }

    /// Carries out a statement about settings, prepared statements or transactions.
    async fn of_session(&self, plan: PlanStatement, parsed: Parsed, key: Option<PlanKey>) -> Result<Answer, Error> {
        match plan {
            PlanStatement::SetVariable(set) => {
                self.session.set(&set.variable, &set.value)?;
                Ok(command("SET"))
            }
            PlanStatement::ResetVariable(reset) => {
                self.session.reset(&reset.variable)?;
                Ok(command("RESET"))
            }
            PlanStatement::Prepare(prepare) => prepared::prepare(self, prepare, parsed),
            execute @ PlanStatement::Execute(_) => {
                let (query, key) = self.meant(LogicalPlan::Statement(execute), key).await?;
                self.run_query(self.prepare(query, key).await?).await
            }
            PlanStatement::Deallocate(deallocate) => prepared::deallocate(self, &deallocate),
            PlanStatement::TransactionStart(_) | PlanStatement::TransactionEnd(_) => Err(no_transactions()),
        }
    }

    fn stores(&self) -> Arc<Stores> {
        self.snapshot.state.config().get_extension().expect("sessions have stores")
    }

    async fn definition(
        &self,
        ddl: DdlStatement,
        statement: &Parsed,
        store: Option<NewStore>,
    ) -> Result<Answer, Error> {
        let text = || definition_text(statement, self.snapshot.state.config_options());
        match ddl {
            DdlStatement::CreateExternalTable(command) => create::external_table(self, *command, &text()?, store).await,
            DdlStatement::CreateView(view) => create::view(self, view, &text()?).await,
            DdlStatement::CreateMemoryTable(table) => {
                create::table(self, table, &create::required_columns(statement)).await
            }
            DdlStatement::DropTable(drop) => create::drop(self, &drop.name, "table", drop.if_exists),
            DdlStatement::DropView(drop) => create::drop(self, &drop.name, "view", drop.if_exists),
            other => Err(Error::unsupported(no_definition(&other))),
        }
    }
}

fn no_transactions() -> Error {
    Error::unsupported(
        "transactions are not supported; leave out BEGIN, COMMIT and ROLLBACK, since each statement takes effect by \
         itself",
    )
}

/// The message about a definition that the server does not support.
fn no_definition(ddl: &DdlStatement) -> String {
    let schema = |name: &str| format!("{name} is not supported; create tables and views in {CATALOG}.{SCHEMA}");
    let other = |name: &str| format!("{name} is not supported");
    match ddl {
        DdlStatement::CreateCatalogSchema(_) => schema("CREATE SCHEMA"),
        DdlStatement::CreateCatalog(_) => schema("CREATE DATABASE"),
        DdlStatement::DropCatalogSchema(_) => schema("DROP SCHEMA"),
        DdlStatement::CreateIndex(_) => other("CREATE INDEX"),
        DdlStatement::CreateFunction(_) => other("CREATE FUNCTION"),
        DdlStatement::DropFunction(_) => other("DROP FUNCTION"),
        known => other(known.name()),
    }
}

/// The name of a table in the schema `public`. Fails for a name in another schema.
fn local_name(name: &TableReference) -> Result<&str, Error> {
    let catalog = name.catalog().unwrap_or(CATALOG);
    let schema = name.schema().unwrap_or(SCHEMA);
    if catalog != CATALOG || schema != SCHEMA {
        return Err(Error::not_found(format!(
            "schema {catalog}.{schema} does not exist; all tables and views are in {CATALOG}.{SCHEMA}"
        )));
    }
    Ok(name.table())
}

/// The answer of a statement without rows.
fn command(name: &'static str) -> Answer {
    Answer {
        schema: Arc::new(Schema::empty()),
        rows: futures::stream::empty().boxed(),
        kind: AnswerKind::Command(name),
    }
}

/// An answer of text columns that this process made.
fn text_answer(columns: &[&str], rows: Vec<Vec<String>>) -> Result<Answer, Error> {
    let fields: Vec<_> = columns.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = (0..columns.len())
        .map(|column| Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row[column]))) as ArrayRef)
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(datafusion::error::DataFusionError::from)?;
    Ok(Answer { schema, rows: futures::stream::iter([Ok(batch)]).boxed(), kind: AnswerKind::Local })
}

/// Whether the plan is a DESCRIBE, or scans at least one table of information_schema and no other table.
fn reads_only_system_tables(plan: &LogicalPlan) -> Result<bool, Error> {
    let (mut system, mut other) = (0, 0);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            match scan.table_name.schema() {
                Some("information_schema") => system += 1,
                _ => other += 1,
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(system > 0 && other == 0 || matches!(plan, LogicalPlan::DescribeTable(_)))
}
