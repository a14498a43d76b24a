//! A layer: one fragment of a pod template, the unit that gives it, and its conflict rule.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// One pod-template fragment.
#[derive(Debug, Clone)]
pub struct Layer {
    /// the unit that it belongs to
    pub source: Source,
    /// file or ConfigMap key that it stands in
    pub file: Arc<str>,
    /// its line there, from 1
    pub line: u32,
    /// the line of its `fileMounts`, of which nothing else in the fragment tells
    pub file_mounts: Option<u32>,
    /// what happens where the pod has a value of its own
    pub conflict: Conflict,
    /// whether `conflict` was written out (then it also beats env that is on a ClearML pod)
    pub explicit: bool,
    /// whether a string of the fragment has a placeholder, to be filled for each pod
    pub placeholders: bool,
    /// whether it may hold fields that the Pod schema does not have (`allowUnknownFields`)
    pub unknown: bool,
    /// normal form: `{metadata: {...}, spec: {...}}`; the container entry named [`PRIMARY`] lies over the
    /// pod's primary container, whatever its name; claims are already volumes
    pub fragment: Value,
}

/// What a layer does where the submitted pod has a value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// the pod's value stays
    Keep,
    /// the layer's value replaces it
    Override,
    /// a different value refuses the pod
    Deny,
}

/// Who put something into a pod.
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
    /// a field that podgraft itself had to adjust because another one changed
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
