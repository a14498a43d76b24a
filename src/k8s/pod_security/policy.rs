//! Which rules a namespace's pods are judged by.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// A level of the Pod Security Standards, the stricter the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// everything is allowed
    Privileged,
    /// what is known to lead to more rights is not
    Baseline,
    /// and what is good practice is asked for
    Restricted,
}

/// A level, and the version of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// the level
    pub level: Level,
    /// the minor version of Kubernetes whose rules count
    pub minor: u32,
}

/// The minor version of `latest`.
const LATEST: u32 = u32::MAX;

const WARN: &str = "pod-security.kubernetes.io/warn";
const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

impl Policy {
    /// What the API server warns by in a namespace with these labels; nothing where it does not warn. Without a label
    /// for warnings that is what it enforces: it would refuse the pod, and name neither layer nor module.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let label = |name: &str| labels.get(name).map(String::as_str);
        let version = label(WARN_VERSION);
        let (level, version) = match (label(WARN), label(ENFORCE)) {
            (Some(warn), _) => (level(warn)?, version),
            (None, Some(enforce)) => (level(enforce)?, version.or(label(ENFORCE_VERSION))),
            (None, None) => return None,
        };
        // A version that is none is the newest, as for the API server.
        let policy = Self { level, minor: version.and_then(minor).unwrap_or(LATEST) };
        (level > Level::Privileged).then_some(policy)
    }

    /// Whether what came with this minor version of Kubernetes counts.
    pub(super) fn is_since(self, minor: u32) -> bool {
        self.minor >= minor
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

/// The minor version of `v1.30` or `latest`.
fn minor(text: &str) -> Option<u32> {
    if text == "latest" {
        return Some(LATEST);
    }
    let digits = text.strip_prefix("v1.")?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// `restricted`, `restricted:latest`, `restricted:v1.30`.
impl FromStr for Policy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, version) = text.split_once(':').unwrap_or((text, "latest"));
        match (level(name), minor(version)) {
            (Some(level), Some(minor)) => Ok(Self { level, minor }),
            (None, _) => Err("privileged, baseline or restricted is expected"),
            (_, None) => Err("a version is written `latest` or as `v1.30`"),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            LATEST => write!(formatter, "{level}:latest"),
            minor => write!(formatter, "{level}:v1.{minor}"),
        }
    }
}

/// What the API server warns by in each namespace: one for all snapshots of a process, as labels change without the
/// configuration. Nobody waits for anybody.
#[derive(Debug, Clone, Default)]
pub struct Levels(Arc<ArcSwap<Known>>);

#[derive(Debug, Default)]
struct Known {
    everywhere: Option<Policy>,
    of: HashMap<String, Policy>,
}

impl Levels {
    /// That of a namespace; nothing where the API server does not warn, or nobody knows.
    pub fn for_namespace(&self, namespace: &str) -> Option<Policy> {
        let known = self.0.load();
        known.everywhere.or_else(|| known.of.get(namespace).copied())
    }

    /// From now on those of these namespaces, and of no others.
    pub fn set(&self, of: HashMap<String, Policy>) {
        self.0.store(Arc::new(Known { everywhere: None, of }));
    }

    /// From now on the same in every namespace.
    pub fn set_everywhere(&self, policy: Option<Policy>) {
        self.0.store(Arc::new(Known { everywhere: policy, of: HashMap::new() }));
    }
}
