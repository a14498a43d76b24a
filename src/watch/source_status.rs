//! What the configuration is read from, and whether it can be read just now: for the log, and for an alert on a podgraft
//! that serves on with what it has because it cannot hear of anything newer.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// What is read.
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
    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigSource::ConfigMaps => "configmaps",
            ConfigSource::Config => "config",
            ConfigSource::Policies => "policies",
            ConfigSource::Namespaces => "namespaces",
        }
    }
}

/// Why an origin cannot be read; nothing for one that can, and no entry for one that nobody has looked at yet.
pub type SourceStatus = BTreeMap<ConfigSource, Option<String>>;

/// Where the one who reads an origin says how it went.
#[derive(Clone)]
pub(super) struct StatusReporter {
    pub(super) origin: ConfigSource,
    pub(super) readings: watch::Sender<SourceStatus>,
}

impl StatusReporter {
    /// It can be read; says whether it could not before.
    pub(super) fn succeeded(&self) -> bool {
        let mut had_failed = false;
        self.readings.send_if_modified(|readings| {
            let before = readings.insert(self.origin, None);
            had_failed = matches!(before, Some(Some(_)));
            before != Some(None)
        });
        had_failed
    }

    /// It cannot be read; says whether that is news, as whoever tries again and again says it once.
    pub(super) fn failed(&self, why: &str) -> bool {
        self.readings.send_if_modified(|readings| {
            readings.insert(self.origin, Some(why.to_owned())) != Some(Some(why.to_owned()))
        })
    }
}
