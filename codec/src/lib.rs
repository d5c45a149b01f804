//! Turns stage plans into bytes and back.
//!
//! DataFusion encodes most of its operators and expressions. [`own_node`] encodes sinks and sources of exchanges,
//! recursive queries and their work tables, gates above grouping sets, and scans with their layout. All other operators
//! are refused.
//!
//! DataFusion's encoding leaves out properties of some operators. The encoding of the sink at the root contains these
//! properties ([`omitted`]). Properties that DataFusion leaves out of an expression are encoded with the expression
//! ([`expressions`]).

mod decoding;
mod expressions;
mod omitted;
mod parts;
mod scans;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::work_table::WorkTableExec;
use datafusion_proto::physical_plan::from_proto::parse_physical_sort_expr;
use datafusion_proto::physical_plan::to_proto::serialize_physical_sort_expr;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{self, PhysicalExprNode, PhysicalPlanNode, PhysicalSortExprNode};
use hwacha_model::StageId;
use hwacha_operators::aggregates::checked_sum::CheckedSum;
use hwacha_operators::aggregates::float_extreme::float_extreme_named;
use hwacha_operators::aggregates::merged::MergedAggregate;
use hwacha_operators::aggregates::resumed::ResumedAggregate;
use hwacha_operators::exchange::{EarlierAggregate, ExchangeSinkExec, ExchangeSourceExec, SourceSpec};
use hwacha_operators::functions::constant_arithmetic::ConstantArithmetic;
use hwacha_operators::functions::local_time::{LOCAL_TIME, local_time};
use hwacha_operators::functions::opaque::{self, OPAQUE};
use hwacha_operators::functions::order_key::{ORDER_KEY, order_key};
use hwacha_operators::grouping_gate::{GroupingGate, GroupingGateExec};
use hwacha_operators::runtime_filter::{FilterTap, KeyRange};
use hwacha_operators::scan::{file_scan, scan_layout};
use hwacha_proto::exchange::derived_function::Derived;
use hwacha_proto::exchange::plan_node::Node;
use hwacha_proto::exchange::{self as wire, PlanNode};
use prost::Message;

use self::decoding::PlanDecoder;
use self::expressions::CompleteConverter;
use self::parts::malformed;

/// Encodes a stage plan. Expressions that the plan shares (run-time filters) stay shared after [`decode`].
pub fn encode(plan: &Arc<dyn ExecutionPlan>) -> Result<Bytes> {
    let converter = CompleteConverter::default();
    let root = converter.execution_plan_to_proto(plan, &HwachaCodec)?.encode_to_vec();
    Ok(wire::StagePlan { root, parts: converter.into_parts() }.encode_to_vec().into())
}

/// Decodes a stage plan. Functions are found by name in `context`. The settings of `context` decide whether arithmetic
/// fails on overflow. Decoding is recursive, so deep plans need a large stack.
pub fn decode(bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    let wire::StagePlan { root, parts } = wire::StagePlan::decode(bytes).map_err(malformed)?;
    let root = PhysicalPlanNode::decode(root.as_slice()).map_err(malformed)?;
    let decoder = PlanDecoder::new(context, parts);
    decoder.proto_to_execution_plan(&root, &PhysicalPlanDecodeContext::new(context, &HwachaCodec))
}

#[derive(Debug)]
struct HwachaCodec;

