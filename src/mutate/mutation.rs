//! The result of a mutation: the patch with its provenance, or the error with what had been applied.

use crate::json::Json;
use crate::k8s::patch::Operation;
use crate::model::denial::Denial;
use crate::model::snapshot::Module;
use crate::mutate::provenance::{FragmentSource, Steps};

/// The denial of a fragment for a primary container that cannot be determined.
pub(super) const NO_PRIMARY: &str = "sets fields of the primary container, which cannot be determined: set the annotation podgraft.io/primary-container";

/// A pod that was changed, or that needed no change.
#[derive(Debug)]
pub struct Mutation<'a> {
    /// the patch
    pub operations: &'a [Operation<'a>],
    /// the pod before, after each layer and module, and at the end
    pub steps: Steps<'a>,
    /// the text of the annotation `podgraft.io/applied`; empty when nothing applied
    pub applied: String,
    /// the configured queue
    pub queue: Option<String>,
    /// the sentence about a queue that the pod names and the configuration lacks
    pub notice: Option<String>,
    /// the fragments that were applied, in order, placeholders filled
    pub fragments: Vec<(FragmentSource<'a>, Json<'a>)>,
    /// the modules that did not run, each with the error of its condition, if the condition had one
    pub skipped_modules: Vec<(&'a Module, Option<String>)>,
    /// the primary container's name
    pub primary: Option<&'a str>,
}

impl<'a> Mutation<'a> {
    /// Returns the mutation of a skipped pod: no operation, no step.
    pub fn none(pod: Json<'a>) -> Self {
        Self {
            operations: &[],
            steps: Steps::new(pod),
            applied: String::new(),
            queue: None,
            notice: None,
            fragments: Vec::new(),
            skipped_modules: Vec::new(),
            primary: None,
        }
    }
}

/// The reason for which there is no mutation.
#[derive(Debug)]
pub enum MutateError {
    /// the pod is denied
    Denied(Denial),
    /// the request must run again on a module thread: this module is too slow to run inline
    NeedsPool(String),
}

impl From<Denial> for MutateError {
    fn from(denial: Denial) -> Self {
        MutateError::Denied(denial)
    }
}

/// A [`MutateError`] with the mutation as far as it got.
#[derive(Debug)]
pub struct MutateFailure<'a> {
    /// the error
    pub error: MutateError,
    /// the mutation up to the denial; none where the denial came before the first layer
    pub partial: Option<Box<Mutation<'a>>>,
}

impl<E: Into<MutateError>> From<E> for MutateFailure<'_> {
    fn from(error: E) -> Self {
        Self { error: error.into(), partial: None }
    }
}

/// The way in which a plan's layers are applied. Both give the same pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerMode {
    /// one by one: every layer has its own step and fragment
    PerLayer,
    /// merged beforehand: a step or fragment may stand for several layers and names the first
    Premerged,
}
