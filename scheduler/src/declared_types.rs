//! Makes `arrow_typeof` return the types that files declare, where tables have other types ([`table_types`]).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, ExprSchemable, Join, LogicalPlan, TableScan, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::catalog::table_types;

const FUNCTION: &str = "arrow_typeof";

/// Replaces calls of `arrow_typeof` by their results, in nodes that read a column whose files declare another type than
/// the table. Example: `arrow_typeof(d)` becomes `'Dictionary(Int8, Utf8)'`, although the table has
/// `Dictionary(Int32, Utf8)`. The rule must be the first one, since later rules add casts to the types of the table.
#[derive(Debug)]
pub(crate) struct DeclaredTypesRule;

impl AnalyzerRule for DeclaredTypesRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            if !asks(&node)? {
                return Ok(Transformed::no(node));
            }
            let Some(schema) = input_schema(&node)? else { return Ok(Transformed::no(node)) };
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|part| Ok(answered(part, &schema)))?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "declared_types"
    }
}

/// Whether an expression of the node calls `arrow_typeof`.
fn asks(node: &LogicalPlan) -> Result<bool> {
    let mut asks = false;
    node.apply_expressions(|expr| {
        asks = asks || expr.exists(|part| Ok(argument(part).is_some()))?;
        Ok(if asks { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(asks)
}

fn argument(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == FUNCTION => call.args.first(),
        _ => None,
    }
}

/// Replaces a call by its result, if the type of the argument is known.
fn answered(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match argument(&expr).and_then(|argument| argument.get_type(schema).ok()) {
        Some(data_type) => Transformed::yes(lit(data_type.to_string())),
        None => Transformed::no(expr),
    }
}

/// The columns that the node reads, with declared types. `None` if no column has a declared type that differs.
fn input_schema(node: &LogicalPlan) -> Result<Option<DFSchema>> {
    let mut merged = DFSchema::empty();
    let mut differs = false;
    for input in node.inputs() {
        let types = declared_types(input)?;
        differs |= types.iter().any(Option::is_some);
        let fields = input.schema().iter().zip(types).map(|((table, field), declared)| {
            let field = match declared {
                Some(declared) => Arc::new(Field::clone(field).with_data_type(declared)),
                None => Arc::clone(field),
            };
            (table.cloned(), field)
        });
        merged.merge(&DFSchema::new_with_metadata(fields.collect(), HashMap::new())?);
    }
    Ok(differs.then_some(merged))
}

/// For each column of `plan`: the type that the files declare, if the column comes from a table that has another
/// type.
fn declared_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let columns = plan.schema().fields().len();
    let types = match plan {
        LogicalPlan::TableScan(scan) => of_table(scan),
        LogicalPlan::SubqueryAlias(alias) => declared_types(&alias.input)?,
        LogicalPlan::Filter(filter) => declared_types(&filter.input)?,
        LogicalPlan::Sort(sort) => declared_types(&sort.input)?,
        LogicalPlan::Limit(limit) => declared_types(&limit.input)?,
        LogicalPlan::Distinct(Distinct::All(input)) => declared_types(input)?,
        LogicalPlan::Window(window) => declared_types(&window.input)?,
        LogicalPlan::Projection(projection) => of_expressions(&projection.expr, &projection.input)?,
        LogicalPlan::Aggregate(Aggregate { group_expr, input, .. }) => of_expressions(group_expr, input)?,
        LogicalPlan::Join(join) => of_join(join)?,
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| declared_types(input)).collect::<Result<Vec<_>>>()?;
            let agreed = |column: usize| {
                let first = inputs.first()?.get(column)?;
                inputs.iter().all(|types| types.get(column) == Some(first)).then(|| first.clone()).flatten()
            };
            (0..columns).map(agreed).collect()
        }
        _ => vec![],
    };
    // Further columns, such as results of window functions and aggregates, come from no table.
    Ok(types.into_iter().chain(std::iter::repeat(None)).take(columns).collect())
}

fn of_table(scan: &TableScan) -> Vec<Option<DataType>> {
    let Ok(table) = source_as_provider(&scan.source) else { return vec![] };
    let Some(types) = table_types(&table) else { return vec![] };
    scan.projected_schema.fields().iter().map(|field| types.declared(field.name())).collect()
}

fn of_expressions(exprs: &[Expr], input: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let types = declared_types(input)?;
    let of_column = |expr: &Expr| match expr.clone().unalias_nested().data {
        Expr::Column(column) => types.get(input.schema().maybe_index_of_column(&column)?).cloned().flatten(),
        _ => None,
    };
    Ok(exprs.iter().take_while(|expr| !matches!(expr, Expr::GroupingSet(_))).map(of_column).collect())
}

fn of_join(join: &Join) -> Result<Vec<Option<DataType>>> {
    Ok(match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => declared_types(&join.left)?,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => declared_types(&join.right)?,
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            [declared_types(&join.left)?, declared_types(&join.right)?].concat()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int8Type;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::optimizer::Analyzer;
    use datafusion::prelude::SessionContext;
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::catalog::open_parquet_directory;

    /// A session with a table `t` whose file says that its column `d` is a dictionary with keys of one byte.
    async fn context(directory: &std::path::Path) -> SessionContext {
        let words: DictionaryArray<Int8Type> = ["a", "b"].into_iter().collect();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("d", Arc::new(words) as ArrayRef), ("n", numbers)]).expect("a batch");
        let file = File::create(directory.join("f.parquet")).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("space");
        writer.close().expect("space");
        let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(DeclaredTypesRule)];
        rules.extend(Analyzer::new().rules);
        let state = SessionStateBuilder::new().with_default_features().with_analyzer_rules(rules).build();
        let table = open_parquet_directory(&state, directory).await.expect("a table");
        let context = SessionContext::new_with_state(state);
        context.register_table("t", table).expect("a free name");
        context
    }

    #[tokio::test]
    async fn the_types_of_files_are_told_wherever_their_columns_are_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let context = context(directory.path()).await;
        let declared = "Dictionary(Int8, Utf8)";
        let queries = [
            ("select arrow_typeof(d) from t limit 1", declared),
            ("select arrow_typeof(n) from t limit 1", "Int64"),
            ("select arrow_typeof(cast(d as varchar) || 'x') from t limit 1", "Utf8View"),
            ("select arrow_typeof(e) from (select d as e, n from t where n > 1 order by n limit 1)", declared),
            ("select arrow_typeof(d) from t group by d order by d limit 1", declared),
            (
                "select arrow_typeof(b.d) from t a join t b on a.d = b.d where arrow_typeof(a.d) like '%Int8%' limit 1",
                declared,
            ),
            ("select arrow_typeof(d) from (select d from t union all select d from t) limit 1", declared),
            ("select arrow_typeof(max(n)) from t", "Int64"),
        ];
        for (query, expected) in queries {
            let frame = context.sql(query).await.expect(query);
            let batches = frame.collect().await.expect(query);
            let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect(query);
            assert_eq!(batch.column(0).as_string::<i32>().value(0), expected, "{query}");
        }
    }
}
