//! Why a pod is what it became: what was configured and did not reach it, and what reached it and lost.
//!
//! Nothing of this is kept while pods are admitted: it is worked out again for one pod, for `podgraft explain`.

pub mod simulate;
pub mod yaml;

use std::sync::Arc;

use bumpalo::Bump;
use serde_json::Value;

use crate::config::{is_file_annotation, is_file_volume};
use crate::json::Json;
use crate::k8s::labels::ENVIRONMENT;
use crate::k8s::labels::PRIMARY;
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::patch::{PathElement, display_path, key_text};
use crate::k8s::schema::{ListType, POD, Type, nearest};
use crate::merge::layer::Source;
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::{Match, Module, OnError, Queue, Snapshot, UnknownQueue};
use crate::model::task::Task;
use crate::mutate::plan::Plan;
use crate::mutate::provenance::FragmentSource;
use crate::mutate::{LayerMode, ModuleRun, MutateFailure, Mutation, mutate};

/// One pod's admission, with the reasons for what it did not get.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// what became of the pod: `Ok(None)` is one that is left alone, for the reason in `alone`; of one that is refused
    /// there is what was laid before
    pub result: Result<Option<Mutation<'a>>, MutateFailure<'a>>,
    /// the modules that ran
    pub runs: Vec<ModuleRun>,
    /// why the pod is left alone, if it is
    pub skipped: Option<String>,
    /// what the configuration has and the pod did not get at all, in the order of the configuration
    pub not_applied: Vec<NotApplied>,
    /// what a layer or module asked for and something else is there, in the order in which they were laid
    pub overridden: Vec<Overridden>,
    /// of a pod that is refused, what was not laid any more, in order: first, if it is one of them, who caused it
    pub not_reached: Vec<FragmentSource<'a>>,
}

/// A unit or module that did not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotApplied {
    /// which
    pub source: Source,
    /// why, to be read after its name: `is for the namespaces ml-prod, not for dev`
    pub why: String,
}

/// A value that was asked for and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overridden {
    /// as `spec.containers[main].env[HOME]`
    pub path: String,
    /// who asked for it
    pub source: Source,
    /// a layer's file and line; a module has none
    pub at: Option<(Arc<str>, u32)>,
    /// whose value is there instead: none is the pod's own
    pub to: Option<Source>,
    /// who wrote the pod's own value, where managedFields tell
    pub manager: Option<String>,
}

/// Takes a review through everything and says what was left out on the way.
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
        not_reached: Vec::new(),
    };
    match Task::from_pod(&pod, review, snapshot) {
        Ok(Some(task)) => {
            explanation.not_applied = units_not_applied(&task, &pod, snapshot);
            match &explanation.result {
                Ok(None) => explanation.skipped = Some(why_skipped(review, &task, snapshot)),
                Ok(Some(_)) => {}
                Err(_) => {
                    let plan = Plan::choose(&task, &pod, snapshot).ok().flatten();
                    explanation.not_reached = plan.map_or_else(Vec::new, |plan| explanation.not_reached(&plan));
                }
            }
        }
        Ok(None) => {
            explanation.skipped = Some("it is no task pod: it has no label of a configured task system".to_owned())
        }
        Err(_) => {}
    }
    if let Some(mutation) = explanation.reached() {
        let idle: Vec<_> =
            mutation.skipped_modules.iter().map(|(module, why)| skipped_module(module, why.as_deref())).collect();
        explanation.overridden = overridden_settings(mutation, arena);
        explanation.not_applied.extend(idle);
    }
    explanation
}

impl<'a> Explanation<'a> {
    /// What was done to the pod; if it is refused, until then.
    pub fn reached(&self) -> Option<&Mutation<'a>> {
        match &self.result {
            Ok(mutation) => mutation.as_ref(),
            Err(halted) => halted.partial.as_deref(),
        }
    }

    /// What of a plan was still to be laid when the pod was refused.
    fn not_reached(&self, plan: &Plan<'a>) -> Vec<FragmentSource<'a>> {
        let (laid, idle) =
            self.reached().map_or((&[][..], &[][..]), |reached| (&reached.fragments[..], &reached.skipped_modules[..]));
        let layers = laid.iter().filter(|(by, _)| matches!(by, FragmentSource::Layer(_))).count();
        let rest = plan.layers.iter().skip(layers).map(|layer| FragmentSource::Layer(layer));
        let done = |module: &Module| {
            laid.iter().any(|(by, _)| matches!(by, FragmentSource::Module(laid) if laid.name == module.name))
                || idle.iter().any(|(idle, _)| idle.name == module.name)
                || self
                    .runs
                    .iter()
                    .any(|run| run.name == module.name && (run.error.is_none() || module.on_error == OnError::Ignore))
        };
        let modules = plan.modules.iter().filter(|module| !done(module));
        rest.chain(modules.map(|module| FragmentSource::Module(module))).collect()
    }
}

