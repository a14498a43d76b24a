//! A layer: one fragment with its source and its conflict rule.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A fragment of a pod template, to be merged into pods.
#[derive(Debug, Clone)]
pub struct Layer {
    /// the unit that it belongs to
    pub source: Source,
    /// file or ConfigMap key that contains it
    pub file: Arc<str>,
    /// its line in that file, from 1
    pub line: u32,
    /// the line of its `fileMounts`, which the fragment itself does not show
    pub file_mounts: Option<u32>,
    /// the rule for values that the pod sets
    pub conflict: Conflict,
    /// true if `conflict` was set explicitly (then it also overrides env of a ClearML pod)
    pub explicit: bool,
    /// true if a string of the fragment has a placeholder, to be filled for each pod
    pub placeholders: bool,
    /// true if it may have fields that the Pod schema does not have (`allowUnknownFields`)
    pub unknown: bool,
    /// normal form: `{metadata: {...}, spec: {...}}`; the container entry named `primary` stands for the pod's
    /// primary container, whatever its name; claims are already volumes
    pub fragment: Value,
}

/// The conflict rule: the effect of a layer's value where the submitted pod has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// the pod's value stays
    Keep,
    /// the layer's value replaces it
    Override,
    /// a different value denies the pod
    Deny,
}

/// The source of a change to a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `basePodTemplate`
    Base,
    /// `environments.<name>`
    Environment(String),
    /// `queues.<name>`
    Queue(String),
    /// `modules.<name>`
    Module(String),
    /// podgraft itself, which adjusted a field because another one changed
    Normalize,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Base => formatter.write_str("base"),
            Source::Environment(name) => write!(formatter, "environment/{name}"),
            Source::Queue(name) => write!(formatter, "queue/{name}"),
            Source::Module(name) => write!(formatter, "module/{name}"),
            Source::Normalize => formatter.write_str("podgraft"),
        }
    }
}
