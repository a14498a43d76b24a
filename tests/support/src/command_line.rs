//! Any command of podgraft as a person runs it, to its end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The end of a command.
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Ran {
    /// Reads the output of any program that has ended.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is text");
        let code = output.status.code().expect("no signal ended the program");
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs `podgraft` in a folder. What it prints does not depend on the caller's terminal or cluster: no colours, no
/// kubeconfig, a fixed width.
pub fn podgraft_in(folder: &Path, arguments: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(crate::program())
        .args(arguments)
        .current_dir(folder)
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("podgraft can be run");
    // it may have ended before it read anything
    let _ = child.stdin.take().map(|mut input| input.write_all(stdin.as_bytes()));
    Ran::of(child.wait_with_output().expect("podgraft ends"))
}
