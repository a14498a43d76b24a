//! The sources of the configuration and their status, for the log and for an alert on a podgraft that serves an old
//! configuration because it cannot read a newer one.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// A source of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigSource {
    /// the ConfigMaps of podgraft's namespace
    ConfigMaps,
    /// the file or folder of `--config`
    Config,
    /// the folder of `--policies`
    Policies,
    /// the Namespaces, for their Pod Security levels
    Namespaces,
}

impl ConfigSource {
    /// Returns the source's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigSource::ConfigMaps => "configmaps",
            ConfigSource::Config => "config",
            ConfigSource::Policies => "policies",
            ConfigSource::Namespaces => "namespaces",
        }
    }
}

/// The error of each source that has been read, `None` if it was read successfully.
pub type SourceStatus = BTreeMap<ConfigSource, Option<String>>;

/// Reports the status of one source.
#[derive(Clone)]
pub(super) struct StatusReporter {
    pub(super) source: ConfigSource,
    pub(super) status: watch::Sender<SourceStatus>,
}

impl StatusReporter {
    /// Reports a successful read; returns true if the previous one failed.
    pub(super) fn succeeded(&self) -> bool {
        let mut had_failed = false;
        self.status.send_if_modified(|status| {
            let previous = status.insert(self.source, None);
            had_failed = matches!(previous, Some(Some(_)));
            previous != Some(None)
        });
        had_failed
    }

    /// Reports a failed read; returns true if the error is new, so that it is logged once and not at every retry.
    pub(super) fn failed(&self, error: &str) -> bool {
        self.status.send_if_modified(|status| {
            status.insert(self.source, Some(error.to_owned())) != Some(Some(error.to_owned()))
        })
    }
}
