//! Changes one task pod: layers, modules, dependent fields, the difference, and the checks before a patch leaves.
//!
//! [`mutate`] is a function of a review and a snapshot. Its steps hand on one value, [`Applied`]: `apply_layers` makes
//! it, `modules` runs the hooks on it, `finish` turns it into a patch.

mod answer;
mod applied;
mod apply_layers;
mod context;
mod finish;
pub mod guards;
pub mod hook_view;
mod modules;
pub mod normalize;
mod placeholder_check;
pub mod plan;
pub mod provenance;
pub mod redact;

use std::cell::OnceCell;

use bumpalo::Bump;

pub use self::answer::{Answer, Outcome, Verdict, answer, deny, malformed};
use self::applied::Interrupted;
use self::context::Context;
pub use self::modules::ModuleRun;
use crate::json::Json;
use crate::k8s::labels::MIRROR_POD;
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::patch::Operation;
use crate::k8s::validation;
use crate::model::denial::{Denial, Reason};
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::{Module, Snapshot};
use crate::model::task::Task;
use crate::mutate::plan::Plan;
use crate::mutate::provenance::{FragmentSource, Steps};

/// Elements that a list, or members that a map, of a pod may have. Merge and diff look elements up by walking lists,
/// which is fastest for what pods have (tens) and would take a worker seconds for 100,000.
const MAX_ELEMENTS: usize = 4096;

/// The denial of a fragment for a primary container that cannot be determined.
const NO_PRIMARY: &str = "sets fields of the primary container, which cannot be determined: set the annotation podgraft.io/primary-container";

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

/// Takes a review's pod through layers and modules. `None` is a pod that podgraft skips.
///
/// # Errors
/// The pod is denied, or a module is too slow to run inline. The failure holds the mutation up to there.
pub fn mutate<'a>(
    review: &Review<'a>,
    snapshot: &'a Snapshot,
    execution: Execution<'_>,
    mode: LayerMode,
    runs: &mut Vec<ModuleRun>,
    arena: &'a Bump,
) -> Result<Option<Mutation<'a>>, MutateFailure<'a>> {
    let pod = Pod::from_review(review);
    if !is_task_pod_creation(review, &pod, snapshot) {
        return Ok(None);
    }
    let Some(task) = Task::from_pod(&pod, review, snapshot)? else {
        return Ok(None);
    };
    check_submitted(review)?;
    let Some(plan) = Plan::choose(&task, &pod, snapshot)? else {
        return Ok(None);
    };
    let managed_fields = ManagedFields::from_pod(pod.object, arena);
    let context = Context {
        arena,
        review,
        pod,
        task: &task,
        plan: &plan,
        managed_fields: &managed_fields,
        snapshot,
        execution,
        facts: OnceCell::new(),
    };
    let finished = context
        .apply_layers(mode)
        .and_then(|applied| context.run_modules(applied, runs))
        .and_then(|applied| context.finish(applied));
    match finished {
        Ok(applied) => Ok(Some(context.mutation(applied))),
        Err(interrupted) => {
            let Interrupted { error, applied } = *interrupted;
            match error {
                MutateError::Denied(denial) => Err(MutateFailure {
                    error: MutateError::Denied(context.redact_denial(denial)),
                    partial: Some(Box::new(context.mutation(applied))),
                }),
                needs_pool @ MutateError::NeedsPool(_) => Err(needs_pool.into()),
            }
        }
    }
}

/// Returns true for the creation of a pod that podgraft may change: no mirror pod (the kubelet's own), and no pod of
/// podgraft's namespace.
fn is_task_pod_creation(review: &Review<'_>, pod: &Pod<'_>, snapshot: &Snapshot) -> bool {
    review.kind == "Pod"
        && review.is_core
        && review.operation == "CREATE"
        && review.sub_resource.is_empty()
        && matches!(review.object, Json::Object(_))
        && pod.annotation(MIRROR_POD).is_none()
        && (snapshot.namespace.is_empty() || review.namespace != snapshot.namespace)
}

/// Checks that the submitted pod is of a size and shape that podgraft can work on.
fn check_submitted(review: &Review<'_>) -> Result<(), Denial> {
    if review.largest > MAX_ELEMENTS {
        let message =
            format!("the pod has a list or map of {} elements, more than the limit of {MAX_ELEMENTS}", review.largest);
        return Err(Denial::new(Reason::TooLarge, message));
    }
    validation::validate_shape(review.object)
        .map_err(|(path, what)| Denial::new(Reason::InvalidPod, format!("the pod is invalid: {path} {what}")))
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
