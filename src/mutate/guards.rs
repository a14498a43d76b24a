//! Guards the protected fields: the check of a patch before it is sent, whichever layer or module made it.

use crate::json::Json;
use crate::k8s::labels::{APPLIED, DEFAULT_CONTAINER, LAST_APPLIED, MIRROR_POD, PRIMARY};
use crate::k8s::patch::{Action, Operation, PathElement, display_path, is_within, type_at};
use crate::k8s::schema::{self, SchemaError};
use crate::model::task::Task;

/// Fields of `spec` that other controllers set.
const SPEC: &[&str] = &["nodeName", "schedulingGates", "ephemeralContainers"];
/// Fields of the task's container that define the task.
const TASK: &[&str] = &["name", "image", "command", "args"];
/// Annotations that kubectl and the kubelet read.
const ANNOTATIONS: &[&str] = &[LAST_APPLIED, DEFAULT_CONTAINER, MIRROR_POD];
/// The prefix of labels and annotations that podgraft reads: a layer that set one would change the task of a second
/// run.
const OWN_PREFIX: &str = "podgraft.io/";

/// Checks every operation. `controlled` is true for a pod that a controller made; `removable` are the readable paths
/// that may be removed.
///
/// # Errors
/// The first protected path that an operation changes, and the reason.
pub fn check(
    operations: &[Operation<'_>],
    task: &Task<'_, '_>,
    controlled: bool,
    removable: &[String],
) -> Result<(), (String, &'static str)> {
    for operation in operations {
        if let Some(reason) = protected(operation, task, controlled) {
            return Err((display_path(operation.path), reason));
        }
        if operation.action == Action::Remove {
            let path = display_path(operation.path);
            if !removable.iter().any(|allowed| is_within(&path, allowed)) {
                return Err((path, "no layer or module declared this removal"));
            }
        }
    }
    Ok(())
}

/// Returns the reason why the field is protected, if it is.
fn protected(operation: &Operation<'_>, task: &Task<'_, '_>, controlled: bool) -> Option<&'static str> {
    let existing = operation.action != Action::Add;
    let names = || operation.value.members().iter().map(|(key, _)| *key);
    let steps: Vec<&str> = operation.path.iter().map(name).collect();
    match steps.as_slice() {
        [] | ["metadata" | "spec"] => Some("it is the whole pod"),
        ["metadata", "labels" | "annotations"] if existing => Some("it holds the task's identity"),
        ["metadata", "labels"] => names().find_map(|key| label(key, task, false)),
        ["metadata", "labels", key] if is_repair(key, operation, task) => None,
        ["metadata", "labels", key] => label(key, task, controlled && existing),
        ["metadata", "annotations"] => names().find_map(annotation),
        ["metadata", "annotations", key] => annotation(key),
        ["metadata", ..] => Some("it belongs to the API server or the creator"),
        ["status" | "kind" | "apiVersion", ..] => Some("it belongs to the API server"),
        ["spec", field, ..] if SPEC.contains(field) => Some("it belongs to the scheduler or another controller"),
        ["spec", "containers"] => Some("it holds the task itself"),
        ["spec", "containers", container, rest @ ..] if task.is_task_container(container) => {
            task_container(rest, operation, task)
        }
        _ => None,
    }
}

/// Returns true if the label's new value is the valid form of its old one.
fn is_repair(key: &str, operation: &Operation<'_>, task: &Task<'_, '_>) -> bool {
    let replaces = operation.action == Action::Replace;
    replaces && task.repaired_label().is_some_and(|(label, value)| label == key && operation.value == Json::Str(&value))
}

fn label(key: &str, task: &Task<'_, '_>, selected: bool) -> Option<&'static str> {
    if task.identity_labels().contains(&key) {
        return Some("it is the task's identity");
    }
    if key.starts_with(OWN_PREFIX) {
        return Some("podgraft reads it");
    }
    // A ReplicaSet whose pod lost a selector label creates another one, without end.
    selected.then_some("a controller may select the pod by it")
}

fn annotation(key: &str) -> Option<&'static str> {
    if ANNOTATIONS.contains(&key) {
        return Some("kubectl or the kubelet reads it");
    }
    (key.starts_with(OWN_PREFIX) && key != APPLIED).then_some("podgraft reads it")
}

/// Returns the reason why a field of the task's container is protected, if it is.
fn task_container(rest: &[&str], operation: &Operation<'_>, task: &Task<'_, '_>) -> Option<&'static str> {
    let existing = operation.action != Action::Add;
    let is_identity = |name: &str| task.identity_env().contains(&name);
    match rest {
        [] => existing.then_some("it is the task itself"),
        [field, ..] if TASK.contains(field) => Some("it defines the task"),
        ["env"] if existing && !task.identity_env().is_empty() => Some("it holds the task's identity"),
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

/// Fields of `spec` that a module may not set: they give the pod rights, or require changes to other fields.
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

/// Returns the path of a module's fragment that only a layer may set, if there is one. The author of a module could
/// write a layer too, but a module's output depends on the task's input.
pub fn layer_only_field(fragment: Json<'_>) -> Option<String> {
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
        let is_primary = container.text("name") == PRIMARY;
        if is_primary && container.get("lifecycle").is_some() {
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

/// Checks the changed values against the Pod schema: the API server drops unknown fields silently, and denies wrong
/// types without naming the webhook.
///
/// # Errors
/// The first value that does not fit the schema.
pub fn check_schema(operations: &[Operation<'_>]) -> Result<(), SchemaError> {
    for operation in operations.iter().filter(|operation| operation.action != Action::Remove) {
        let Some(kind) = type_at(operation.path) else {
            return Err(SchemaError {
                path: display_path(operation.path),
                message: "is not a field of a pod".to_owned(),
            });
        };
        schema::validate(operation.value, kind, true).map_err(|error| error.below(&display_path(operation.path)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
