//! Decodes plans and expressions. Expressions that a plan shares stay shared. Arithmetic fails on overflow if
//! `hwacha.execution.checked_arithmetic` is on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode};
use hwacha_execution::session::hwacha_options;
use hwacha_operators::functions::checked_expr::checked;

use super::parts::DecodedParts;
use super::scans;

pub(super) struct PlanDecoder {
    checks_arithmetic: bool,
    /// Decoded expressions by their ids. Example: the dynamic filter that a join fills and a scan tests.
    shared: RefCell<HashMap<u64, Arc<dyn PhysicalExpr>>>,
    parts: DecodedParts,
}

impl PlanDecoder {
    pub(super) fn new(context: &TaskContext, parts: Vec<Vec<u8>>) -> Self {
        let options = hwacha_options(context.session_config().options());
        Self {
            checks_arithmetic: options.execution.checked_arithmetic,
            shared: RefCell::default(),
            parts: DecodedParts::new(parts),
        }
    }
}

impl PlanDecoder {
    fn expression(
        &self,
        proto: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let decoded = self.default_proto_to_physical_expr(proto, schema, context)?;
        let decoded = if self.checks_arithmetic { checked(decoded, schema) } else { decoded };
        let Some(number) = proto.expr_id else { return Ok(decoded) };
        let known = self.shared.borrow().get(&number).cloned();
        match known {
            // The new expression shares the state of `known`, such as the current value of a dynamic filter.
            Some(known) => known.with_new_children(decoded.children().into_iter().cloned().collect()),
            None => {
                self.shared.borrow_mut().insert(number, Arc::clone(&decoded));
                Ok(decoded)
            }
        }
    }
}

impl PhysicalProtoConverterExtension for PlanDecoder {
    fn proto_to_execution_plan(
        &self,
        proto: &PhysicalPlanNode,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.parts.whole(proto, |whole| match scans::decode(whole, context, self)? {
            Some(scan) => Ok(scan),
            None => self.default_proto_to_execution_plan(whole, context),
        })
    }

    fn proto_to_physical_expr(
        &self,
        proto: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        self.parts.whole(proto, |whole| self.expression(whole, schema, context))
    }

    fn execution_plan_to_proto(
        &self,
        _: &Arc<dyn ExecutionPlan>,
        _: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        internal_err!("a decoder does not encode")
    }

    fn physical_expr_to_proto(
        &self,
        _: &Arc<dyn PhysicalExpr>,
        _: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        internal_err!("a decoder does not encode")
    }
}
