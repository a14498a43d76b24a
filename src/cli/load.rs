//! A configuration from files, for the verbs that look at it once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;

use crate::model::snapshot::Snapshot;
use crate::wasm::Engine;
use crate::watch;

/// Where a configuration is: the same flags for every verb.
#[derive(Debug, clap::Args)]
pub(super) struct Configuration {
    /// Configuration file, or folder of configuration files
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) config: PathBuf,
    /// Folder with the template modules (*.wasm)
    #[arg(long, value_name = "DIR")]
    pub(super) policies: Option<PathBuf>,
}

impl Configuration {
    /// As [`load`].
    pub(super) fn load(&self) -> anyhow::Result<Arc<Snapshot>> {
        load(&self.config, self.policies.as_deref())
    }
}

/// Loads a file or folder and the modules beside it.
///
/// # Errors
/// Everything that is wrong, each with its place: what serves on in a cluster is an error at a desk.
pub fn load(config: &Path, policies: Option<&Path>) -> anyhow::Result<Arc<Snapshot>> {
    let engine = Engine::new()?;
    let built = watch::load_once(config, policies, "", &|name, bytes| engine.compile(name, bytes))?;
    if built.errors.is_empty() {
        return Ok(built.snapshot);
    }
    let mut text = format!("{} in the configuration", counted(built.errors.len(), "problem"));
    for problem in &built.errors {
        let _ = write!(text, "\n  {problem}");
    }
    bail!(text)
}

/// `1 problem`, `2 problems`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
