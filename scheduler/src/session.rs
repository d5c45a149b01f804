//! Sessions: each holds its settings on top of the server's catalog, memory and caches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::config::{ConfigField, ConfigOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use hwacha_corrections::{
    BoundedCallsRule, ByteLengths, CastsRule, CheckedSumsRule, GuardedExpressionsRule, KeyedConstantsRule,
    PlacedSubqueriesRule, ZonedDifferences, ZonedShiftsRule, corrected_rules, optimizer_rules,
};
use hwacha_execution::planning_budget::{checked_analyzer_rules, checked_optimizer_rules, checked_physical_rules};
use hwacha_execution::session::{built, functions_of_settings, session_config};
use hwacha_operators::functions::bounded::bounded_functions;
use hwacha_plan::rules::EncodableWindowFiltersRule;
use hwacha_proto::control;
use hwacha_storage::Stores;

use crate::catalog::{Catalog, catalog_list, file_formats};
use crate::declared_types::DeclaredTypesRule;
use crate::error::Error;
use crate::planning::PlanningThreads;
use crate::settings;

/// Maximum number of prepared statements of a session (1,000).
const MAX_PREPARED: usize = 1000;
/// Maximum bytes of all texts of a session's prepared statements (4 MiB: a parsed text takes about ten times as many
/// bytes).
const MAX_PREPARED_BYTES: usize = 4 << 20;

/// A session as one statement sees it. Later changes of settings have no effect on it.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub state: SessionState,
    /// The settings that differ from the defaults.
    pub settings: Vec<control::Setting>,
}

/// One client's session.
pub(crate) struct Session {
    /// The number of the session. Admission is fair between sessions.
    pub number: u64,
    pub planning: PlanningThreads,
    context: SessionContext,
    /// The settings that SET has changed. Executors get them too.
    settings: Mutex<BTreeMap<String, String>>,
    named: Mutex<NamedStatements>,
}

/// The statements that PREPARE has stored.
#[derive(Default)]
struct NamedStatements {
    /// Statements by name, each with the byte length of its text.
    statements: BTreeMap<String, (Statement, usize)>,
    /// The number of successful PREPAREs and DEALLOCATEs.
    changes: u64,
}

