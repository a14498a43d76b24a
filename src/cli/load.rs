//! Loads a configuration from files once, for the verbs other than `serve`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;

use crate::model::snapshot::Snapshot;
use crate::wasm::Engine;
use crate::watch;

/// The flags that name a configuration.
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
    /// Loads the configuration that the flags name.
    ///
    /// # Errors
    /// A file cannot be read, or the configuration has errors.
    pub(super) fn load(&self) -> anyhow::Result<Arc<Snapshot>> {
        load(&self.config, self.policies.as_deref())
    }
}

/// Loads a configuration file or folder and the template modules.
///
/// # Errors
/// A file cannot be read, or the configuration has errors; the text lists all of them. (The webhook would go on with the
/// last valid version of each unit.)
pub fn load(config: &Path, policies: Option<&Path>) -> anyhow::Result<Arc<Snapshot>> {
    let engine = Engine::new()?;
    let built = watch::load_once(config, policies, "", &|name, bytes| engine.compile(name, bytes))?;
    if built.errors.is_empty() {
        return Ok(built.snapshot);
    }
    let mut text = format!("{} in the configuration", counted(built.errors.len(), "error"));
    for error in &built.errors {
        let _ = write!(text, "\n  {error}");
    }
    bail!(text)
}

/// Returns a count with its noun: `1 error`, `2 errors`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
