//! Compares a file's column after the cast to the table's type, if that cast loses information.
//!
//! DataFusion adds these casts when it opens the file, long after the rule `CastsRule` of the crate `corrections` has
//! run. It then moves the cast to the literal of a comparison, and skips row groups by the result. Example: the table
//! is `t (d INT)`, and the file has 5.10 and 5.99 as DECIMAL(10, 2). Both are 5 as INT. But the filter `d = 5` becomes
//! `d = 5.00`, and no row is found.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};

use crate::functions::opaque::opaque_physical;
use crate::lossy_casts::loses;

/// Makes DataFusion's casts from a file's types to its table's types, and wraps lossy casts in `opaque`.
#[derive(Debug)]
pub(crate) struct KeptColumns;

impl PhysicalExprAdapterFactory for KeptColumns {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let casts = DefaultPhysicalExprAdapterFactory.create(table, Arc::clone(&file))?;
        Ok(Arc::new(KeptColumnsOfFile { casts, file }))
    }
}

#[derive(Debug)]
struct KeptColumnsOfFile {
    casts: Arc<dyn PhysicalExprAdapter>,
    file: SchemaRef,
}

impl PhysicalExprAdapter for KeptColumnsOfFile {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let is_lossy =
            |cast: &CastExpr| cast.expr().data_type(&self.file).is_ok_and(|from| loses(&from, cast.cast_type()));
        let kept = |expr: Arc<dyn PhysicalExpr>| match expr.downcast_ref::<CastExpr>() {
            Some(cast) if is_lossy(cast) => Ok(Transformed::yes(opaque_physical(expr, &self.file)?)),
            _ => Ok(Transformed::no(expr)),
        };
        self.casts.rewrite(expr)?.transform_up(kept).data()
    }
}
