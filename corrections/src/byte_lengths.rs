//! The length of a binary string is its byte count. DataFusion casts the string to text first, which fails for bytes
//! that are not valid UTF-8.
//!
//! `length(b)` becomes `octet_length(encode(b, 'hex')) / 2`.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::functions::encoding::expr_fn::encode;
use datafusion::functions::string::expr_fn::octet_length;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

/// Makes `length` of a binary string count bytes.
#[derive(Debug)]
pub struct ByteLengths;

impl FunctionRewrite for ByteLengths {
    fn name(&self) -> &str {
        "byte_lengths"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, mut args })
                if func.name() == "character_length" && args.len() == 1 && is_binary(&args[0].get_type(schema)?) =>
            {
                Ok(Transformed::yes(octet_length(encode(args.remove(0), lit("hex"))) / lit(2)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}
