//! The Pod Security levels of namespaces.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// A level of the Pod Security Standards; a stricter one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// everything is allowed
    Privileged,
    /// known privilege escalations are forbidden
    Baseline,
    /// hardening is required in addition
    Restricted,
}

/// A level, and the version of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// the level
    pub level: Level,
    /// the minor version of Kubernetes whose rules apply
    pub minor: u32,
}

/// The minor version that represents `latest`.
const LATEST: u32 = u32::MAX;

const WARN: &str = "pod-security.kubernetes.io/warn";
const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

impl Policy {
    /// Returns the policy by which the API server warns in a namespace with these labels; `None` if it does not warn.
    /// Without a label for warnings it is the enforced one: the API server would deny the pod without naming the layer
    /// or module.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let label = |name: &str| labels.get(name).map(String::as_str);
        let version = label(WARN_VERSION);
        let (level, version) = match (label(WARN), label(ENFORCE)) {
            (Some(warn), _) => (level(warn)?, version),
            (None, Some(enforce)) => (level(enforce)?, version.or(label(ENFORCE_VERSION))),
            (None, None) => return None,
        };
        // An invalid version counts as `latest`, as for the API server.
        let policy = Self { level, minor: version.and_then(minor).unwrap_or(LATEST) };
        (level > Level::Privileged).then_some(policy)
    }

    /// Returns true if rules that came with this minor version of Kubernetes apply.
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

/// Parses the minor version of `v1.30` or `latest`.
fn minor(text: &str) -> Option<u32> {
    if text == "latest" {
        return Some(LATEST);
    }
    let digits = text.strip_prefix("v1.")?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// Parses `restricted`, `restricted:latest`, `restricted:v1.30`.
impl FromStr for Policy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, version) = text.split_once(':').unwrap_or((text, "latest"));
        match (level(name), minor(version)) {
            (Some(level), Some(minor)) => Ok(Self { level, minor }),
            (None, _) => Err("must be privileged, baseline or restricted"),
            (_, None) => Err("the version must be `latest` or like `v1.30`"),
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

/// The policies by which the API server warns in each namespace, shared by all snapshots of a process, as labels change
/// independently of the configuration. Lock-free.
#[derive(Debug, Clone, Default)]
pub struct Levels(Arc<ArcSwap<Policies>>);

#[derive(Debug, Default)]
struct Policies {
    everywhere: Option<Policy>,
    by_namespace: HashMap<String, Policy>,
}

impl Levels {
    /// Returns the policy of a namespace; `None` if the API server does not warn or the labels are unknown.
    pub fn for_namespace(&self, namespace: &str) -> Option<Policy> {
        let policies = self.0.load();
        policies.everywhere.or_else(|| policies.by_namespace.get(namespace).copied())
    }

    /// Replaces the policies of all namespaces.
    pub fn set(&self, by_namespace: HashMap<String, Policy>) {
        self.0.store(Arc::new(Policies { everywhere: None, by_namespace }));
    }

    /// Sets one policy for every namespace.
    pub fn set_everywhere(&self, policy: Option<Policy>) {
        self.0.store(Arc::new(Policies { everywhere: policy, by_namespace: HashMap::new() }));
    }
}
