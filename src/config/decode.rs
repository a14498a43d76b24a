//! Decodes YAML: text to a tree with positions, a cursor that collects errors, and the grammar of scalars.

pub(crate) mod ast;
pub(crate) mod cursor;
pub(crate) mod grammar;
pub(crate) mod scalars;
pub(crate) mod yaml;