fn why_skipped(review: &Review<'_>, task: &Task<'_, '_>, snapshot: &Snapshot) -> String {
    let named = task.queue_name.or(task.queue_id);
    if !snapshot.namespace.is_empty() && review.namespace == snapshot.namespace {
        return "it is in podgraft's own namespace".to_owned();
    }
    match (snapshot.unknown_queue, named) {
        (UnknownQueue::Ignore, Some(name)) => format!("its queue '{name}' is not configured (unknownQueue: Ignore)"),
        _ => "only the creation of pods is looked at, and no mirror pods".to_owned(),
    }
}

fn skipped_module(module: &Module, why: Option<&str>) -> NotApplied {
    let why = why
        .map_or("its condition is false".to_owned(), |why| format!("its condition fails and onError is Ignore: {why}"));
    NotApplied { source: Source::Module(module.name.clone()), why }
}

/// The units that do not apply to a pod, and parts of the base that its queue replaces.
pub fn units_not_applied(task: &Task<'_, '_>, pod: &Pod<'_>, snapshot: &Snapshot) -> Vec<NotApplied> {
    let mut passed = Vec::new();
    let plan = Plan::choose(task, pod, snapshot).ok().flatten();
    let queue = plan.as_ref().and_then(|plan| plan.queue);
    if let Some(why) = queue.and_then(|queue| replaced(queue, snapshot)) {
        passed.push(NotApplied { source: Source::Base, why });
    }
    for unit in &snapshot.environments {
        let why = match &unit.last_valid {
            None => unit.error.clone().map(|error| format!("has no valid configuration: {error}")),
            Some(environment) if environment.matches.is_empty() => {
                (task.environment != Some(&environment.name)).then(|| {
                    format!("has no match, so it is for pods with the label {ENVIRONMENT}={} only", environment.name)
                })
            }
            Some(environment) => mismatch(&environment.matches, pod),
        };
        passed.extend(why.map(|why| NotApplied { source: unit.source.clone(), why }));
    }
    if queue.is_none() {
        passed.extend(no_queue(task, pod, snapshot));
    }
    passed
}

/// Why the queue that the pod names gives it nothing.
fn no_queue(task: &Task<'_, '_>, pod: &Pod<'_>, snapshot: &Snapshot) -> Option<NotApplied> {
    let name = task.queue_name.or(task.queue_id)?;
    let Some(unit) = snapshot.queues.find(task.queue_id, task.queue_name) else {
        let names = snapshot.queues.by_name.keys().map(String::as_str);
        let hint = nearest(name, names).map_or_else(String::new, |near| format!("; the nearest is '{near}'"));
        return Some(NotApplied { source: Source::Queue(name.to_owned()), why: format!("is not configured{hint}") });
    };
    let why = match unit.last_valid.as_deref() {
        None => format!("has no valid configuration: {}", unit.error.as_deref().unwrap_or("it has never been sound")),
        Some(Queue { system: Some(system), .. }) if *system != task.system.name => {
            format!("is for the system {system}, and the pod is of {}", task.system.name)
        }
        Some(Queue { id: Some(id), .. }) if task.queue_id.is_some_and(|own| own != id) => {
            format!("has the id {id}, and the pod says another: two queues' names make the same label")
        }
        Some(queue) => mismatch(&queue.matches, pod)?,
    };
    Some(NotApplied { source: unit.source.clone(), why })
}

/// The first condition that does not hold.
fn mismatch(matches: &Match, pod: &Pod<'_>) -> Option<String> {
    if !matches.namespaces.is_empty() && !matches.namespaces.iter().any(|namespace| namespace == pod.namespace) {
        return Some(format!("is for the namespaces {}, not for {}", matches.namespaces.join(", "), pod.namespace));
    }
    let missing = matches.pod_labels.iter().find(|(key, value)| pod.label(key) != Some(value));
    missing.map(|(key, value)| format!("is for pods with the label {key}={value}"))
}

