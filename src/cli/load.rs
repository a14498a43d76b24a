//! A configuration from files, for the verbs that look at it once.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use crate::module::Engine;
use crate::snapshot::Snapshot;
use crate::watch;

/// Loads a file or folder and the modules beside it.
///
/// # Errors
/// Everything that is wrong, each with its place: what serves on in a cluster is an error at a desk.
pub fn load(config: &Path, policies: Option<&Path>) -> anyhow::Result<Arc<Snapshot>> {
    let engine = Engine::new()?;
    let built = watch::load_once(config, policies, "", &|name, bytes| engine.compile(name, bytes))?;
    if built.problems.is_empty() {
        return Ok(built.snapshot);
    }
    let mut text = format!("{} problems in the configuration", built.problems.len());
    if built.problems.len() == 1 {
        "1 problem in the configuration".clone_into(&mut text);
    }
    for problem in &built.problems {
        let _ = write!(text, "\n  {problem}");
    }
    bail!(text)
}
