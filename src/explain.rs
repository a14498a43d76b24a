//! Explains one pod's mutation: the settings that were not applied, and those that were overridden, with the reasons.
//!
//! Nothing of this is recorded while pods are admitted: `podgraft explain` computes it for one pod.

pub mod simulate;
pub mod yaml;

use std::sync::Arc;

use bumpalo::Bump;
use serde_json::Value;

use crate::config::{is_file_annotation, is_file_volume};
use crate::json::Json;
use crate::k8s::labels::{ENVIRONMENT, PRIMARY};
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::patch::{PathElement, display_path, key_text};
use crate::k8s::schema::{ListType, POD, Type, did_you_mean};
use crate::merge::layer::Source;
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::{Match, Module, OnError, Queue, Snapshot, UnknownQueue};
use crate::model::task::Task;
use crate::mutate::plan::{NEVER_VALID, Plan};
use crate::mutate::provenance::FragmentSource;
use crate::mutate::{LayerMode, ModuleRun, MutateFailure, Mutation, mutate};

/// One pod's mutation, with the reasons why other settings did not reach it.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// the mutation; `Ok(None)` is a skipped pod, with the reason in `skipped`; a denied pod's failure holds the
    /// mutation up to the denial
    pub result: Result<Option<Mutation<'a>>, MutateFailure<'a>>,
    /// the modules that ran
    pub runs: Vec<ModuleRun>,
    /// the reason why the pod is skipped, if it is
    pub skipped: Option<String>,
    /// the units and modules that do not apply, in the order of the configuration
    pub not_applied: Vec<NotApplied>,
    /// the values that a layer or module set and that another value overrides, in the order of application
    pub overridden: Vec<Overridden>,
    /// a denied pod's remaining layers and modules, in order; the first is the one that caused the denial, if one did
    pub remaining: Vec<FragmentSource<'a>>,
}

/// A unit or module that did not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotApplied {
    /// the unit or module
    pub source: Source,
    /// the reason, worded to follow the source's name: `matches the namespaces ml-prod, not dev`
    pub reason: String,
}

/// A value that a layer or module set and that is not on the finished pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overridden {
    /// the readable path, as in `spec.containers[main].env[HOME]`
    pub path: String,
    /// the layer or module
    pub source: Source,
    /// a layer's file and line; a module has none
    pub location: Option<(Arc<str>, u32)>,
    /// the source of the value on the pod; none is the pod itself
    pub winner: Option<Source>,
    /// the manager of the pod's own value, according to its managed fields
    pub manager: Option<String>,
}

/// Mutates a review's pod and explains the result.
pub fn explain<'a>(
    review: &Review<'a>,
    snapshot: &'a Snapshot,
    execution: Execution<'_>,
    arena: &'a Bump,
) -> Explanation<'a> {
    let mut runs = Vec::new();
    let result = mutate(review, snapshot, execution, LayerMode::PerLayer, &mut runs, arena);
    let pod = Pod::from_review(review);
    let mut explanation = Explanation {
        result,
        runs,
        skipped: None,
        not_applied: Vec::new(),
        overridden: Vec::new(),
        remaining: Vec::new(),
    };
    match Task::from_pod(&pod, review, snapshot) {
        Ok(Some(task)) => {
            explanation.not_applied = units_not_applied(&task, &pod, snapshot);
            match &explanation.result {
                Ok(None) => explanation.skipped = Some(skip_reason(review, &task, snapshot)),
                Ok(Some(_)) => {}
                Err(_) => {
                    let plan = Plan::choose(&task, &pod, snapshot).ok().flatten();
                    explanation.remaining = plan.map_or_else(Vec::new, |plan| explanation.remaining(&plan));
                }
            }
        }
        Ok(None) => {
            explanation.skipped = Some("it is not a task pod: it has no label of a configured task system".to_owned());
        }
        Err(_) => {}
    }
    if let Some(mutation) = explanation.reached() {
        let skipped: Vec<_> =
            mutation.skipped_modules.iter().map(|(module, error)| skipped_module(module, error.as_deref())).collect();
        explanation.overridden = overridden_settings(mutation, arena);
        explanation.not_applied.extend(skipped);
    }
    explanation
}

