//! PREPARE, EXECUTE and DEALLOCATE. A session keeps the parsed statement, not its plan. So EXECUTE reads the current
//! tables, and its plan is cached like the plan of any text.

use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Deallocate, Expr, LogicalPlan, Prepare, Statement};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::{Answer, StatementRunner, command};
use crate::error::Error;

/// Stores a statement in the session. The statement was planned as `prepare` before, so it is valid.
pub(super) fn prepare(runner: &StatementRunner, prepare: Prepare, statement: Parsed) -> Result<Answer, Error> {
    let (types, asked) = (prepare.fields.len(), prepare.input.get_parameter_names()?.len());
    if types > 0 && types != asked {
        return Err(Error::invalid(format!(
            "the statement has {asked} parameters, but PREPARE declares {types} types; declare one type for each \
             parameter, or none"
        )));
    }
    runner.session.prepare(prepare.name, statement)?;
    Ok(command("PREPARE"))
}

pub(super) fn deallocate(runner: &StatementRunner, deallocate: &Deallocate) -> Result<Answer, Error> {
    runner.session.deallocate(&deallocate.name)?;
    Ok(command("DEALLOCATE"))
}

/// Returns the prepared query with its values in place of an EXECUTE. Other plans stay as they are.
pub(super) async fn meant(runner: &StatementRunner, plan: LogicalPlan) -> Result<LogicalPlan, Error> {
    let LogicalPlan::Statement(Statement::Execute(execute)) = plan else { return Ok(plan) };
    let parsed = runner.session.prepared(&execute.name)?;
    let are_typed = has_types(&parsed);
    let LogicalPlan::Statement(Statement::Prepare(prepare)) = runner.plan(parsed).await? else {
        return Err(Error::invalid(format!(
            "\"{}\" is no prepared query; DEALLOCATE it and PREPARE it again",
            execute.name
        )));
    };
    let asked = prepare.input.get_parameter_names()?.len();
    if execute.parameters.len() != asked {
        let given = execute.parameters.len();
        return Err(Error::invalid(format!("\"{}\" takes {asked} parameters, but {given} are given", execute.name)));
    }
    let mut values =
        execute.parameters.into_iter().map(|value| constant(runner, value)).collect::<Result<Vec<_>, _>>()?;
    // Without declared types, the values are like constants in the text of the statement.
    if are_typed {
        for (value, field) in values.iter_mut().zip(&prepare.fields) {
            *value = value.cast_to(field.data_type())?;
        }
    }
    Ok(Arc::unwrap_or_clone(prepare.input).with_param_values(values)?)
}

fn has_types(prepare: &Parsed) -> bool {
    let Parsed::Statement(statement) = prepare else { return false };
    matches!(statement.as_ref(), SqlStatement::Prepare { data_types, .. } if !data_types.is_empty())
}

fn constant(runner: &StatementRunner, expr: Expr) -> Result<ScalarValue, Error> {
    let state = &runner.snapshot.state;
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(DFSchema::empty()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    match ExprSimplifier::new(context).simplify(expr)? {
        Expr::Literal(value, _) => Ok(value),
        other => {
            Err(Error::unsupported(format!("the value {other} of a parameter is not a constant; write a constant")))
        }
    }
}
