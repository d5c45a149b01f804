//! How a task reads its files: which of them are its own, through which readers, and what an error of theirs says.

pub mod arrow_files;
mod kept_columns;
pub mod localize;
pub mod page_indexes;
mod planned_files;
mod task_source;
pub mod wide_dictionaries;
