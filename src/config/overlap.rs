//! Environments of one priority that would fight over a field.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::snapshot::{Environment, Match};

/// A field to which both give a value, and not the same one, on a pod that both match.
pub(crate) fn conflicting_path(one: &Environment, other: &Environment) -> Option<String> {
    if one.priority != other.priority || !may_meet(&one.matches, &other.matches) {
        return None;
    }
    let (ours, theirs) = (leaves(one), leaves(other));
    ours.into_iter().find(|(path, value)| theirs.get(path).is_some_and(|their| their != value)).map(|(path, _)| path)
}

/// Whether a pod can match both. One without a condition is for pods that name it, and they name one.
fn may_meet(one: &Match, other: &Match) -> bool {
    let namespaces = one.namespaces.is_empty()
        || other.namespaces.is_empty()
        || one.namespaces.iter().any(|namespace| other.namespaces.contains(namespace));
    let agrees = |(key, value): (&String, &String)| other.pod_labels.get(key).is_none_or(|other| other == value);
    !one.is_empty() && !other.is_empty() && namespaces && one.pod_labels.iter().all(agrees)
}

fn leaves(environment: &Environment) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    for layer in &environment.graft.layers {
        collect(&layer.fragment, String::new(), &mut found);
    }
    found
}

/// Elements of lists that merge by a key are told apart by it; other lists add up and contest nothing.
fn collect<'v>(value: &'v Value, path: String, found: &mut BTreeMap<String, &'v Value>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                collect(member, format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(items) => {
            for item in items {
                if let Some(key) = item.get("mountPath").or_else(|| item.get("name")).and_then(Value::as_str) {
                    collect(item, format!("{path}[{key}]"), found);
                }
            }
        }
        leaf => _ = found.insert(path, leaf),
    }
}
