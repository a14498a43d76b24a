//! The command line of the built program: output, exit codes and whole error texts.
//!
//! * [`certs`] makes, renews and checks certificates without a cluster.
//! * [`check`] checks configurations.
//! * [`completion`] completes command lines in a shell.
//! * [`explain`] explains fields of pods.
//! * [`module`] inspects and runs modules, and makes a new one from nothing to a pod.
//! * [`pipes`] closes the reader of the output early, as `| head` does.
//! * [`render`] renders pods.
//! * [`schema`] prints the schema for editors.
//! * [`serve`] starts the server with arguments that it does not accept.
//! * [`test`](mod@test) runs case folders.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod certs;
mod check;
mod completion;
mod explain;
mod module;
mod pipes;
mod render;
mod schema;
mod serve;
mod test;

use std::fs;

use podgraft_testkit::command_line::{Ran, podgraft_in};
use podgraft_testkit::root;
use tempfile::TempDir;

/// Runs podgraft in the repository's folder.
fn podgraft(arguments: &[&str], stdin: &str) -> Ran {
    podgraft_in(root(), arguments, stdin)
}

/// Makes a folder with a configuration of one file, and adds the head lines.
fn config(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
    fs::write(folder.path().join("podgraft.yaml"), format!("{head}{text}")).unwrap();
    folder
}

/// Makes a folder with these files and their parent folders.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Returns the folder of the shipped modules.
fn policies() -> String {
    root().join("policies").display().to_string()
}

/// Splits a command line at its spaces.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