impl<'a> Explanation<'a> {
    /// Returns the mutation; of a denied pod, the mutation up to the denial.
    pub fn reached(&self) -> Option<&Mutation<'a>> {
        match &self.result {
            Ok(mutation) => mutation.as_ref(),
            Err(failure) => failure.partial.as_deref(),
        }
    }

    /// Returns the layers and modules of a plan that remained when the pod was denied.
    fn remaining(&self, plan: &Plan<'a>) -> Vec<FragmentSource<'a>> {
        let (fragments, skipped) =
            self.reached().map_or((&[][..], &[][..]), |reached| (&reached.fragments[..], &reached.skipped_modules[..]));
        let layers = fragments.iter().filter(|(source, _)| matches!(source, FragmentSource::Layer(_))).count();
        let remaining = plan.layers.iter().skip(layers).map(|layer| FragmentSource::Layer(layer));
        let done = |module: &Module| {
            let is_module = |source: FragmentSource<'_>| match source {
                FragmentSource::Module(other) => other.name == module.name,
                FragmentSource::Layer(_) => false,
            };
            fragments.iter().any(|(source, _)| is_module(*source))
                || skipped.iter().any(|(skipped, _)| skipped.name == module.name)
                || self
                    .runs
                    .iter()
                    .any(|run| run.name == module.name && (run.error.is_none() || module.on_error == OnError::Ignore))
        };
        let modules = plan.modules.iter().filter(|module| !done(module));
        remaining.chain(modules.map(|module| FragmentSource::Module(module))).collect()
    }
}

fn skip_reason(review: &Review<'_>, task: &Task<'_, '_>, snapshot: &Snapshot) -> String {
    let named = task.queue_name.or(task.queue_id);
    if !snapshot.namespace.is_empty() && review.namespace == snapshot.namespace {
        return "it is in podgraft's own namespace".to_owned();
    }
    match (snapshot.unknown_queue, named) {
        (UnknownQueue::Ignore, Some(name)) => format!("its queue '{name}' is not configured (unknownQueue: Ignore)"),
        _ => "only the creation of pods is mutated, and no mirror pods".to_owned(),
    }
}

fn skipped_module(module: &Module, error: Option<&str>) -> NotApplied {
    let reason = match error {
        None => "is skipped: its condition is false".to_owned(),
        Some(error) => format!("is skipped: its condition fails and onError is Ignore: {error}"),
    };
    NotApplied { source: Source::Module(module.name.clone()), reason }
}

/// Returns the units that do not apply to a pod, and the base if the pod's queue replaces keys of it.
pub fn units_not_applied(task: &Task<'_, '_>, pod: &Pod<'_>, snapshot: &Snapshot) -> Vec<NotApplied> {
    let mut not_applied = Vec::new();
    let plan = Plan::choose(task, pod, snapshot).ok().flatten();
    let queue = plan.as_ref().and_then(|plan| plan.queue);
    if let Some(reason) = queue.and_then(|queue| replaced_keys(queue, snapshot)) {
        not_applied.push(NotApplied { source: Source::Base, reason });
    }
    for unit in &snapshot.environments {
        let reason = match &unit.last_valid {
            None => unit.error.clone().map(|error| format!("has no valid configuration: {error}")),
            Some(environment) if environment.matches.is_empty() => {
                (task.environment != Some(&environment.name)).then(|| {
                    format!("has no match: it applies only to pods with the label {ENVIRONMENT}={}", environment.name)
                })
            }
            Some(environment) => mismatch(&environment.matches, pod),
        };
        not_applied.extend(reason.map(|reason| NotApplied { source: unit.source.clone(), reason }));
    }
    if queue.is_none() {
        not_applied.extend(queue_not_applied(task, pod, snapshot));
    }
    not_applied
}

