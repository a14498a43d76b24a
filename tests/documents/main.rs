//! Holds the documents to the program.
//!
//! - [`blocks`] takes the fenced blocks out of a document.
//! - [`commands`] runs every command and compares its output.
//! - [`configurations`] loads every configuration.
//! - [`links`] follows every link.
//! - [`tables`] compares lists of names with the code.
//! - [`command_line`] generates `docs/cli.md`.
//!
//! `UPDATE=1 cargo test --test documents` writes what can be generated: quoted output, quoted files, `docs/cli.md`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test that cannot go on fails"
)]

mod blocks;
mod command_line;
mod commands;
mod configurations;
mod links;
mod tables;

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents, as paths below the root.
fn documents() -> Vec<String> {
    let mut found: Vec<String> = ["", "docs", "policies", "certs"].into_iter().flat_map(markdown_in).collect();
    for entry in fs::read_dir(root().join("policies/examples")).unwrap() {
        found.extend(markdown_in(&format!("policies/examples/{}", entry.unwrap().file_name().to_str().unwrap())));
    }
    found.sort();
    assert!(found.len() > 15, "only these documents were found: {found:?}");
    found
}

fn markdown_in(folder: &str) -> Vec<String> {
    let names = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    names.map(|name| if folder.is_empty() { name } else { format!("{folder}/{name}") }).collect()
}

/// Compares a generated document with the committed one, or writes it where `UPDATE` is set.
fn compare(path: &str, fresh: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), fresh).unwrap();
    }
    let current = fs::read_to_string(root().join(path)).unwrap_or_default();
    if current == fresh {
        return;
    }
    let changes = similar::TextDiff::from_lines(&current, fresh);
    panic!(
        "{path} is out of date: UPDATE=1 cargo test --test documents\n{}",
        changes.unified_diff().context_radius(3).header("committed", "generated")
    );
}

#[test]
fn the_readme_is_read_in_minutes() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "README.md has {lines} lines; more belongs in docs/");
}
