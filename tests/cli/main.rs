//! The command line as a person meets it: the README's examples, exit codes, and what is said of mistakes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cli/check.rs"]
mod check;
#[path = "cli/completion.rs"]
mod completion;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/pipes.rs"]
mod pipes;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/render.rs"]
mod render;
#[path = "cli/schema.rs"]
mod schema;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/test.rs"]
mod test;

use std::fs;
use std::path::Path;

use program::{Ran, podgraft_in};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// In the repository's folder.
fn podgraft(arguments: &[&str], stdin: &str) -> Ran {
    podgraft_in(root(), arguments, stdin)
}

/// A configuration of one file, with the head lines.
fn config(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
    fs::write(folder.path().join("podgraft.yaml"), format!("{head}{text}")).unwrap();
    folder
}

/// A folder with these files; folders on their way are made.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The folder of the modules that are shipped.
fn policies() -> String {
    root().join("policies").display().to_string()
}

/// A word of the command line after another, split at blanks.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
