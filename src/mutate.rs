//! One review through all of it.

use std::time::Duration;

use bumpalo::Bump;

use crate::render::{Log, Pace};
use crate::snapshot::Snapshot;

/// What came of one request.
#[derive(Debug)]
pub enum Verdict {
    /// the reply is ready
    Done(Answer),
    /// this module is not for the inline pace: run the request again with [`Pace::Patient`]
    Slow(String),
}

/// A reply, and what the log line and the metrics say of it.
#[derive(Debug)]
pub struct Answer {
    /// the HTTP status: 200 for every review that could be answered, 4xx otherwise
    pub status: u16,
    /// the AdmissionReview as JSON text, or one clear sentence (text/plain) for a 4xx
    pub body: Vec<u8>,
    /// what happened, from a closed set
    pub outcome: Outcome,
    /// why not: a rejection's closed CamelCase reason
    pub reason: Option<&'static str>,
    /// the rejection's or the 4xx's sentence
    pub message: Option<String>,
    /// the configured queue (not what the pod claims: bounded in number)
    pub queue: Option<String>,
    /// the review's uid
    pub uid: String,
    /// the pod's namespace
    pub namespace: String,
    /// the pod's name, or its generateName and `*`
    pub name: String,
    /// operations in the patch
    pub operations: usize,
    /// the modules that ran: name, time, whether it failed
    pub modules: Vec<ModuleRun>,
}

/// One module's part in a request.
#[derive(Debug)]
pub struct ModuleRun {
    /// the module's key in the configuration
    pub name: String,
    /// wall clock
    pub elapsed: Duration,
    /// why it failed, if it did
    pub fault: Option<String>,
    /// what it logged, redacted
    pub logs: Vec<Log>,
}

/// What happened to a request, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// allowed with a patch
    Patched,
    /// a task pod that needed no change
    Unchanged,
    /// not ours: another kind, a mirror pod, no task pod
    Skipped,
    /// refused
    Denied,
    /// not a review that could be read
    Malformed,
}

/// Answers one AdmissionReview.
pub fn answer(_body: &[u8], _snapshot: &Snapshot, _pace: Pace<'_>, _arena: &Bump) -> Verdict {
    todo!()
}