impl Session {
    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The present state of the session.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // SET and RESET change the state and the settings under this lock, so the two match.
        let settings = self.lock();
        let setting = |(key, value): (&String, &String)| control::Setting { key: key.clone(), value: value.clone() };
        Snapshot { state: self.context.state(), settings: settings.iter().map(setting).collect() }
    }

    /// The number of successful PREPAREs and DEALLOCATEs so far.
    pub(crate) fn prepared_changes(&self) -> u64 {
        self.lock_named().changes
    }

    /// Keeps a prepared statement.
    pub(crate) fn prepare(&self, name: String, statement: Statement) -> Result<(), Error> {
        let mut named = self.lock_named();
        if named.statements.contains_key(&name) {
            return Err(Error::invalid(format!("\"{name}\" is prepared already; DEALLOCATE {name} first")));
        }
        if named.statements.len() >= MAX_PREPARED {
            let text = format!("this session has {MAX_PREPARED} prepared statements already; DEALLOCATE some first");
            return Err(Error::invalid(text));
        }
        let bytes = statement.to_string().len();
        if named.statements.values().map(|(_, bytes)| bytes).sum::<usize>() + bytes > MAX_PREPARED_BYTES {
            return Err(Error::invalid(format!(
                "the prepared statements of this session would have more than {MAX_PREPARED_BYTES} bytes; DEALLOCATE some, or \
                 put their constants into a table"
            )));
        }
        named.changes += 1;
        named.statements.insert(name, (statement, bytes));
        Ok(())
    }

    /// The prepared statement of that name.
    pub(crate) fn prepared(&self, name: &str) -> Result<Statement, Error> {
        let named = self.lock_named();
        named.statements.get(name).map(|(statement, _)| statement.clone()).ok_or_else(|| not_prepared(name))
    }

    /// Forgets a prepared statement.
    pub(crate) fn deallocate(&self, name: &str) -> Result<(), Error> {
        let mut named = self.lock_named();
        named.statements.remove(name).ok_or_else(|| not_prepared(name))?;
        named.changes += 1;
        Ok(())
    }

    fn lock_named(&self) -> MutexGuard<'_, NamedStatements> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a setting for this session.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        let setting = settings::find(name)?;
        let (key, value) = (setting.key, setting.value(value)?);
        let mut settings = self.lock();
        self.change(|options| options.set(key, &value)).map_err(|error| {
            // Further lines of the error repeat the reason in terms of the option parser.
            let reason = error.strip_backtrace().lines().next().unwrap_or_default().to_owned();
            Error::invalid(format!("\"{value}\" is not a valid value for {key}: {reason}"))
        })?;
        settings.insert(key.to_owned(), value);
        Ok(())
    }

    /// Resets a setting to its default.
    pub(crate) fn reset(&self, name: &str) -> Result<(), Error> {
        let key = settings::find(name)?.key;
        let default = session_config().options().entries().into_iter().find(|entry| entry.key == key);
        let mut settings = self.lock();
        self.change(|options| match default.and_then(|entry| entry.value) {
            Some(value) => options.set(key, &value),
            // By default this setting has no value, and `set` cannot remove a value.
            None => options.reset(key),
        })?;
        settings.remove(key);
        Ok(())
    }

    fn change(
        &self,
        change: impl FnOnce(&mut ConfigOptions) -> Result<(), DataFusionError>,
    ) -> Result<(), DataFusionError> {
        let state = self.context.state_ref();
        let mut state = state.write();
        change(state.config_mut().options_mut())?;
        for function in functions_of_settings(state.scalar_functions().values(), state.config_options()) {
            state.register_udf(function)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The analyzer rules: DataFusion's and Hwacha's.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(DeclaredTypesRule)];
    rules.push(Arc::new(ZonedShiftsRule));
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(EncodableWindowFiltersRule));
    // Must run after `EncodableWindowFiltersRule`, which moves filters of window functions into their arguments.
    rules.push(Arc::new(GuardedExpressionsRule));
    rules.push(Arc::new(CastsRule));
    rules.push(Arc::new(KeyedConstantsRule));
    rules.push(Arc::new(BoundedCallsRule));
    rules.push(Arc::new(CheckedSumsRule));
    rules.push(Arc::new(PlacedSubqueriesRule));
    checked_analyzer_rules(rules)
}

fn not_prepared(name: &str) -> Error {
    Error::not_found(format!("no statement \"{name}\" is prepared in this session; PREPARE {name} AS … first"))
}

/// Makes sessions.
pub(crate) struct Sessions {
    catalog: Arc<Catalog>,
    runtime: Arc<RuntimeEnv>,
    stores: Arc<Stores>,
    next_number: AtomicU64,
}

impl Sessions {
    /// Sessions that plan with `runtime`, whose files come from `stores`.
    pub(crate) fn new(catalog: Arc<Catalog>, runtime: Arc<RuntimeEnv>, stores: Arc<Stores>) -> Self {
        Self { catalog, runtime, stores, next_number: AtomicU64::new(1) }
    }

    /// A new session with the default settings.
    pub(crate) fn open(&self) -> Arc<Session> {
        let builder = || {
            let mut builder = SessionStateBuilder::new()
                .with_config(session_config().with_extension(Arc::clone(&self.stores)))
                .with_runtime_env(Arc::clone(&self.runtime))
                .with_expr_planners(vec![Arc::new(ZonedDifferences)])
                .with_default_features()
                .with_file_formats(file_formats())
                .with_analyzer_rules(analyzer_rules())
                .with_optimizer_rules(checked_optimizer_rules(optimizer_rules()))
                .with_physical_optimizer_rules(checked_physical_rules(corrected_rules()));
            // Of two functions with the same name the later one is used.
            let functions = builder.scalar_functions().get_or_insert_default();
            let bounded = bounded_functions(functions.iter());
            functions.extend(bounded);
            builder
        };
        let builder = builder().with_catalog_list(catalog_list(&self.catalog, &builder().build()));
        let mut state = built(builder).expect("sessions take functions");
        state.register_function_rewrite(Arc::new(ByteLengths)).expect("sessions take rewrites");
        Arc::new(Session {
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            planning: PlanningThreads::default(),
            context: SessionContext::new_with_state(state),
            settings: Mutex::default(),
            named: Mutex::default(),
        })
    }
}
