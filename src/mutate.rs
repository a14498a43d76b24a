//! One review through all of it: task, layers, modules, dependent fields, difference, guards, reply.

mod answer;
pub mod guards;
pub mod hook_view;
pub mod normalize;
pub mod plan;
pub mod provenance;
pub mod redact;
mod apply_layers;
mod modules;
mod placeholder_check;
mod placeholders;

use std::cell::OnceCell;

use bumpalo::Bump;

pub use self::answer::{Answer, Outcome, Verdict, answer, malformed, deny};
pub use self::modules::ModuleRun;
use self::placeholders::TaskFacts;
use crate::model::denial::{Denial, Reason};
use crate::mutate::guards;
use crate::json::Json;
use crate::mutate::plan::Plan;
use crate::merge::Merger;
use crate::merge::plan_cache::MergedPlan;
use crate::mutate::normalize::normalize;
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::patch::{self, Operation, diff};
use crate::k8s::pod_security::{self, Violation};
use crate::mutate::provenance::Steps;
use crate::model::hook::Execution;
use crate::model::review::{Review, truncate};
use crate::model::snapshot::{Layer, Module, Snapshot, Source};
use crate::k8s::validation;
use crate::model::task::{Pod, Task};
use crate::k8s::warnings::{self, Warning};

/// A label's value, where the API server has looked at it.
const MAX_LABEL_CHARS: usize = 63;

/// Elements that a list, or members that a map, of a pod may have. Merging and comparing look elements up by walking
/// lists, which is the fastest for what pods have (tens) and would take a worker's time by the second for 100,000.
const MAX_ELEMENTS: usize = 4096;

/// Operations of one patch: every one copies the list that it changes, when the patch is tried.
const MAX_OPERATIONS: usize = 1024;

/// The annotation that tells people what was applied.
pub const APPLIED: &str = "podgraft.io/applied";

/// A pod that went through.
#[derive(Debug)]
pub struct Mutation<'a> {
    /// the patch
    pub operations: &'a [Operation<'a>],
    /// the pod before, after each layer and module, and at the end
    pub steps: Steps<'a>,
    /// what the annotation says; empty when nothing applied
    pub applied: String,
    /// the configured queue
    pub queue: Option<String>,
    /// that the pod names a queue which nobody configured, for whoever looks for what it did not get
    pub notice: Option<String>,
    /// what was laid, in order: who gave it and the fragment, placeholders filled
    pub fragments: Vec<(FragmentSource<'a>, Json<'a>)>,
    /// the modules that did not run: their condition did not hold, or (the text) could not be evaluated
    pub skipped_modules: Vec<(&'a Module, Option<String>)>,
    /// the primary container's name
    pub primary: Option<&'a str>,
}

impl<'a> Mutation<'a> {
    /// That of a pod which is left alone.
    pub fn untouched(pod: Json<'a>) -> Self {
        Self {
            operations: &[],
            steps: Steps { submitted: pod, steps: Vec::new() },
            applied: String::new(),
            queue: None,
            notice: None,
            fragments: Vec::new(),
            skipped_modules: Vec::new(),
            primary: None,
        }
    }
}

/// Who gave a fragment.
#[derive(Debug, Clone, Copy)]
pub enum FragmentSource<'a> {
    /// a layer of the configuration
    Layer(&'a Layer),
    /// a module's call
    Module(&'a Module),
}

/// Why there is no mutation.
#[derive(Debug)]
pub enum MutateError {
    /// refused
    Denied(Denial),
    /// to be run again at the patient pace, because of this module
    NeedsPool(String),
}

impl From<Denial> for MutateError {
    fn from(rejection: Denial) -> Self {
        MutateError::Denied(rejection)
    }
}

/// Why there is no mutation, and how far it got.
#[derive(Debug)]
pub struct MutateFailure<'a> {
    /// why
    pub error: MutateError,
    /// as a pod that goes through has it, up to the refusal; none where that came before anything could be laid
    pub partial: Option<Box<Mutation<'a>>>,
}

impl<S: Into<MutateError>> From<S> for MutateFailure<'_> {
    fn from(stop: S) -> Self {
        Self { error: stop.into(), partial: None }
    }
}

/// How a plan's layers are laid. The pod is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayerMode {
    /// one by one: `steps` and `laid` tell them apart
    PerLayer,
    /// merged beforehand: what `steps` and `laid` say of the first of a few may be another's
    Premerged,
}

/// Takes a review's pod through layers and modules. `None` is a pod that is left alone.
pub fn mutate<'a>(
    review: &Review<'a>,
    snapshot: &'a Snapshot,
    execution: Execution<'_>,
    runs: &mut Vec<ModuleRun>,
    arena: &'a Bump,
) -> Result<Option<Mutation<'a>>, MutateError> {
    mutate_keeping_partial(review, snapshot, execution, runs, arena).map_err(|halted| halted.error)
}

