//! Merges the entries of `taskConfig` and `providersInfo` that match a pod.

use std::sync::Arc;

use serde_json::Value;

use crate::model::pod::Pod;
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{Queue, Vault};
use crate::model::task::Task;

/// Merges the entries of `taskConfig` or `providersInfo` that match this pod: global < namespace < queue < user; maps
/// merge, lists are replaced.
pub fn vault(entries: &[Vault], task: &Task<'_, '_>, pod: &Pod<'_>, queue: Option<&Queue>) -> Arc<Value> {
    let mut matching: Vec<(u8, &Vault)> =
        entries.iter().filter_map(|entry| Some((rank(entry, task, pod, queue)?, entry))).collect();
    matching.sort_by_key(|(rank, _)| *rank);
    let mut values = matching.into_iter().map(|(_, entry)| &entry.config);
    let Some(first) = values.next() else {
        return Arc::new(Value::Object(serde_json::Map::new()));
    };
    values.fold(Arc::clone(first), |mut all, more| {
        overlay(Arc::make_mut(&mut all), more);
        all
    })
}

/// Returns the rank of an entry that matches this pod: 0 global, 1 namespace, 2 queue, 3 user.
fn rank(entry: &Vault, task: &Task<'_, '_>, pod: &Pod<'_>, queue: Option<&Queue>) -> Option<u8> {
    // the queue's name on the pod, and its name in the configuration
    let names = [task.queue_name, queue.map(|queue| queue.name.as_str())];
    let queue_is = |wanted: &String| {
        task.queue_id == Some(wanted)
            || names.iter().flatten().any(|name| canonical_queue_name(name) == canonical_queue_name(wanted))
    };
    let matches = (entry.namespaces.is_empty() || entry.namespaces.iter().any(|namespace| namespace == pod.namespace))
        && entry.queue.as_ref().is_none_or(queue_is)
        && entry.user.as_ref().is_none_or(|user| task.user == Some(user));
    let rank = if entry.user.is_some() {
        3
    } else if entry.queue.is_some() {
        2
    } else {
        u8::from(!entry.namespaces.is_empty())
    };
    matches.then_some(rank)
}

fn overlay(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(key) {
                    Some(present) => overlay(present, value),
                    None => {
                        under.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}
