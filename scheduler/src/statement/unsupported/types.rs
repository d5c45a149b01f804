//! Types: refuses lengths that a cast would ignore, such as CHAR(3), and FLOAT with more than 24 bits of precision.

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, StructField};

use super::{refuse, refused};
use crate::error::Error;

/// Bits of precision of a 32-bit float.
const FLOAT_BITS: u64 = 24;

/// The purpose of a type in a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Values are cast to the type.
    Cast,
    /// The type is declared for existing values, such as values in files. A length only describes them.
    Declaration,
}

pub(super) fn check(data_type: &DataType, purpose: Purpose) -> Result<(), Error> {
    match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, unit: _ }))
        | DataType::Char(Some(CharacterLength::IntegerLength { length, unit: _ }))
        | DataType::String(Some(length))
            if purpose == Purpose::Cast =>
        {
            refused(format!(
                "{data_type} is not supported, since strings are never truncated; write VARCHAR, and left(…, {length}) \
                 to truncate"
            ))
        }
        DataType::Float(ExactNumberInfo::Precision(bits)) if *bits > FLOAT_BITS => {
            refused(format!("FLOAT({bits}) is not supported; write DOUBLE for a float of 64 bits"))
        }
        DataType::Float(ExactNumberInfo::PrecisionAndScale(_, _)) => {
            refused(format!("{data_type} is not supported; write DOUBLE, or DECIMAL for a fixed number of digits"))
        }
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => check(element, purpose),
        DataType::Struct(fields, _) => fields.iter().try_for_each(|field| {
            let StructField { field_name: _, field_type, options } = field;
            refuse([(options.is_some(), "options of a STRUCT's fields are not supported; leave out OPTIONS")])?;
            check(field_type, purpose)
        }),
        // The planner carries out or refuses all other types. The number in INT(11) is a width for display.
        _ => Ok(()),
    }
}
