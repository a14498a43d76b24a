//! What may never leave, whoever asked for it: the last look at a patch before it is sent.

use crate::patch::{Action, Operation, Step, readable, type_at};
use crate::provenance::is_within;
use crate::schema::{self, Misfit};
use crate::task::Task;

/// Fields of `metadata` and below the pod's root that belong to others.
const METADATA: &[&str] =
    &["name", "generateName", "namespace", "ownerReferences", "finalizers", "managedFields", "uid"];
/// Fields of `spec` that do.
const SPEC: &[&str] = &["nodeName", "schedulingGates", "ephemeralContainers"];
/// Fields of the primary container that are the task's.
const PRIMARY: &[&str] = &["name", "image", "command", "args"];

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
            return Err((readable(operation.path), whose));
        }
        if operation.action == Action::Remove {
            let path = readable(operation.path);
            if !removable.iter().any(|allowed| is_within(&path, allowed)) {
                return Err((path, "nobody asked to remove it"));
            }
        }
    }
    Ok(())
}

/// Whose the field is, if it is not a layer's to change.
fn protected(operation: &Operation<'_>, task: &Task<'_, '_>, owned: bool) -> Option<&'static str> {
    let steps: Vec<&str> = operation.path.iter().map(name).collect();
    let takes = operation.action != Action::Add;
    match steps.as_slice() {
        [] | ["metadata" | "spec"] => Some("it is the pod as a whole"),
        ["spec", "containers"] => Some("it holds the task itself"),
        ["metadata", "labels"] if takes => Some("it holds the task's identity"),
        ["metadata", field, ..] if METADATA.contains(field) => Some("it is the API server's or the creator's"),
        ["status" | "kind" | "apiVersion", ..] => Some("it is the API server's"),
        ["spec", field, ..] if SPEC.contains(field) => Some("it is the scheduler's or another controller's"),
        ["metadata", "labels", label] if task.identity_labels().contains(label) => Some("it is the task's identity"),
        // A changed selector label makes a ReplicaSet run away: it creates pods without end.
        ["metadata", "labels", _] if owned && takes => Some("a controller may select the pod by it"),
        ["spec", "containers", container, rest @ ..] if Some(*container) == task.primary => match rest {
            [] => Some("it is the task itself"),
            [field, ..] if PRIMARY.contains(field) => Some("it is the task's own"),
            ["env"] if takes && !task.identity_env().is_empty() => Some("it holds the task's identity"),
            ["env", variable, ..] if takes && task.identity_env().contains(variable) => {
                Some("it is the task's identity")
            }
            _ => None,
        },
        _ => None,
    }
}

fn name<'a>(step: &Step<'a>) -> &'a str {
    match step {
        Step::Member(key) | Step::Element(_, Some(key)) => key,
        Step::Element(_, None) => "",
    }
}

/// Checks that what was touched fits the Pod schema: the API server drops unknown fields silently, and refuses
/// wrong types without naming the webhook.
pub fn fits(operations: &[Operation<'_>]) -> Result<(), Misfit> {
    for operation in operations.iter().filter(|operation| operation.action != Action::Remove) {
        let Some(kind) = type_at(operation.path) else {
            return Err(Misfit { path: readable(operation.path), message: "is no field of a pod".to_owned() });
        };
        schema::check(operation.value, kind, true).map_err(|misfit| {
            let path = readable(operation.path);
            let dot = if misfit.path.is_empty() || misfit.path.starts_with('[') { "" } else { "." };
            Misfit { path: format!("{path}{dot}{}", misfit.path), message: misfit.message }
        })?;
    }
    Ok(())
}
