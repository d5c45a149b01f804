//! EXPLAIN: the logical plan, the physical plan and the stages. EXPLAIN ANALYZE: the stages with their measurements.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Analyze, Explain, ExplainFormat, LogicalPlan};
use datafusion::physical_plan::displayable;
use hwacha_plan::explain::{analyzed_stage_graph, stage_graph};
use std::sync::Arc;
use tokio::runtime::Handle;

use super::{Answer, StatementRunner, prepared, text_answer};
use crate::error::Error;
use crate::plan_cache::TableFiles;
use crate::planner::plan;
use crate::query::{ClusterShape, Size};
use crate::results::drain;

const COLUMNS: [&str; 2] = ["plan_type", "plan"];

/// The schema of the rows of EXPLAIN.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(COLUMNS.map(|name| Field::new(name, DataType::Utf8, false)).to_vec()))
}

/// Plans a query without running it. If no executor is attached, the plan is made for one executor.
pub(super) async fn explain(runner: &StatementRunner, explain: Explain) -> Result<Answer, Error> {
    let shape = runner.event_loop.shape().await?;
    let shape = ClusterShape { executors: shape.executors.max(1), ..shape };
    let query = prepared::meant(runner, explain.plan.as_ref().clone()).await?;
    let state = runner.snapshot.state.clone();
    let io = Handle::current();
    let rows = runner.deep(move || {
        io.block_on(async {
            if let LogicalPlan::Ddl(definition) = &query {
                return Ok(vec![logical_row(definition.display())]);
            }
            let logical = state.optimize(&query)?;
            let physical = state.create_physical_plan(&query).await?;
            let stages = plan(&state, &logical, TableFiles::default(), shape, Size::Estimated).await?;
            let statistics = explain.show_statistics.unwrap_or(state.config_options().explain.show_statistics);
            let shown = displayable(physical.as_ref()).set_show_statistics(statistics);
            let (logical, physical) = match explain.explain_format {
                ExplainFormat::Indent => {
                    (logical.display_indent().to_string(), shown.indent(explain.verbose).to_string())
                }
                ExplainFormat::Tree => (logical.display_indent().to_string(), shown.tree_render().to_string()),
                // These two formats exist only for logical plans.
                ExplainFormat::PostgresJSON => return Ok(vec![logical_row(logical.display_pg_json())]),
                ExplainFormat::Graphviz => return Ok(vec![logical_row(logical.display_graphviz())]),
            };
            Ok::<_, Error>(vec![
                logical_row(logical),
                vec!["physical_plan".to_owned(), physical],
                vec!["stage_graph".to_owned(), stage_graph(&stages)],
            ])
        })
    });
    text_answer(&COLUMNS, rows.await?)
}

fn logical_row(plan: impl ToString) -> Vec<String> {
    vec!["logical_plan".to_owned(), plan.to_string()]
}

/// Runs the query, drops its rows, and shows the measurements of every stage and operator.
pub(super) async fn analyze(runner: &StatementRunner, analyze: Analyze) -> Result<Answer, Error> {
    // There is one format, and it shows everything. Options for less or for another format were refused before.
    let Analyze { input, verbose: _, format: _, schema: _, analyze_level: _, analyze_categories: _ } = analyze;
    let query = prepared::meant(runner, input.as_ref().clone()).await?;
    let query = runner.prepare(query, None).await?;
    let guard = runner.submit(query, true).await?;
    let ended = drain(guard).await?;
    let text = match &ended.plan {
        Some(planned) => analyzed_stage_graph(&planned.plan, &ended.metrics, &ended.adaptations, ended.planned_anew),
        None => String::new(),
    };
    text_answer(&COLUMNS, vec![vec!["stage_graph_with_metrics".to_owned(), text]])
}
