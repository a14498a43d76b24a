//! Kubernetes' own code as a program that answers lines of JSON: `tests/oracles/<name>/main.go`.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use crate::{Outcome, root};

/// Builds an oracle, unless it is built already.
pub fn build(name: &str) -> Outcome<PathBuf> {
    let mut script = Command::new(root().join("tests/oracles/build.sh"));
    script.arg(name);
    printed(script, "").map(|path| path.trim_end().into())
}

/// Runs a program, gives it `input`, and returns what it prints.
pub fn printed(mut command: Command, input: &str) -> Outcome<String> {
    let say = |error: std::io::Error| error.to_string();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(say)?;
    let mut stdin = child.stdin.take();
    let input = input.to_owned();
    // The program answers while it reads: if this thread only wrote, each would wait for the other.
    let writer = thread::spawn(move || stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(say)?;
    writer.join().map_err(|_| "the writer panicked")?.map_err(say)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", output.status))
    }
}

/// The number that an environment variable sets, or else the default.
pub fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
