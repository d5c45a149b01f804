//! The object stores that tables are read from.

pub mod local_files;
