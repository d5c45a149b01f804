//! Encodes expressions for which DataFusion 55's encoding leaves something out. Such an expression becomes
//! an extension with DataFusion's encoding and the missing rest:
//!
//! - Literals with metadata, or with a value that the encoding changes ([`hwacha_operators::scalars`]).
//! - Function calls whose result has metadata, and casts with an explicit target field. Without the rest,
//!   `arrow_metadata` and `arrow_field` would give other results. The metadata comes from `with_metadata` and from
//!   extension types.
//! - Casts that return NULL instead of an error.
//!
//! Binary operators that DataFusion encodes but cannot decode are refused. DataFusion cannot compute them either.

use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::format::{DEFAULT_CAST_OPTIONS, DEFAULT_FORMAT_OPTIONS};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{Result, internal_datafusion_err, internal_err, not_impl_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal, TryCastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_expr_node::ExprType;
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{
    self, PhysicalExprNode, PhysicalExtensionExprNode, PhysicalExtensionNode, PhysicalPlanNode,
};
use hwacha_operators::scalars::{decode_scalar, encode_scalar, survives};
use hwacha_proto::exchange as wire;
use hwacha_proto::exchange::expression_rest::Rest;
use prost::Message;

use super::own_node;
use super::parts::Parts;

/// Encodes as DataFusion does, adds to each expression what DataFusion leaves out, and cuts deep plans and expressions
/// into parts.
#[derive(Default)]
pub(super) struct CompleteConverter {
    parts: Parts,
}

impl CompleteConverter {
    /// The parts that were cut off, by their numbers.
    pub(super) fn into_parts(self) -> Vec<Vec<u8>> {
        self.parts.into_inner()
    }

    /// Encodes an expression with its rest. DataFusion encodes its children with this converter, so with their rests.
    fn expression(&self, expr: &Arc<dyn PhysicalExpr>, codec: &dyn PhysicalExtensionCodec) -> Result<PhysicalExprNode> {
        let Some(rest) = rest(expr)? else { return serialize_physical_expr_with_converter(expr, codec, self) };
        let expr = match rest {
            Rest::Literal(_) => vec![],
            _ => serialize_physical_expr_with_converter(expr, codec, self)?.encode_to_vec(),
        };
        let expr = wire::ExpressionRest { expr, rest: Some(rest) }.encode_to_vec();
        let extension = PhysicalExtensionExprNode { expr, inputs: vec![] };
        Ok(PhysicalExprNode { expr_id: None, expr_type: Some(ExprType::Extension(extension)) })
    }
}

impl PhysicalProtoConverterExtension for CompleteConverter {
    fn proto_to_execution_plan(
        &self,
        _: &PhysicalPlanNode,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("an encoder does not decode")
    }

    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        self.parts.nested(|| {
            let Some(node) = own_node(plan, codec, self)? else {
                return PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self);
            };
            let node = wire::PlanNode { node: Some(node) }.encode_to_vec();
            let inputs = plan.children().into_iter().map(|input| self.execution_plan_to_proto(input, codec));
            let extension = PhysicalExtensionNode { node, inputs: inputs.collect::<Result<_>>()? };
            Ok(PhysicalPlanNode { physical_plan_type: Some(PhysicalPlanType::Extension(extension)) })
        })
    }

    fn proto_to_physical_expr(
        &self,
        _: &PhysicalExprNode,
        _: &Schema,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        internal_err!("an encoder does not decode")
    }

    fn physical_expr_to_proto(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        self.parts.nested(|| self.expression(expr, codec))
    }
}

/// Decodes an expression that was encoded with its rest.
pub(super) fn decode(bytes: &[u8], context: &PhysicalExprDecodeCtx<'_>) -> Result<Arc<dyn PhysicalExpr>> {
    let encoded = wire::ExpressionRest::decode(bytes).map_err(|error| internal_datafusion_err!("{error}"))?;
    let whole = || -> Result<Arc<dyn PhysicalExpr>> {
        let node = PhysicalExprNode::decode(encoded.expr.as_slice());
        context.decode(&node.map_err(|error| internal_datafusion_err!("{error}"))?)
    };
    match &encoded.rest {
        Some(Rest::Literal(literal)) => decode_literal(literal),
        Some(Rest::ReturnField(field)) => with_return_field(&whole()?, decode_field(field)?),
        Some(Rest::Cast(cast)) => with_cast(&whole()?, cast),
        Some(Rest::TryCastTarget(field)) => match whole()?.downcast_ref::<TryCastExpr>() {
            Some(cast) => {
                Ok(Arc::new(TryCastExpr::new_with_target_field(Arc::clone(cast.expr()), decode_field(field)?)))
            }
            None => internal_err!("the rest of a TRY_CAST came with another expression"),
        },
        Some(Rest::Part(_)) | None => internal_err!("an expression came without its rest"),
    }
}

