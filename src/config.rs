//! Configuration text to checked, normal-form values.
//!
//! ```text
//! text --yaml--> Node --sections--> parts of units --cursor, template, graft…--> units --build--> Snapshot
//! ```
//! Whatever is wrong becomes a [`Problem`] with its place; the unit that it is in (the base, one environment, one
//! queue, one module) stays at its last good version, and all others go on. Nothing here does I/O: `watch.rs`
//! reads, this judges.

mod build;
mod claims;
mod cursor;
mod diagnostics;
mod files;
mod graft;
mod grammar;
mod json_schema;
mod keys;
mod modules;
mod node;
mod overlap;
mod parts;
mod queues;
mod read;
mod resources;
mod rules;
mod scalars;
mod sections;
pub(crate) mod spell;
mod systems;
mod template;
mod typed;
mod units;
mod yaml;

pub use build::{Builder, Built};
pub use diagnostics::Diagnostic;
pub(crate) use files::{is_file_annotation, is_file_volume};
pub(crate) use grammar::{quantity_error, text_error};
pub use json_schema::json_schema;
pub use modules::{Compile, Wasm};
pub use node::Position;
pub use read::{File, Input};
pub(crate) use read::{is_wasm, is_yaml};
pub(crate) use rules::{Rule, rule_of};
pub(crate) use yaml::parse_all;

#[cfg(test)]
mod tests;
