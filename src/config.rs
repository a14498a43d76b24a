//! Configuration text to checked, normal-form values.
//!
//! ```text
//! text --yaml--> Node --sections--> parts of units --cursor, template, graft…--> units --build--> Snapshot
//! ```
//! Whatever is wrong becomes a [`Problem`] with its place; the unit that it is in (the base, one environment, one
//! queue, one module) stays at its last good version, and all others go on. Nothing here does I/O: `watch.rs`
//! reads, this judges.

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