/// The rest of an expression: what DataFusion's encoding leaves out of the expression itself, without its children.
///
/// # Errors
///
/// `NotImplemented` for an expression that cannot be sent at all.
fn rest(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Rest>> {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        let field = literal.return_field(&Schema::empty())?;
        return match field.metadata().is_empty() && survives(literal.value()) {
            true => Ok(None),
            false => {
                let value = Some(encode_scalar(literal.value())?);
                Ok(Some(Rest::Literal(wire::Literal { value, metadata: field.metadata().clone() })))
            }
        };
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        let field = call.return_field(&Schema::empty())?;
        return Ok(match field.metadata().is_empty() {
            true => None,
            false => Some(Rest::ReturnField(encode_field(&field)?)),
        });
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return rest_of_cast(cast);
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>().filter(|binary| !is_known(*binary.op())) {
        return not_impl_err!("the operator {} is not supported", binary.op());
    }
    let Some(cast) = expr.downcast_ref::<TryCastExpr>() else { return Ok(None) };
    cast.target_metadata().map(|_| Ok(Rest::TryCastTarget(encode_field(cast.target_field())?))).transpose()
}

/// Whether DataFusion can decode the operator. `Question…` and `Colon` are not listed: planning refuses them.
fn is_known(operator: Operator) -> bool {
    use Operator::*;
    !matches!(operator, Arrow | LongArrow | HashArrow | HashLongArrow | AtAt | IntegerDivide | HashMinus | AtQuestion)
}

fn rest_of_cast(cast: &CastExpr) -> Result<Option<Rest>> {
    let (options, is_explicit) = (cast.cast_options(), cast.has_explicit_metadata());
    if options.format_options != DEFAULT_FORMAT_OPTIONS {
        return not_impl_err!("a cast with formats of its own cannot be sent to executors: {cast}");
    }
    if !is_explicit && *options == DEFAULT_CAST_OPTIONS {
        return Ok(None);
    }
    let target = is_explicit.then(|| encode_field(cast.target_field())).transpose()?;
    Ok(Some(Rest::Cast(wire::CastRest { target, null_on_failure: options.safe })))
}

fn decode_literal(literal: &wire::Literal) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(value) = &literal.value else { return internal_err!("a literal came without its value") };
    let metadata = Some(&literal.metadata).filter(|metadata| !metadata.is_empty()).map(FieldMetadata::from);
    Ok(Arc::new(Literal::new_with_metadata(decode_scalar(value)?, metadata)))
}

fn with_return_field(expr: &Arc<dyn PhysicalExpr>, field: FieldRef) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else {
        return internal_err!("the result of a function came with another expression");
    };
    let (function, options) = (Arc::new(call.fun().clone()), Arc::new(call.config_options().clone()));
    Ok(Arc::new(ScalarFunctionExpr::new(call.name(), function, call.args().to_vec(), field, options)))
}

fn with_cast(expr: &Arc<dyn PhysicalExpr>, rest: &wire::CastRest) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(cast) = expr.downcast_ref::<CastExpr>() else {
        return internal_err!("the rest of a cast came with another expression");
    };
    let options = CastOptions { safe: rest.null_on_failure, ..DEFAULT_CAST_OPTIONS };
    let inner = Arc::clone(cast.expr());
    Ok(Arc::new(match &rest.target {
        Some(target) => CastExpr::new_with_target_field(inner, decode_field(target)?, Some(options)),
        None => CastExpr::new(inner, cast.cast_type().clone(), Some(options)),
    }))
}

fn encode_field(field: &Field) -> Result<Vec<u8>> {
    Ok(protobuf::Field::try_from(field)?.encode_to_vec())
}

fn decode_field(bytes: &[u8]) -> Result<FieldRef> {
    let field = protobuf::Field::decode(bytes).map_err(|error| internal_datafusion_err!("{error}"))?;
    Ok(Arc::new(Field::try_from(&field)?))
}
