//! Decodes and validates the configuration, and builds a [`Snapshot`](crate::model::snapshot::Snapshot) of it.
//!
//! ```text
//! text --decode/yaml--> Node --units/sections--> Definition --units, pod--> unit --build--> Snapshot
//! ```
//! Each error is a [`Diagnostic`] with file, line and column. The unit that has it (the base, one environment, one
//! queue, one module) keeps its last valid version, and all other units are updated. Nothing here does I/O:
//! `watch.rs` reads the files.

mod build;
pub(crate) mod decode;
mod diagnostics;
mod input;
mod json_schema;
pub(crate) mod keys;
pub(crate) mod pod;
pub(crate) mod units;

pub use build::{Builder, Built};
pub use decode::ast::Position;
pub(crate) use decode::grammar::{Rule, quantity_error, text_error};
pub(crate) use decode::yaml::parse_all;
pub use diagnostics::Diagnostic;
pub use input::{File, Input, is_wasm, is_yaml};
pub use json_schema::json_schema;
pub(crate) use pod::field_rules::rule_of;
pub(crate) use pod::file_mounts::{is_file_annotation, is_file_volume};
pub use units::modules::{Compile, Wasm};

#[cfg(test)]
mod tests;