impl PhysicalExtensionCodec for HwachaCodec {
    /// Refuses an operator that neither DataFusion nor [`own_node`] encodes.
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        _: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        internal_err!("{} cannot be sent to an executor", node.name())
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = PlanNode::decode(buf).map_err(|error| internal_datafusion_err!("{error}"))?;
        let decoder = Decoder { context: PhysicalPlanDecodeContext::new(context, self), converter };
        match (node.node, inputs) {
            (Some(Node::Sink(sink)), [input]) => decoder.sink(&sink, input),
            (Some(Node::Source(source)), []) => Ok(Arc::new(ExchangeSourceExec::new(decoder.source(source)?))),
            (Some(Node::RecursiveQuery(query)), [fixed, recursive]) => Ok(Arc::new(RecursiveQueryExec::try_new(
                query.name,
                decode_schema(&query.schema)?,
                Arc::clone(fixed),
                Arc::clone(recursive),
                query.is_distinct,
            )?)),
            (Some(Node::WorkTable(table)), []) => {
                Ok(Arc::new(WorkTableExec::new(table.name, decode_schema(&table.schema)?, None)?))
            }
            (Some(Node::GroupingGate(_)), [input]) => {
                Ok(Arc::new(GroupingGateExec::new(Arc::clone(input), GroupingGate)))
            }
            _ => internal_err!("a plan node came with {} inputs, which is not its number", inputs.len()),
        }
    }

    fn try_decode_expr(
        &self,
        buf: &[u8],
        _: &[Arc<dyn PhysicalExpr>],
        context: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        expressions::decode(buf, context)
    }

    fn try_encode_udaf(&self, function: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        let encoded = if let Some(resumed) = function.inner().downcast_ref::<ResumedAggregate>() {
            let (function, arguments) = (resumed.function().to_owned(), resumed.arguments() as u32);
            Derived::Resumed(wire::ResumedFunction { function, arguments })
        } else if let Some(merged) = function.inner().downcast_ref::<MergedAggregate>() {
            let arguments = encode_schema(&Schema::new(merged.arguments().clone()))?;
            Derived::Merged(wire::MergedFunction { function: merged.function().to_owned(), arguments })
        } else if function.inner().is::<CheckedSum>() {
            Derived::CheckedSum(wire::CheckedSumFunction {})
        } else {
            return Ok(());
        };
        let encoded = wire::DerivedFunction { derived: Some(encoded) };
        encoded.encode(buf).map_err(|error| internal_datafusion_err!("{error}"))
    }

    /// Encodes the type of a [`ConstantArithmetic`] as a schema with one field. The function's name gives its operator.
    /// All other functions need only their name.
    fn try_encode_udf(&self, function: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        if let Some(arithmetic) = function.inner().downcast_ref::<ConstantArithmetic>() {
            let field = Field::new(function.name(), arithmetic.data_type().clone(), true);
            buf.extend(encode_schema(&Schema::new(vec![field]))?);
        }
        Ok(())
    }

    /// Decodes a function whose name the session does not know.
    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        match name {
            ORDER_KEY => Ok(order_key()),
            OPAQUE => Ok(opaque::function()),
            LOCAL_TIME => Ok(local_time()),
            _ if buf.is_empty() => internal_err!("there is no function {name} here"),
            _ => Ok(Arc::new(ScalarUDF::from(constant_arithmetic(name, buf)?))),
        }
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        if buf.is_empty() {
            return float_extreme_named(name)
                .ok_or_else(|| internal_datafusion_err!("there is no aggregate function {name} here"));
        }
        let encoded = wire::DerivedFunction::decode(buf).map_err(|error| internal_datafusion_err!("{error}"))?;
        Ok(Arc::new(match encoded.derived {
            Some(Derived::Resumed(resumed)) => {
                AggregateUDF::new_from_impl(ResumedAggregate::new(&resumed.function, resumed.arguments as usize)?)
            }
            Some(Derived::Merged(merged)) => {
                let arguments = decode_schema(&merged.arguments)?.fields().clone();
                AggregateUDF::new_from_impl(MergedAggregate::new(&merged.function, arguments)?)
            }
            Some(Derived::CheckedSum(_)) => AggregateUDF::new_from_impl(CheckedSum::default()),
            None => return internal_err!("the aggregate function {name} is derived from nothing"),
        }))
    }
}

