//! Runs the steps of a mutation in order.

use std::cell::OnceCell;

use bumpalo::Bump;

use super::applied::Interrupted;
use super::context::Context;
use super::modules::ModuleRun;
use super::mutation::{LayerMode, MutateError, MutateFailure, Mutation};
use crate::json::Json;
use crate::k8s::labels::MIRROR_POD;
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::validation;
use crate::model::denial::{Denial, Reason};
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::task::Task;
use crate::mutate::plan::Plan;

/// Elements that a list, or members that a map, of a pod may have. Merge and diff look elements up by walking lists,
/// which is fastest for what pods have (tens) and would take a worker seconds for 100,000.
const MAX_ELEMENTS: usize = 4096;

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