/// Which keys of the base a queue's own replace.
fn replaced(queue: &Queue, snapshot: &Snapshot) -> Option<String> {
    let base = snapshot.base.as_ref()?.last_valid.as_ref()?.layers.first()?;
    let left = queue.base.as_ref().map_or(&Value::Null, |layer| &layer.fragment);
    let mut keys = Vec::new();
    for part in ["/metadata", "/spec", "/spec/containers/0"] {
        let all = base.fragment.pointer(part).and_then(Value::as_object).into_iter().flatten();
        let gone = all.filter(|(key, _)| {
            let is_container = matches!(key.as_str(), "containers" | "name");
            !is_container && left.pointer(part).is_none_or(|left| left.get(*key).is_none())
        });
        for (key, value) in gone {
            let key = if is_of_files(value) { "fileMounts" } else { key.as_str() };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    (!keys.is_empty()).then(|| format!("gives no {}: queue/{} replaces them", keys.join(", "), queue.name))
}

/// Whether nothing but `fileMounts` made these annotations, volumes or mounts: whoever wrote those knows of no others.
fn is_of_files(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.is_empty() && members.keys().all(|key| is_file_annotation(key)),
        Value::Array(items) => {
            let is_file = |item: &Value| item["name"].as_str().is_some_and(is_file_volume);
            !items.is_empty() && items.iter().all(is_file)
        }
        _ => false,
    }
}

/// What fragments asked for and the finished pod does not have.
pub fn overridden_settings<'a>(mutation: &Mutation<'a>, arena: &'a Bump) -> Vec<Overridden> {
    let mut lost = Vec::new();
    for (by, fragment) in &mutation.fragments {
        let mut search = Search { mutation, arena, path: Vec::new(), lost: Vec::new() };
        search.object(*fragment, Some(mutation.steps.last()), Some(mutation.steps.submitted), Type::Object(&POD));
        lost.extend(search.lost.into_iter().map(|(path, to, manager)| match by {
            FragmentSource::Layer(layer) => {
                let at = Some((Arc::clone(&layer.file), layer.line));
                Overridden { path, source: layer.source.clone(), at, to, manager }
            }
            FragmentSource::Module(module) => {
                Overridden { path, source: Source::Module(module.name.clone()), at: None, to, manager }
            }
        }));
    }
    lost
}

/// A walk through one fragment beside the pod before and after.
struct Search<'s, 'a> {
    mutation: &'s Mutation<'a>,
    arena: &'a Bump,
    path: Vec<PathElement<'a>>,
    /// path, whose value is there, who wrote it
    lost: Vec<(String, Option<Source>, Option<String>)>,
}

impl<'a> Search<'_, 'a> {
    fn object(&mut self, wanted: Json<'a>, has: Option<Json<'a>>, was: Option<Json<'a>>, kind: Type) {
        for (key, wanted) in wanted.members() {
            let member = |value: Option<Json<'a>>| value.and_then(|value| value.get(key));
            self.path.push(PathElement::Member(key));
            self.value(key, *wanted, member(has), member(was), kind);
            self.path.pop();
        }
    }

    fn value(&mut self, key: &str, wanted: Json<'a>, has: Option<Json<'a>>, was: Option<Json<'a>>, parent: Type) {
        let (kind, list) = match parent {
            Type::Object(object) => object.field(key).map_or((Type::Any, ListType::Atomic), |f| (f.kind, f.list)),
            Type::Map(element) => (*element, ListType::Atomic),
            _ => (Type::Any, ListType::Atomic),
        };
        match (wanted, kind, list) {
            // What removes is no value, and required terms are in each of the pod's own.
            (Json::Null, ..) | (_, _, ListType::NodeSelectorTerms) => {}
            (Json::Object(_), Type::Object(_) | Type::Map(_) | Type::Any, _) => self.object(wanted, has, was, kind),
            (Json::Array(items), Type::List(element), ListType::Map(_) | ListType::MapAtomicItem(_)) => {
                for item in items.iter().filter(|item| item.get("$patch").is_none()) {
                    self.element(key, *item, has, was, (list, *element));
                }
            }
            (Json::Array(items), _, ListType::Set | ListType::Prepend) => {
                let present = has.map_or(&[][..], |has| has.items());
                if items.iter().any(|item| item.get("$patch").is_none() && !present.contains(item)) {
                    self.record_overridden(has, was);
                }
            }
            _ if has != Some(wanted) => self.record_overridden(has, was),
            _ => {}
        }
    }

    fn element(
        &mut self,
        list_name: &str,
        wanted: Json<'a>,
        has: Option<Json<'a>>,
        was: Option<Json<'a>>,
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
        let (has, was) = (find(has), find(was));
        self.path.push(PathElement::Element(0, Some(key)));
        if matches!(list, ListType::MapAtomicItem(_)) {
            if has != Some(wanted) {
                self.record_overridden(has, was);
            }
        } else {
            let named = list.keys().iter();
            let rest = named.fold(wanted, |rest, name| rest.without(name, arena));
            self.object(rest, has, was, element);
        }
        self.path.pop();
    }

    fn record_overridden(&mut self, has: Option<Json<'a>>, was: Option<Json<'a>>) {
        let path = display_path(&self.path);
        let own = has.is_some() && has == was;
        let to = if own { None } else { self.mutation.steps.last_writer(&path, self.arena) };
        let owners = || ManagedFields::from_pod(self.mutation.steps.submitted, self.arena);
        let manager = own.then(|| owners().manager(&self.path).map(str::to_owned)).flatten();
        self.lost.push((path, to, manager));
    }
}

#[cfg(test)]
mod tests;