/// The same, for whoever asks how far a refused pod got.
///
/// # Errors
/// As [`mutate`], and what was laid before.
pub fn mutate_keeping_partial<'a>(
    review: &Review<'a>,
    snapshot: &'a Snapshot,
    pace: Execution<'_>,
    runs: &mut Vec<ModuleRun>,
    arena: &'a Bump,
) -> Result<Option<Mutation<'a>>, MutateFailure<'a>> {
    attempted(review, snapshot, (pace, LayerMode::PerLayer), runs, arena)
}

fn attempted<'a>(
    review: &Review<'a>,
    snapshot: &'a Snapshot,
    (pace, laying): (Execution<'_>, LayerMode),
    runs: &mut Vec<ModuleRun>,
    arena: &'a Bump,
) -> Result<Option<Mutation<'a>>, MutateFailure<'a>> {
    let pod = Pod { object: review.object, namespace: review.namespace };
    if !is_task_pod_creation(review, &pod, snapshot) {
        return Ok(None);
    }
    let Some(task) = Task::from_pod(review, snapshot)? else {
        return Ok(None);
    };
    if review.largest > MAX_ELEMENTS {
        let message = format!(
            "the pod has a list or map of {} elements, more than the {MAX_ELEMENTS} that podgraft takes",
            review.largest
        );
        return Err(Denial::new(Reason::TooLarge, message).into());
    }
    sound::validate_shape(pod.object).map_err(|(path, what)| {
        Denial::new(Reason::InvalidPod, format!("the pod is not one that can run: {path} {what}"))
    })?;
    let Some(plan) = Plan::choose(&task, &pod, snapshot)? else {
        return Ok(None);
    };
    let owners = ManagedFields::from_pod(pod.object, arena);
    let known = OnceCell::new();
    let mut work = Work {
        arena,
        review,
        pod,
        task: &task,
        plan: &plan,
        snapshot,
        pace,
        managed_fields: &owners,
        merger: Merger::new(pod.object, &owners, task.primary, arena),
        steps: Steps { submitted: pod.object, steps: Vec::new() },
        laid: Vec::new(),
        idle: Vec::new(),
        applied: String::new(),
        merged: (laying == LayerMode::Premerged).then(|| snapshot.plans.get(&plan.layers)).flatten(),
        layer_steps: 0,
        operations: &[],
        known: &known,
    };
    match work.run(runs) {
        Ok(()) => Ok(Some(work.mutation())),
        Err(MutateError::Denied(rejection)) => {
            let stop = MutateError::Denied(work.redact_denial(rejection));
            Err(MutateFailure { error: stop, partial: Some(Box::new(work.mutation())) })
        }
        Err(slow) => Err(slow.into()),
    }
}

/// Not a pod's creation, a mirror pod (the kubelet's own), or podgraft itself: passed through.
fn is_task_pod_creation(review: &Review<'_>, pod: &Pod<'_>, snapshot: &Snapshot) -> bool {
    review.kind == "Pod"
        && review.is_core
        && review.operation == "CREATE"
        && review.sub_resource.is_empty()
        && matches!(review.object, Json::Object(_))
        && pod.annotation("kubernetes.io/config.mirror").is_none()
        && (snapshot.namespace.is_empty() || review.namespace != snapshot.namespace)
}

/// One pod on its way.
struct Work<'w, 'a> {
    arena: &'a Bump,
    review: &'w Review<'a>,
    pod: Pod<'a>,
    task: &'w Task<'a, 'a>,
    plan: &'w Plan<'a>,
    snapshot: &'a Snapshot,
    pace: Execution<'w>,
    managed_fields: &'w ManagedFields<'a>,
    merger: Merger<'a, 'w>,
    steps: Steps<'a>,
    laid: Vec<(FragmentSource<'a>, Json<'a>)>,
    idle: Vec<(&'a Module, Option<String>)>,
    applied: String,
    /// what the layers were merged into; none where they are laid one by one
    merged: Option<&'a MergedPlan>,
    /// as many of the steps are the layers'
    layer_steps: usize,
    operations: &'a [Operation<'a>],
    known: &'w OnceCell<TaskFacts>,
}

