//! What may never leave, whoever asked for it: the last look at a patch before it is sent.

use crate::json::Json;
use crate::k8s::labels::LAST_APPLIED;
use crate::k8s::labels::PRIMARY;
use crate::k8s::labels::{APPLIED, DEFAULT_CONTAINER, MIRROR_POD};
use crate::k8s::patch::is_within;
use crate::k8s::patch::{Action, Operation, PathElement, display_path, type_at};
use crate::k8s::schema::{self, SchemaError};
use crate::model::task::Task;

/// Fields of `spec` that belong to others.
const SPEC: &[&str] = &["nodeName", "schedulingGates", "ephemeralContainers"];
/// Fields of the task's container that are the task's.
const TASK: &[&str] = &["name", "image", "command", "args"];
/// Annotations that others read: kubectl and the kubelet.
const ANNOTATIONS: &[&str] = &[LAST_APPLIED, DEFAULT_CONTAINER, MIRROR_POD];
/// What podgraft reads itself: a pod that was given one would be another task's the second time.
const OURS: &str = "podgraft.io/";

/// Checks every operation. `owned` is a pod that a controller made; `removable` are the readable paths that may
/// go. The error is the path, and whose it is.
pub fn check(
    operations: &[Operation<'_>],
    task: &Task<'_, '_>,
    owned: bool,
    removable: &[String],
) -> Result<(), (String, &'static str)> {
    for operation in operations {
        if let Some(whose) = protected(operation, task, owned) {
            return Err((display_path(operation.path), whose));
        }
        if operation.action == Action::Remove {
            let path = display_path(operation.path);
            if !removable.iter().any(|allowed| is_within(&path, allowed)) {
                return Err((path, "nobody asked to remove it"));
            }
        }
    }
    Ok(())
}

/// Whose the field is, if it is not a layer's to change.
fn protected(operation: &Operation<'_>, task: &Task<'_, '_>, owned: bool) -> Option<&'static str> {
    let takes = operation.action != Action::Add;
    let names = || operation.value.members().iter().map(|(key, _)| *key);
    let steps: Vec<&str> = operation.path.iter().map(name).collect();
    match steps.as_slice() {
        [] | ["metadata" | "spec"] => Some("it is the pod as a whole"),
        ["metadata", "labels" | "annotations"] if takes => Some("it holds the task's identity"),
        ["metadata", "labels"] => names().find_map(|key| label(key, task, false)),
        ["metadata", "labels", key] if is_repair(key, operation, task) => None,
        ["metadata", "labels", key] => label(key, task, owned && takes),
        ["metadata", "annotations"] => names().find_map(annotation),
        ["metadata", "annotations", key] => annotation(key),
        ["metadata", ..] => Some("it is the API server's or the creator's"),
        ["status" | "kind" | "apiVersion", ..] => Some("it is the API server's"),
        ["spec", field, ..] if SPEC.contains(field) => Some("it is the scheduler's or another controller's"),
        ["spec", "containers"] => Some("it holds the task itself"),
        ["spec", "containers", container, rest @ ..] if task.is_task_container(container) => {
            task_container(rest, operation, task)
        }
        _ => None,
    }
}

/// Whether a label's new value is what its own becomes when it is made one that the API server takes.
fn is_repair(key: &str, operation: &Operation<'_>, task: &Task<'_, '_>) -> bool {
    let replaces = operation.action == Action::Replace;
    replaces && task.repaired_label().is_some_and(|(label, value)| label == key && operation.value == Json::Str(&value))
}

fn label(key: &str, task: &Task<'_, '_>, selected: bool) -> Option<&'static str> {
    if task.identity_labels().contains(&key) {
        return Some("it is the task's identity");
    }
    if key.starts_with(OURS) {
        return Some("podgraft reads it");
    }
    // A changed selector label makes a ReplicaSet run away: it creates pods without end.
    selected.then_some("a controller may select the pod by it")
}

fn annotation(key: &str) -> Option<&'static str> {
    if ANNOTATIONS.contains(&key) {
        return Some("others read it");
    }
    (key.starts_with(OURS) && key != APPLIED).then_some("podgraft reads it")
}

/// The same for what lies within the task's container.
fn task_container(rest: &[&str], operation: &Operation<'_>, task: &Task<'_, '_>) -> Option<&'static str> {
    let takes = operation.action != Action::Add;
    let is_identity = |name: &str| task.identity_env().contains(&name);
    match rest {
        [] => takes.then_some("it is the task itself"),
        [field, ..] if TASK.contains(field) => Some("it is the task's own"),
        ["env"] if takes && !task.identity_env().is_empty() => Some("it holds the task's identity"),
        ["env"] => {
            let mut names = operation.value.items().iter().filter_map(|entry| entry.get("name")?.as_str());
            names.any(is_identity).then_some("it holds the task's identity")
        }
        ["env", variable, ..] if is_identity(variable) => Some("it is the task's identity"),
        _ => None,
    }
}

fn name<'a>(step: &PathElement<'a>) -> &'a str {
    match step {
        PathElement::Member(key) | PathElement::Element(_, Some(key)) => key,
        PathElement::Element(_, None) => "",
    }
}

/// Fields of `spec` that a module may not set: they give the pod rights, or need others to be adjusted.
const NOT_FOR_MODULES: &[&str] = &[
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "runtimeClassName",
    "serviceAccount",
    "serviceAccountName",
];

/// What a module's fragment asks for that a module may not have: the path, if any. Whoever can write a module can
/// write a layer, but a module's output depends on what a task's owner says.
pub fn beyond_a_module(fragment: Json<'_>) -> Option<String> {
    let spec = fragment.get("spec")?;
    if let Some(field) = NOT_FOR_MODULES.iter().find(|field| spec.get(field).is_some()) {
        return Some(format!("spec.{field}"));
    }
    let items = |list: &str| spec.get(list).map_or(&[][..], |list| list.items());
    if items("volumes").iter().any(|volume| volume.get("hostPath").is_some()) {
        return Some("spec.volumes: hostPath".to_owned());
    }
    let all = items("containers").iter().chain(items("initContainers"));
    for container in all {
        let of_task = container.get("name").and_then(|name| name.as_str()) == Some(PRIMARY);
        if of_task && container.get("lifecycle").is_some() {
            return Some("lifecycle of the task's container".to_owned());
        }
        let security = container.get("securityContext").unwrap_or(Json::Null);
        if security.get("privileged") == Some(Json::Bool(true)) || security.get_path(&["capabilities", "add"]).is_some()
        {
            return Some("securityContext: privileged or added capabilities".to_owned());
        }
    }
    None
}

/// Checks that what was touched fits the Pod schema: the API server drops unknown fields silently, and refuses
/// wrong types without naming the webhook.
pub fn fits(operations: &[Operation<'_>]) -> Result<(), SchemaError> {
    for operation in operations.iter().filter(|operation| operation.action != Action::Remove) {
        let Some(kind) = type_at(operation.path) else {
            return Err(SchemaError { path: display_path(operation.path), message: "is no field of a pod".to_owned() });
        };
        schema::validate(operation.value, kind, true).map_err(|misfit| misfit.below(&display_path(operation.path)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