/// The encoding of `node` without its inputs. `None` for operators that DataFusion's encoding handles.
fn own_node(
    node: &Arc<dyn ExecutionPlan>,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Option<Node>> {
    let encoder = Encoder { codec, converter };
    Ok(Some(if let Some(sink) = node.downcast_ref::<ExchangeSinkExec>() {
        Node::Sink(encoder.sink(sink)?)
    } else if let Some(source) = node.downcast_ref::<ExchangeSourceExec>() {
        Node::Source(encoder.source(source.spec())?)
    } else if let Some(query) = node.downcast_ref::<RecursiveQueryExec>() {
        Node::RecursiveQuery(wire::RecursiveQueryNode {
            name: query.name().to_owned(),
            is_distinct: query.is_distinct(),
            schema: encode_schema(&query.schema())?,
        })
    } else if let Some(table) = node.downcast_ref::<WorkTableExec>() {
        Node::WorkTable(wire::WorkTableNode { name: table.name().to_owned(), schema: encode_schema(&table.schema())? })
    } else if node.is::<GroupingGateExec>() {
        Node::GroupingGate(wire::GroupingGateNode {})
    } else if let Some((scan, layout)) = file_scan(node).zip(scan_layout(node)) {
        Node::Scan(scans::encode(scan, &layout, codec, converter)?)
    } else {
        return Ok(None);
    }))
}

struct Encoder<'a> {
    codec: &'a dyn PhysicalExtensionCodec,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Encoder<'_> {
    fn sink(&self, sink: &ExchangeSinkExec) -> Result<wire::SinkNode> {
        Ok(wire::SinkNode {
            kind: wire::OutputKind::from(sink.kind()) as i32,
            partitions: sink.partitions() as u32,
            keys: self.exprs(sink.keys())?,
            window_functions: omitted::window_functions(sink.input())?,
            empty_grouping_sets: omitted::empty_grouping_sets(sink.input())?,
            limits: omitted::limits(sink.input())?,
            taps: sink.taps().map(|tap| self.tap(tap)).collect::<Result<_>>()?,
            earlier: self.earlier(sink.earlier())?,
            bounds: sink.bounds().to_vec(),
            repeatable: sink.is_repeatable(),
        })
    }

    fn earlier(&self, aggregates: &[EarlierAggregate]) -> Result<Vec<wire::Aggregate>> {
        let aggregate = |aggregate: &EarlierAggregate| {
            let (function, arguments) = (aggregate.function().to_owned(), self.exprs(&aggregate.arguments())?);
            Ok(wire::Aggregate { function, arguments })
        };
        aggregates.iter().map(aggregate).collect()
    }

    fn tap(&self, tap: &FilterTap) -> Result<wire::FilterTap> {
        let range = |range: &Option<KeyRange>| match range {
            Some(KeyRange { least, values }) => wire::KeyRange { least: *least, values: *values },
            None => wire::KeyRange::default(),
        };
        let (keys, ranges) = (self.exprs(&tap.keys)?, tap.ranges.iter().map(range).collect());
        let FilterTap { id, expected_keys, nulls_match, .. } = *tap;
        Ok(wire::FilterTap { id, keys, expected_keys, ranges, nulls_match })
    }

    fn source(&self, spec: &SourceSpec) -> Result<wire::SourceNode> {
        let sort = |sort: &PhysicalSortExpr| {
            Ok(serialize_physical_sort_expr(sort.clone(), self.codec, self.converter)?.encode_to_vec())
        };
        let ordering =
            |ordering: &LexOrdering| Ok(wire::Ordering { exprs: ordering.iter().map(sort).collect::<Result<_>>()? });
        Ok(wire::SourceNode {
            stage: spec.stage.0,
            kind: wire::OutputKind::from(spec.kind) as i32,
            partitions: spec.partitions as u32,
            schema: encode_schema(&spec.schema)?,
            keys: self.exprs(&spec.keys)?,
            orderings: spec.orderings.iter().map(ordering).collect::<Result<_>>()?,
            constants: self.exprs(&spec.constants)?,
            first_task_only: spec.first_task_only,
            earlier: self.earlier(&spec.earlier)?,
        })
    }

    fn exprs(&self, exprs: &[Arc<dyn PhysicalExpr>]) -> Result<Vec<Vec<u8>>> {
        exprs.iter().map(|expr| Ok(self.converter.physical_expr_to_proto(expr, self.codec)?.encode_to_vec())).collect()
    }
}

struct Decoder<'a> {
    context: PhysicalPlanDecodeContext<'a>,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Decoder<'_> {
    fn sink(&self, sink: &wire::SinkNode, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = omitted::restore(sink, Arc::clone(input))?;
        let keys = self.exprs(&sink.keys, &input.schema())?;
        let tap = |tap: &wire::FilterTap| {
            let keys = self.exprs(&tap.keys, &input.schema())?;
            let range = |range: &wire::KeyRange| {
                Some(KeyRange { least: range.least, values: range.values }).filter(|range| range.values > 0)
            };
            let ranges = tap.ranges.iter().map(range).collect();
            let wire::FilterTap { id, expected_keys, nulls_match, .. } = *tap;
            Ok(FilterTap { id, keys, expected_keys, ranges, nulls_match })
        };
        let taps = sink.taps.iter().map(tap).collect::<Result<Vec<_>>>()?;
        let earlier = self.earlier(&sink.earlier, &input.schema())?;
        let plain = ExchangeSinkExec::new(input, sink.kind().into(), sink.partitions as usize, keys)
            .with_repeatable(sink.repeatable);
        Ok(Arc::new(plain.with_bounds(sink.bounds.clone().into()).with_earlier(earlier).with_taps(taps)))
    }

    fn earlier(&self, aggregates: &[wire::Aggregate], rows: &SchemaRef) -> Result<Vec<EarlierAggregate>> {
        let aggregate = |aggregate: &wire::Aggregate| {
            EarlierAggregate::new(&aggregate.function, self.exprs(&aggregate.arguments, rows)?, rows)
        };
        aggregates.iter().map(aggregate).collect()
    }

    fn source(&self, source: wire::SourceNode) -> Result<SourceSpec> {
        let schema = decode_schema(&source.schema)?;
        Ok(SourceSpec {
            stage: StageId(source.stage),
            kind: source.kind().into(),
            partitions: source.partitions as usize,
            keys: self.exprs(&source.keys, &schema)?,
            orderings: self.orderings(&source.orderings, &schema)?,
            constants: self.exprs(&source.constants, &schema)?,
            first_task_only: source.first_task_only,
            earlier: self.earlier(&source.earlier, &schema)?,
            schema,
        })
    }

    fn exprs(&self, exprs: &[Vec<u8>], schema: &Schema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        exprs
            .iter()
            .map(|bytes| {
                let node = PhysicalExprNode::decode(bytes.as_slice()).map_err(|e| internal_datafusion_err!("{e}"))?;
                self.converter.proto_to_physical_expr(&node, schema, &self.context)
            })
            .collect()
    }

    fn orderings(&self, orderings: &[wire::Ordering], schema: &Schema) -> Result<Vec<LexOrdering>> {
        let ordering = |ordering: &wire::Ordering| {
            let exprs = self.sort_exprs(&ordering.exprs, schema)?;
            LexOrdering::new(exprs).ok_or_else(|| internal_datafusion_err!("an ordering came without expressions"))
        };
        orderings.iter().map(ordering).collect()
    }

    fn sort_exprs(&self, exprs: &[Vec<u8>], schema: &Schema) -> Result<Vec<PhysicalSortExpr>> {
        exprs
            .iter()
            .map(|bytes| {
                let node =
                    PhysicalSortExprNode::decode(bytes.as_slice()).map_err(|e| internal_datafusion_err!("{e}"))?;
                parse_physical_sort_expr(&node, &self.context, schema, self.converter)
            })
            .collect()
    }
}

fn constant_arithmetic(name: &str, data_type: &[u8]) -> Result<ConstantArithmetic> {
    let schema = decode_schema(data_type)?;
    let arithmetic = ConstantArithmetic::named(name, schema.field(0).data_type().clone());
    arithmetic.ok_or_else(|| internal_datafusion_err!("there is no arithmetic {name}"))
}

/// Encodes a schema in DataFusion's form. Arrow's form cannot express a dictionary whose values are a dictionary.
fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    Ok(protobuf::Schema::try_from(schema)?.encode_to_vec())
}

fn decode_schema(bytes: &[u8]) -> Result<SchemaRef> {
    let schema = protobuf::Schema::decode(bytes).map_err(|error| internal_datafusion_err!("{error}"))?;
    Ok(Arc::new(Schema::try_from(&schema)?))
}
