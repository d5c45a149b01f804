//! Scalar functions and expressions beside DataFusion's own.

pub mod bounded;
pub mod checked_expr;
pub mod constant_arithmetic;
pub mod local_time;
pub mod opaque;
pub mod order_key;
