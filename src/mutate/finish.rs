//! Finishes a changed pod: dependent fields, the annotation `podgraft.io/applied`, the patch, and its checks.

use bumpalo::Bump;

use super::applied::{Applied, Interrupted};
use super::context::Context;
use crate::json::Json;
use crate::k8s::labels::APPLIED;
use crate::k8s::patch::{self, Operation, diff};
use crate::k8s::pod_security::{self, Violation};
use crate::k8s::validation;
use crate::k8s::warnings::{self, Warning};
use crate::merge::layer::Source;
use crate::model::denial::{Denial, Reason};
use crate::mutate::guards;
use crate::mutate::normalize::normalize;

/// Operations of one patch: each copies the list that it changes when the patch is tried.
const MAX_OPERATIONS: usize = 1024;

impl<'w, 'a> Context<'w, 'a> {
    /// Turns the changed pod into a checked patch.
    pub(super) fn finish(&self, mut applied: Applied<'w, 'a>) -> Result<Applied<'w, 'a>, Box<Interrupted<'w, 'a>>> {
        match self.make_patch(&mut applied) {
            Ok(()) => Ok(applied),
            Err(denial) => Err(Interrupted::new(denial, applied)),
        }
    }

    fn make_patch(&self, applied: &mut Applied<'w, 'a>) -> Result<(), Denial> {
        let submitted = self.pod.object;
        let (pod, mut removable) =
            normalize(submitted, applied.steps.last(), &applied.fragments, self.task, self.managed_fields, self.arena);
        applied.steps.push(Source::Normalize, pod);
        removable.extend_from_slice(applied.merger.removed());
        if !applied.names.is_empty() && !applied.steps.steps.is_empty() {
            let names = self.arena.alloc_str(&applied.names);
            let annotated = annotate(applied.steps.last(), names, self.arena);
            applied.steps.push(Source::Normalize, annotated);
        }
        applied.operations = diff(submitted, applied.steps.last(), self.arena);
        self.check_patch(applied, &removable)?;
        self.check_new_warnings(applied).map_err(|message| Denial::new(Reason::InvalidResult, message))
    }

    /// Checks the size of the patch, its operations, and that it gives the changed pod.
    fn check_patch(&self, applied: &Applied<'w, 'a>, removable: &[String]) -> Result<(), Denial> {
        let (operations, result) = (applied.operations, applied.steps.last());
        if operations.len() > MAX_OPERATIONS {
            let message =
                format!("the patch has {} operations, more than the limit of {MAX_OPERATIONS}", operations.len());
            return Err(Denial::new(Reason::TooLarge, message));
        }
        self.check_step(applied, self.pod.object, operations, removable)?;
        // A patch that does not apply makes the API server deny the pod even under failurePolicy Ignore, and its
        // message names no layer.
        match patch::apply(self.pod.object, operations, self.arena) {
            Ok(patched) if patched == result => Ok(()),
            Ok(_) => {
                Err(Denial::new(Reason::Internal, "the patch gives another pod than the layers do; please report this"))
            }
            Err(error) => {
                Err(Denial::new(Reason::Internal, format!("the patch does not apply: {error}; please report this")))
            }
        }
    }

    /// Checks the changes from `before` to the current pod: protected fields, the schema, the API server's rules.
    pub(super) fn check_step(
        &self,
        applied: &Applied<'w, 'a>,
        before: Json<'a>,
        operations: &[Operation<'a>],
        removable: &[String],
    ) -> Result<(), Denial> {
        let blame = |path: &str| self.blame_prefix(applied, path);
        guards::check(operations, self.task, self.pod.controller_name().is_some(), removable).map_err(
            |(path, reason)| {
                Denial::new(Reason::Protected, format!("{}{path} may not be changed: {reason}", blame(&path)))
            },
        )?;
        // Layers and modules were checked against the schema where they were read. The fields of a layer with
        // allowUnknownFields are not checked.
        if !self.plan.layers.iter().any(|layer| layer.unknown) {
            guards::check_schema(operations).map_err(|error| {
                let message = format!("{}{} {}", blame(&error.path), error.path, error.message);
                Denial::new(Reason::InvalidResult, message)
            })?;
        }
        validation::validate_result(before, applied.steps.last())
            .map_err(|(path, what)| Denial::new(Reason::InvalidResult, format!("{}{path} {what}", blame(&path))))
    }

    /// Checks that the result causes no warning of the API server that the submitted pod does not cause.
    fn check_new_warnings(&self, applied: &Applied<'w, 'a>) -> Result<(), String> {
        let (before, after) = (self.pod.object, applied.steps.last());
        if let Some(Warning { path, message, related_path }) = warnings::introduced(before, after) {
            let blame = self.blame_either(applied, &path, related_path.as_deref());
            let effect = "would cause a warning of the API server, which fails a ClearML task";
            return Err(format!("{blame}{path} {effect}: {message}"));
        }
        let Some(policy) = self.snapshot.pod_security.for_namespace(self.pod.namespace) else { return Ok(()) };
        let Some(Violation { path, related_path, must, reason }) = pod_security::introduced(before, after, policy)
        else {
            return Ok(());
        };
        let blame = self.blame_either(applied, &path, related_path);
        let effect = "and the API server's warning fails a ClearML task";
        Err(format!(
            "{blame}{path} {must}: the pod would violate its namespace's PodSecurity \"{policy}\" ({reason}), {effect}"
        ))
    }

    /// Returns the beginning of a message about `path`: the source that wrote it last, or else the last source that
    /// wrote something around it (a request is invalid because a layer lowered the limit).
    fn blame_prefix(&self, applied: &Applied<'w, 'a>, path: &str) -> String {
        let mut part = path;
        loop {
            if let Some(source) = self.last_writer(applied, part) {
                return format!("{source}: ");
            }
            match part.rfind('.').filter(|_| !part.ends_with(']')) {
                Some(dot) => part = &part[..dot],
                None => return String::new(),
            }
        }
    }

    /// Returns the beginning of a message about `path`, or about `related` where no source wrote `path`.
    fn blame_either(&self, applied: &Applied<'w, 'a>, path: &str, related: Option<&str>) -> String {
        let blame = |path: &str| Some(self.blame_prefix(applied, path)).filter(|blame| !blame.is_empty());
        blame(path).or_else(|| related.and_then(blame)).unwrap_or_default()
    }
}

fn annotate<'a>(pod: Json<'a>, applied: &'a str, arena: &'a Bump) -> Json<'a> {
    let metadata = pod.get("metadata").unwrap_or(Json::Object(&[]));
    let annotations = metadata.get("annotations").filter(|annotations| matches!(annotations, Json::Object(_)));
    let annotations = annotations.unwrap_or(Json::Object(&[])).with(APPLIED, Json::Str(applied), arena);
    pod.with("metadata", metadata.with("annotations", annotations, arena), arena)
}