impl<'a> Work<'_, 'a> {
    fn run(&mut self, runs: &mut Vec<ModuleRun>) -> Result<(), MutateError> {
        self.apply_layers()?;
        self.run_modules(runs)?;
        self.finish().map_err(MutateError::Denied)
    }

    fn finish(&mut self) -> Result<(), Denial> {
        let (pod, mut removable) =
            normalize(self.pod.object, self.steps.last(), &self.laid, self.task, self.managed_fields, self.arena);
        self.steps.push(Source::Normalize, pod);
        removable.extend_from_slice(self.merger.removed());
        if !self.applied.is_empty() && !self.steps.steps.is_empty() {
            let applied = self.arena.alloc_str(&self.applied);
            let annotated = annotate(self.steps.last(), applied, self.arena);
            self.steps.push(Source::Normalize, annotated);
        }
        self.operations = diff(self.pod.object, self.steps.last(), self.arena);
        self.guard(self.operations, &removable)?;
        self.check_new_warnings().map_err(|message| Denial::new(Reason::InvalidResult, message))
    }

    /// What the API server would warn of because of podgraft, as a sentence.
    fn check_new_warnings(&self) -> Result<(), String> {
        let (before, after) = (self.pod.object, self.steps.last());
        if let Some(Warning { path, message, related_path: beside }) = warnings::introduced(before, after) {
            let by = self.blame_either(&path, beside.as_deref());
            let why = "would earn a warning of the API server, which fails a ClearML task";
            return Err(format!("{by}{path} {why}: {message}"));
        }
        let Some(policy) = self.snapshot.pod_security.for_namespace(self.pod.namespace) else { return Ok(()) };
        let Some(Violation { path, related_path: beside, must, reason }) = pod_security::introduced(before, after, policy) else {
            return Ok(());
        };
        let by = self.blame_either(&path, beside);
        let why = "and the API server's warning fails a ClearML task";
        Err(format!(
            "{by}{path} {must}: the pod would violate its namespace's PodSecurity \"{policy}\" ({reason}), {why}"
        ))
    }

    fn mutation(self) -> Mutation<'a> {
        let note = self.plan.queue.is_none().then(|| self.task.queue_name.or(self.task.queue_id)).flatten();
        let note =
            note.map(|name| format!("queue '{}' is not configured (unknownQueue: Base)", truncate(name, MAX_LABEL_CHARS)));
        Mutation {
            operations: self.operations,
            steps: self.steps,
            applied: self.applied,
            queue: self.plan.queue.map(|queue| queue.name.clone()),
            notice: note,
            fragments: self.laid,
            skipped_modules: self.idle,
            primary: self.task.primary,
        }
    }

    /// Everything that must hold before a patch may leave.
    fn guard(&self, operations: &[Operation<'a>], removable: &[String]) -> Result<(), Denial> {
        if operations.len() > MAX_OPERATIONS {
            let message = format!("the pod would need {} changes, more than {MAX_OPERATIONS}", operations.len());
            return Err(Denial::new(Reason::TooLarge, message));
        }
        self.check(self.pod.object, self.steps.last(), operations, removable)?;
        // A patch that does not apply rejects the pod even where failures are ignored, and nobody is named.
        match patch::apply(self.pod.object, operations, self.arena) {
            Ok(result) if result == self.steps.last() => Ok(()),
            Ok(_) => Err(Denial::new(
                Reason::Internal,
                "the patch gives another pod than the layers do; please report this",
            )),
            Err(why) => {
                Err(Denial::new(Reason::Internal, format!("the patch does not apply: {why}; please report this")))
            }
        }
    }

    /// Whose a path is, as a message begins: who touched it, or else what stands beside it in the same element (a
    /// request is wrong because somebody lowered the limit).
    fn blame_prefix(&self, path: &str) -> String {
        let mut at = path;
        loop {
            if let Some(source) = self.last_writer(at) {
                return format!("{source}: ");
            }
            match at.rfind('.').filter(|_| !at.ends_with(']')) {
                Some(dot) => at = &at[..dot],
                None => return String::new(),
            }
        }
    }

    /// The same, where either of two paths may be the one that somebody touched.
    fn blame_either(&self, path: &str, beside: Option<&str>) -> String {
        let by = |path: &str| Some(self.blame_prefix(path)).filter(|by| !by.is_empty());
        by(path).or_else(|| beside.and_then(by)).unwrap_or_default()
    }

    /// What must hold of the way from one pod to another.
    fn check(
        &self,
        before: Json<'a>,
        after: Json<'a>,
        operations: &[Operation<'a>],
        removable: &[String],
    ) -> Result<(), Denial> {
        let by = |path: &str| self.blame_prefix(path);
        guards::check(operations, self.task, self.pod.owner().is_some(), removable).map_err(|(path, whose)| {
            Denial::new(Reason::Protected, format!("{}{path} may not be changed: {whose}", by(&path)))
        })?;
        // What layers and modules give has been looked at where it came from; who allows unknown fields vouches for them.
        if !self.plan.layers.iter().any(|layer| layer.unknown) {
            guards::fits(operations).map_err(|misfit| {
                let message = format!("{}{} {}", by(&misfit.path), misfit.path, misfit.message);
                Denial::new(Reason::InvalidResult, message)
            })?;
        }
        sound::validate_result(before, after)
            .map_err(|(path, what)| Denial::new(Reason::InvalidResult, format!("{}{path} {what}", by(&path))))
    }
}

const NO_PRIMARY: &str = "has something for the primary container, and nobody can say which that is: set the annotation podgraft.io/primary-container";

fn annotate<'a>(pod: Json<'a>, applied: &'a str, arena: &'a Bump) -> Json<'a> {
    let metadata = pod.get("metadata").unwrap_or(Json::Object(&[]));
    let annotations = metadata.get("annotations").filter(|annotations| matches!(annotations, Json::Object(_)));
    let annotations = annotations.unwrap_or(Json::Object(&[])).with(APPLIED, Json::Str(applied), arena);
    pod.with("metadata", metadata.with("annotations", annotations, arena), arena)
}

#[cfg(test)]
mod tests;
