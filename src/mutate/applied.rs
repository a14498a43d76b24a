//! The pod between two steps, with the steps that led to it.

use super::mutation::MutateError;
use crate::json::Json;
use crate::k8s::patch::Operation;
use crate::merge::Merger;
use crate::merge::plan_cache::MergedPlan;
use crate::model::snapshot::Module;
use crate::mutate::provenance::{FragmentSource, Steps};

/// The pod after some steps. Each step takes it and gives it back.
pub(super) struct Applied<'w, 'a> {
    /// applies the next fragment, and remembers the removals of the earlier ones
    pub(super) merger: Merger<'a, 'w>,
    /// the pod after each step
    pub(super) steps: Steps<'a>,
    /// the fragments, in order
    pub(super) fragments: Vec<(FragmentSource<'a>, Json<'a>)>,
    /// the modules that did not run, each with the error of its condition, if the condition had one
    pub(super) skipped_modules: Vec<(&'a Module, Option<String>)>,
    /// the text of the annotation `podgraft.io/applied`
    pub(super) names: String,
    /// the layers' steps, where they were merged beforehand: one may stand for several layers
    pub(super) premerged: Option<&'a MergedPlan>,
    /// the number of steps that the layers made
    pub(super) layer_steps: usize,
    /// the patch, once there is one
    pub(super) operations: &'a [Operation<'a>],
}

/// An error, with the pod after the last complete step.
pub(super) struct Interrupted<'w, 'a> {
    pub(super) error: MutateError,
    pub(super) applied: Applied<'w, 'a>,
}

impl<'w, 'a> Applied<'w, 'a> {
    /// Returns the submitted pod before the first step.
    pub(super) fn submitted(pod: Json<'a>, merger: Merger<'a, 'w>) -> Self {
        Self {
            merger,
            steps: Steps::new(pod),
            fragments: Vec::new(),
            skipped_modules: Vec::new(),
            names: String::new(),
            premerged: None,
            layer_steps: 0,
            operations: &[],
        }
    }
}

impl<'w, 'a> Interrupted<'w, 'a> {
    /// Boxes the two: the error path is rare, and an unboxed pair would make every `Result` as large.
    pub(super) fn new(error: impl Into<MutateError>, applied: Applied<'w, 'a>) -> Box<Self> {
        Box::new(Self { error: error.into(), applied })
    }
}
