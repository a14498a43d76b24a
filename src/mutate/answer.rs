//! Answers one review: the reply for the API server, and the fields of the log line and the metrics.

use bumpalo::Bump;

use super::modules::ModuleRun;
use super::mutation::{LayerMode, MutateError, Mutation};
use super::run::mutate;
use crate::model::denial::Denial;
use crate::model::hook::Execution;
use crate::model::review::{self, Review};
use crate::model::snapshot::Snapshot;

/// The result of one attempt to answer a request.
#[derive(Debug)]
pub enum Verdict {
    /// the reply is ready
    Done(Answer),
    /// this module is too slow to run inline: answer the request again with [`Execution::Pooled`]
    NeedsPool(String),
}

/// A reply, with the fields of its log line and metrics.
#[derive(Debug)]
pub struct Answer {
    /// the HTTP status: 200 for every review that could be answered, 4xx otherwise
    pub status: u16,
    /// the AdmissionReview as JSON text, or one clear sentence (text/plain) for a 4xx
    pub body: Vec<u8>,
    /// the outcome, from a closed set
    pub outcome: Outcome,
    /// a denial's CamelCase reason, from a closed set
    pub reason: Option<&'static str>,
    /// the sentence of the denial or the 4xx, or the notice about a pod that was allowed
    pub message: Option<String>,
    /// the configured queue, never the pod's own text: bounded in number
    pub queue: Option<String>,
    /// the review's uid
    pub uid: String,
    /// the pod's namespace
    pub namespace: String,
    /// the pod's name, or its generateName and `*`
    pub name: String,
    /// operations in the patch
    pub operations: usize,
    /// the modules that ran
    pub modules: Vec<ModuleRun>,
}

/// The outcome of a request, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// allowed with a patch
    Patched,
    /// a task pod that needed no change
    Unchanged,
    /// not podgraft's to change: another kind, a mirror pod, not a task pod
    Skipped,
    /// denied by a layer, a module or a check
    Denied,
    /// not a review
    Malformed,
}

/// Answers one AdmissionReview.
pub fn answer(body: &[u8], snapshot: &Snapshot, execution: Execution<'_>, arena: &Bump) -> Verdict {
    let review = match Review::parse(body, arena) {
        Ok(review) => review,
        Err(message) => return Verdict::Done(malformed(400, message)),
    };
    let mut modules = Vec::new();
    let mutated = mutate(&review, snapshot, execution, LayerMode::Premerged, &mut modules, arena);
    let result = match mutated.map_err(|failure| failure.error) {
        Err(MutateError::NeedsPool(module)) => return Verdict::NeedsPool(module),
        Err(MutateError::Denied(denial)) => Err(denial),
        Ok(mutation) => Ok(mutation),
    };
    Verdict::Done(Answer { modules, ..answer_to(&review, snapshot, result) })
}

/// Makes the answer to a review from the mutation of its pod.
fn answer_to(review: &Review<'_>, snapshot: &Snapshot, result: Result<Option<Mutation<'_>>, Denial>) -> Answer {
    let mut answer = Answer {
        status: 200,
        body: Vec::new(),
        outcome: Outcome::Skipped,
        reason: None,
        message: None,
        queue: None,
        uid: review.uid.to_owned(),
        namespace: review.namespace.to_owned(),
        name: review.object_name(),
        operations: 0,
        modules: Vec::new(),
    };
    match result {
        Ok(None) => answer.body = review::allowed(review.uid),
        Ok(Some(mutation)) if mutation.operations.is_empty() => {
            answer.outcome = Outcome::Unchanged;
            answer.queue = mutation.queue;
            answer.message = mutation.notice;
            answer.body = review::allowed(review.uid);
        }
        Ok(Some(mutation)) => {
            answer.outcome = Outcome::Patched;
            answer.operations = mutation.operations.len();
            answer.body = review::patched(review.uid, mutation.operations, &mutation.applied, &snapshot.digest);
            answer.queue = mutation.queue;
            answer.message = mutation.notice;
        }
        Err(denial) => {
            answer.outcome = Outcome::Denied;
            answer.reason = Some(denial.reason.name());
            answer.body = review::denied(review.uid, denial.reason.code(), denial.reason.name(), &denial.message);
            answer.message = Some(denial.message);
        }
    }
    answer
}

/// Returns the answer to a body that is not a review: a 4xx with one sentence.
pub fn malformed(status: u16, message: String) -> Answer {
    Answer {
        status,
        body: message.clone().into_bytes(),
        outcome: Outcome::Malformed,
        reason: Some("Malformed"),
        message: Some(message),
        queue: None,
        uid: String::new(),
        namespace: String::new(),
        name: String::new(),
        operations: 0,
        modules: Vec::new(),
    }
}

/// Returns the answer for a denial made outside of [`answer`], such as an overload.
pub fn deny(body: &[u8], denial: Denial) -> Answer {
    let arena = Bump::new();
    match Review::parse(body, &arena) {
        Ok(review) => answer_to(&review, &Snapshot::default(), Err(denial)),
        Err(message) => malformed(400, message),
    }
}
