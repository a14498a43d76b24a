//! Finds environments of equal priority that set a field to different values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::snapshot::{Environment, Match};

/// Returns a field that both set to different values, if a pod can match both with equal priority.
pub(crate) fn conflicting_path(one: &Environment, other: &Environment) -> Option<String> {
    if one.priority != other.priority || !may_match_same_pod(&one.matches, &other.matches) {
        return None;
    }
    let (ours, theirs) = (leaves(one), leaves(other));
    ours.into_iter().find(|(path, value)| theirs.get(path).is_some_and(|their| their != value)).map(|(path, _)| path)
}

/// Returns true if a pod can match both. One without a `match` applies to pods that name it, and a pod names one.
fn may_match_same_pod(one: &Match, other: &Match) -> bool {
    let namespaces = one.namespaces.is_empty()
        || other.namespaces.is_empty()
        || one.namespaces.iter().any(|namespace| other.namespaces.contains(namespace));
    let agrees = |(key, value): (&String, &String)| other.pod_labels.get(key).is_none_or(|other| other == value);
    !one.is_empty() && !other.is_empty() && namespaces && one.pod_labels.iter().all(agrees)
}

fn leaves(environment: &Environment) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    for layer in &environment.spec.layers {
        collect(&layer.fragment, String::new(), &mut found);
    }
    found
}

/// Collects scalars by their path. Elements of keyed lists have the key in the path; other lists never conflict.
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
