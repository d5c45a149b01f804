//! Where a table gives a column another type than a file does, and the cast to it loses something, comparisons with the column
//! are made after the cast.
//!
//! DataFusion casts the columns of a file when it opens the file. It then moves the cast to the literal of a comparison, long
//! after [`crate::rules::CastsRule`], and skips row groups by it: of a table `t (d INT)` over a file with 5.10 and 5.99,
//! `d = 5` would be `d = 5.00` and have no rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};

use crate::lossy_casts::loses;
use crate::opaque::opaque_physical;

/// DataFusion's casts from the types of a file to those of its table, kept where they lose something.
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
