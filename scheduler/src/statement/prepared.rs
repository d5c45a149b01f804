//! PREPARE, EXECUTE and DEALLOCATE. What is kept of a prepared statement is the statement itself: an EXECUTE reads the
//! tables that there are then, and its plan is kept like that of any text.

use datafusion::logical_expr::{Deallocate, LogicalPlan, Prepare, Statement};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;

use super::{Answer, Executor, command};
use crate::error::Error;

/// Keeps a statement that can be planned.
pub(super) async fn prepare(executor: &Executor, prepare: Prepare, statement: Parsed) -> Result<Answer, Error> {
    let name = prepare.name.clone();
    context(executor).execute_logical_plan(LogicalPlan::Statement(Statement::Prepare(prepare))).await?;
    executor.session.prepare(name, statement)?;
    Ok(command("PREPARE"))
}

pub(super) fn deallocate(executor: &Executor, deallocate: &Deallocate) -> Result<Answer, Error> {
    executor.session.deallocate(&deallocate.name)?;
    Ok(command("DEALLOCATE"))
}

/// The query that a plan is, or that it means if it is an EXECUTE.
pub(super) async fn meant(executor: &Executor, plan: LogicalPlan) -> Result<LogicalPlan, Error> {
    let LogicalPlan::Statement(Statement::Execute(execute)) = plan else { return Ok(plan) };
    let prepare = executor.plan(executor.session.prepared(&execute.name)?).await?;
    // DataFusion puts in the values; its sessions keep plans, so this one ends here.
    let context = context(executor);
    context.execute_logical_plan(prepare).await?;
    let frame = context.execute_logical_plan(LogicalPlan::Statement(Statement::Execute(execute))).await?;
    Ok(frame.logical_plan().clone())
}

fn context(executor: &Executor) -> SessionContext {
    SessionContext::new_with_state(executor.snapshot.state.clone())
}
