//! Cuts the encoding of a plan into parts. No message then nests more than 100 levels deep.
//!
//! A plan of many joins, or a condition of many operators, nests hundreds of messages. prost refuses to decode more
//! than 100 levels. The limit is needed: prost decodes by recursion, so without the limit a client could end the
//! process with a stack overflow by sending 3 MB of nested groups. So a plan or an expression at depth [`MOST_LEVELS`]
//! is encoded separately, as a part. A message with the number of the part replaces it:
//!
//! ```text
//!   root:    Sort -> ... -> Join -> part 1      parts:  0: Filter -> Scan
//!                                                       1: Join -> ... -> Join -> part 0
//! ```

use std::cell::{Cell, RefCell};

use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion_proto::protobuf::physical_expr_node::ExprType;
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{
    PhysicalExprNode, PhysicalExtensionExprNode, PhysicalExtensionNode, PhysicalPlanNode,
};
use hwacha_proto::exchange::expression_rest::Rest;
use hwacha_proto::exchange::plan_node::Node;
use hwacha_proto::exchange::{ExpressionRest, PlanNode};
use prost::Message;

/// Nested plans and expressions in one part (16: each takes up to 4 levels of messages, which leaves 36 of prost's
/// 100 levels for nested types).
const MOST_LEVELS: u32 = 16;

/// The parts of a plan that is being encoded.
#[derive(Default)]
pub(super) struct Parts {
    parts: RefCell<Vec<Vec<u8>>>,
    levels: Cell<u32>,
}

/// A message that can be replaced by a reference to a part.
pub(super) trait HasParts: Message + Default {
    /// A reference to part `number`.
    fn of_part(number: u32) -> Self;

    /// The number of the part, if this message is such a reference.
    fn part(&self) -> Option<u32>;
}

impl HasParts for PhysicalPlanNode {
    fn of_part(number: u32) -> Self {
        let node = PlanNode { node: Some(Node::Part(number)) }.encode_to_vec();
        let extension = PhysicalExtensionNode { node, inputs: vec![] };
        Self { physical_plan_type: Some(PhysicalPlanType::Extension(extension)) }
    }

    fn part(&self) -> Option<u32> {
        let Some(PhysicalPlanType::Extension(extension)) = &self.physical_plan_type else { return None };
        match PlanNode::decode(extension.node.as_slice()).ok()?.node? {
            Node::Part(number) if extension.inputs.is_empty() => Some(number),
            _ => None,
        }
    }
}

impl HasParts for PhysicalExprNode {
    fn of_part(number: u32) -> Self {
        let expr = ExpressionRest { expr: vec![], rest: Some(Rest::Part(number)) }.encode_to_vec();
        let extension = PhysicalExtensionExprNode { expr, inputs: vec![] };
        Self { expr_id: None, expr_type: Some(ExprType::Extension(extension)) }
    }

    fn part(&self) -> Option<u32> {
        let Some(ExprType::Extension(extension)) = &self.expr_type else { return None };
        match ExpressionRest::decode(extension.expr.as_slice()).ok()?.rest? {
            Rest::Part(number) => Some(number),
            _ => None,
        }
    }
}

impl Parts {
    /// Encodes one nested plan or expression. If it lies too deep, it becomes a part, and a reference to the part is
    /// returned.
    pub(super) fn nested<T: HasParts>(&self, encode: impl FnOnce() -> Result<T>) -> Result<T> {
        let levels = self.levels.get();
        let is_deep = levels >= MOST_LEVELS;
        self.levels.set(if is_deep { 1 } else { levels + 1 });
        let encoded = encode();
        self.levels.set(levels);
        if !is_deep {
            return encoded;
        }
        let mut parts = self.parts.borrow_mut();
        parts.push(encoded?.encode_to_vec());
        let number = u32::try_from(parts.len() - 1);
        Ok(T::of_part(number.map_err(|_| internal_datafusion_err!("a plan has too many parts"))?))
    }

    pub(super) fn into_inner(self) -> Vec<Vec<u8>> {
        self.parts.into_inner()
    }
}

/// The parts of a plan that is being decoded.
pub(super) struct DecodedParts {
    parts: Vec<Vec<u8>>,
    /// Only parts with numbers below this may be read. A part refers only to earlier parts, so decoding ends for any
    /// input.
    below: Cell<usize>,
}

impl DecodedParts {
    pub(super) fn new(parts: Vec<Vec<u8>>) -> Self {
        let below = Cell::new(parts.len());
        Self { parts, below }
    }

    /// Decodes `message`, or the part to which it refers, with `decode`.
    pub(super) fn whole<T: HasParts, D>(&self, message: &T, decode: impl FnOnce(&T) -> Result<D>) -> Result<D> {
        let Some(number) = message.part() else { return decode(message) };
        let (number, below) = (number as usize, self.below.get());
        let part = self.parts.get(number).filter(|_| number < below);
        let part = part.ok_or_else(|| internal_datafusion_err!("part {number} of a plan is not before its use"))?;
        self.below.set(number);
        let decoded = T::decode(part.as_slice()).map_err(malformed).and_then(|part| self.whole(&part, decode));
        self.below.set(below);
        decoded
    }
}

pub(super) fn malformed(error: prost::DecodeError) -> DataFusionError {
    internal_datafusion_err!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of `length` nested expressions below the first one.
    fn chain(parts: &Parts, length: u32) -> Result<PhysicalExprNode> {
        parts.nested(|| {
            let inner = if length == 0 { vec![] } else { vec![chain(parts, length - 1)?] };
            let extension = PhysicalExtensionExprNode { expr: vec![], inputs: inner };
            Ok(PhysicalExprNode { expr_id: Some(length.into()), expr_type: Some(ExprType::Extension(extension)) })
        })
    }

    fn length(parts: &DecodedParts, message: &PhysicalExprNode) -> Result<u32> {
        parts.whole(message, |whole| match &whole.expr_type {
            Some(ExprType::Extension(extension)) => match &extension.inputs[..] {
                [inner] => Ok(1 + length(parts, inner)?),
                _ => Ok(0),
            },
            _ => Ok(0),
        })
    }

    #[test]
    fn long_chains_are_cut_and_put_together() {
        for links in [0, 15, 16, 17, 60] {
            let parts = Parts::default();
            let root = chain(&parts, links).expect("it is encoded").encode_to_vec();
            let parts = parts.into_inner();
            assert_eq!(parts.len(), (links / MOST_LEVELS) as usize, "{links}");
            let root = PhysicalExprNode::decode(root.as_slice()).expect("it is not deep");
            assert_eq!(length(&DecodedParts::new(parts), &root).expect("it is decoded"), links);
        }
    }

    #[test]
    fn a_part_names_none_that_is_not_before_it() {
        let own = PhysicalExprNode::of_part(0);
        let parts = DecodedParts::new(vec![own.encode_to_vec()]);
        assert!(length(&parts, &own).is_err());
        assert!(length(&parts, &PhysicalExprNode::of_part(7)).is_err());
    }
}
