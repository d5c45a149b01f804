//! From text to statements: limits of size and depth, rewrites of syntax that DataFusion reads wrongly, and the texts
//! of definitions.

mod definition;
mod growth;
mod limits;
mod rewrites;

pub(crate) use self::definition::{definition_text, reopen};
pub(crate) use self::growth::check_growth;
pub(crate) use self::limits::{check_depth, check_text, number_placeholders, parse};
pub(crate) use self::rewrites::rewrite;