/// Returns the queue that the pod names, with the reason why it does not apply.
fn queue_not_applied(task: &Task<'_, '_>, pod: &Pod<'_>, snapshot: &Snapshot) -> Option<NotApplied> {
    let name = task.queue_name.or(task.queue_id)?;
    let Some(unit) = snapshot.queues.find(task.queue_id, task.queue_name) else {
        let names = snapshot.queues.by_name.keys().map(String::as_str);
        let hint = did_you_mean(name, names);
        return Some(NotApplied { source: Source::Queue(name.to_owned()), reason: format!("is not configured{hint}") });
    };
    let reason = match unit.last_valid.as_deref() {
        None => format!("has no valid configuration: {}", unit.error.as_deref().unwrap_or(NEVER_VALID)),
        Some(Queue { system: Some(system), .. }) if *system != task.system.name => {
            format!("is for the task system {system}, and the pod belongs to {}", task.system.name)
        }
        Some(Queue { id: Some(id), .. }) if task.queue_id.is_some_and(|own| own != id) => {
            format!("has the id {id}, and the pod names another id: two queue names give the same label")
        }
        Some(queue) => mismatch(&queue.matches, pod)?,
    };
    Some(NotApplied { source: unit.source.clone(), reason })
}

/// Describes the first condition that the pod does not meet.
fn mismatch(matches: &Match, pod: &Pod<'_>) -> Option<String> {
    if !matches.namespaces.is_empty() && !matches.namespaces.iter().any(|namespace| namespace == pod.namespace) {
        return Some(format!("matches the namespaces {}, not {}", matches.namespaces.join(", "), pod.namespace));
    }
    let missing = matches.pod_labels.iter().find(|(key, value)| pod.label(key) != Some(value));
    missing.map(|(key, value)| format!("matches pods with the label {key}={value}"))
}

/// Describes the keys of the base that the queue replaces.
fn replaced_keys(queue: &Queue, snapshot: &Snapshot) -> Option<String> {
    let base = snapshot.base.as_ref()?.last_valid.as_ref()?.layers.first()?;
    let remaining = queue.base.as_ref().map_or(&Value::Null, |layer| &layer.fragment);
    let mut keys = Vec::new();
    for part in ["/metadata", "/spec", "/spec/containers/0"] {
        let all = base.fragment.pointer(part).and_then(Value::as_object).into_iter().flatten();
        let replaced = all.filter(|(key, _)| {
            let is_container = matches!(key.as_str(), "containers" | "name");
            !is_container && remaining.pointer(part).is_none_or(|object| object.get(*key).is_none())
        });
        for (key, value) in replaced {
            let key = if is_from_file_mounts(value) { "fileMounts" } else { key.as_str() };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    (!keys.is_empty()).then(|| format!("does not set {}: replaced by queue/{}", keys.join(", "), queue.name))
}

/// Returns true if `fileMounts` made all of these annotations, volumes or mounts: the configuration has no other key
/// for them.
fn is_from_file_mounts(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.is_empty() && members.keys().all(|key| is_file_annotation(key)),
        Value::Array(items) => {
            let is_file = |item: &Value| item["name"].as_str().is_some_and(is_file_volume);
            !items.is_empty() && items.iter().all(is_file)
        }
        _ => false,
    }
}

/// Returns the values of fragments that the finished pod does not have.
pub fn overridden_settings<'a>(mutation: &Mutation<'a>, arena: &'a Bump) -> Vec<Overridden> {
    let mut overridden = Vec::new();
    for (source, fragment) in &mutation.fragments {
        let mut search = Search { mutation, arena, path: Vec::new(), overridden: Vec::new() };
        search.object(*fragment, Some(mutation.steps.last()), Some(mutation.steps.submitted), Type::Object(&POD));
        let (source, location) = match source {
            FragmentSource::Layer(layer) => (layer.source.clone(), Some((Arc::clone(&layer.file), layer.line))),
            FragmentSource::Module(module) => (Source::Module(module.name.clone()), None),
        };
        overridden.extend(search.overridden.into_iter().map(|(path, winner, manager)| Overridden {
            path,
            source: source.clone(),
            location: location.clone(),
            winner,
            manager,
        }));
    }
    overridden
}

/// A walk through one fragment beside the pod before and after.
struct Search<'s, 'a> {
    mutation: &'s Mutation<'a>,
    arena: &'a Bump,
    path: Vec<PathElement<'a>>,
    /// path, winner, manager
    overridden: Vec<(String, Option<Source>, Option<String>)>,
}

impl<'a> Search<'_, 'a> {
    fn object(&mut self, wanted: Json<'a>, after: Option<Json<'a>>, before: Option<Json<'a>>, kind: Type) {
        for (key, wanted) in wanted.members() {
            let member = |value: Option<Json<'a>>| value.and_then(|value| value.get(key));
            self.path.push(PathElement::Member(key));
            self.value(key, *wanted, member(after), member(before), kind);
            self.path.pop();
        }
    }

    fn value(&mut self, key: &str, wanted: Json<'a>, after: Option<Json<'a>>, before: Option<Json<'a>>, parent: Type) {
        let (kind, list) = match parent {
            Type::Object(object) => object.field(key).map_or((Type::Any, ListType::Atomic), |f| (f.kind, f.list)),
            Type::Map(element) => (*element, ListType::Atomic),
            _ => (Type::Any, ListType::Atomic),
        };
        match (wanted, kind, list) {
            // A removal sets no value, and required terms are part of each of the pod's own.
            (Json::Null, ..) | (_, _, ListType::NodeSelectorTerms) => {}
            (Json::Object(_), Type::Object(_) | Type::Map(_) | Type::Any, _) => {
                self.object(wanted, after, before, kind);
            }
            (Json::Array(items), Type::List(element), ListType::Map(_) | ListType::MapAtomicItem(_)) => {
                for item in items.iter().filter(|item| item.get("$patch").is_none()) {
                    self.element(key, *item, after, before, (list, *element));
                }
            }
            (Json::Array(items), _, ListType::Set | ListType::Prepend) => {
                let present = after.map_or(&[][..], |after| after.items());
                if items.iter().any(|item| item.get("$patch").is_none() && !present.contains(item)) {
                    self.record_overridden(after, before);
                }
            }
            _ if after != Some(wanted) => self.record_overridden(after, before),
            _ => {}
        }
    }

    fn element(
        &mut self,
        list_name: &str,
        wanted: Json<'a>,
        after: Option<Json<'a>>,
        before: Option<Json<'a>>,
        (list, element): (ListType, Type),
    ) {
        let Some(key) = key_text(&wanted, list, self.arena) else { return };
        let key = match self.mutation.primary {
            Some(primary) if key == PRIMARY && list_name == "containers" => primary,
            _ => key,
        };
        let arena = self.arena;
        let find = |list_of: Option<Json<'a>>| {
            let items = list_of.map_or(&[][..], |list_of| list_of.items());
            items.iter().rev().find(|item| key_text(item, list, arena) == Some(key)).copied()
        };
        let (after, before) = (find(after), find(before));
        self.path.push(PathElement::Element(0, Some(key)));
        if matches!(list, ListType::MapAtomicItem(_)) {
            if after != Some(wanted) {
                self.record_overridden(after, before);
            }
        } else {
            let rest = list.keys().iter().fold(wanted, |rest, key| rest.without(key, arena));
            self.object(rest, after, before, element);
        }
        self.path.pop();
    }

    fn record_overridden(&mut self, after: Option<Json<'a>>, before: Option<Json<'a>>) {
        let path = display_path(&self.path);
        let is_own = after.is_some() && after == before;
        let winner = if is_own { None } else { self.mutation.steps.last_writer(&path, self.arena) };
        let managed_fields = || ManagedFields::from_pod(self.mutation.steps.submitted, self.arena);
        let manager = is_own.then(|| managed_fields().manager(&self.path).map(str::to_owned)).flatten();
        self.overridden.push((path, winner, manager));
    }
}

#[cfg(test)]
mod tests;
