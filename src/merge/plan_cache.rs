//! Caches merged layers: consecutive layers of one rule, merged once for all pods that get them.
//!
//! The cost of a request grows with its layers, and the pods of one queue get the same ones each time. Applying merged
//! layers gives the same pod as applying them one by one, as the conflict rule is judged against the submitted pod. A
//! layer for which that is not certain stays separate ([`is_plain`], and any that removes something of an earlier one);
//! [`MergedRun::order_matters`] marks the case that depends on the pod. `render`, `explain` and a denial need to know
//! the layer of each change: they apply layers one by one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::OnceLock;

use bumpalo::Bump;
use serde_json::Value;

use super::{MergeRule, Merger};
use crate::json::{Json, OwnedJson};
use crate::k8s::labels::PRIMARY;
use crate::k8s::managed_fields::ManagedFields;
use crate::merge::layer::{Conflict, Layer};

/// Number of cached plans (a plan of ten layers takes about 10 KB); the layers of further plans are applied one by one.
const CACHE_SLOTS: usize = 512;

/// The merged layers of a snapshot's plans, each made for the first pod that gets it. Lock-free.
#[derive(Debug, Default)]
pub struct PlanCache {
    slots: OnceLock<Box<[OnceLock<Box<MergedPlan>>]>>,
}

impl PlanCache {
    /// Returns the merged form of these layers, given in the order of application; `None` if the cache is full. The
    /// layers belong to this cache's snapshot and are identified by their addresses.
    pub fn get(&self, layers: &[&Layer]) -> Option<&MergedPlan> {
        let slots = self.slots.get_or_init(|| (0..CACHE_SLOTS).map(|_| OnceLock::new()).collect());
        let addresses = || layers.iter().map(|layer| std::ptr::from_ref(*layer).addr());
        let mut hasher = DefaultHasher::new();
        addresses().for_each(|address| address.hash(&mut hasher));
        // The remainder is below CACHE_SLOTS.
        let first = usize::try_from(hasher.finish() % (CACHE_SLOTS as u64)).unwrap_or_default();
        let candidates = (first..first + 4).map(|slot| &slots[slot % CACHE_SLOTS]);
        for slot in candidates {
            let merged = slot.get_or_init(|| Box::new(MergedPlan::new(layers, addresses().collect())));
            if merged.addresses.iter().copied().eq(addresses()) {
                return Some(merged);
            }
        }
        None
    }
}

/// A plan's layers, merged where possible.
#[derive(Debug)]
pub struct MergedPlan {
    addresses: Vec<usize>,
    /// the plan's layers, in order
    pub runs: Vec<MergedRun>,
    /// the names of the layers' units, for the annotation
    pub names: String,
}

/// Consecutive layers that are applied at once.
#[derive(Debug)]
pub struct MergedRun {
    /// their indexes in the plan
    pub layers: Range<usize>,
    /// their merged fragment; `None` for a single layer
    pub fragment: Option<OwnedJson>,
    /// true if two of them set different values at one path. If the pod's value equals the last one in another spelling
    /// (`1` and `1000m`), applying them one by one would still replace it.
    pub order_matters: bool,
}

impl MergedPlan {
    fn new(layers: &[&Layer], addresses: Vec<usize>) -> Self {
        let mut runs: Vec<MergedRun> = Vec::new();
        while let Some(rest) = layers.get(runs.last().map_or(0, |run| run.layers.end)..).filter(|rest| !rest.is_empty())
        {
            let start = layers.len() - rest.len();
            let (length, fragment, order_matters) = merge_run(rest);
            runs.push(MergedRun { layers: start..start + length, fragment, order_matters });
        }
        Self { addresses, runs, names: names(layers) }
    }
}

/// Returns the names of these layers' units, each once.
pub fn names(layers: &[&Layer]) -> String {
    let mut units: Vec<String> = layers.iter().map(|layer| layer.source.to_string()).collect();
    units.dedup();
    units.join(", ")
}

/// Merges as many of these layers as possible. Returns their number, the fragment, and `order_matters`.
fn merge_run(layers: &[&Layer]) -> (usize, Option<OwnedJson>, bool) {
    let [first, rest @ ..] = layers else { return (0, None, false) };
    let can_join = |next: &&&Layer| {
        next.conflict == first.conflict && next.explicit == first.explicit && [first, **next].into_iter().all(is_plain)
    };
    let arena = Bump::new();
    let managed_fields = ManagedFields::from_pod(Json::Null, &arena);
    let mut merger = Merger::new(Json::Null, &managed_fields, Some(PRIMARY), &arena);
    let rule = MergeRule { conflict: Conflict::Override, keeps_env: false, may_remove: false, alias: true };
    let mut sum = Json::borrowed(&first.fragment, &arena);
    let mut length = 1;
    for next in rest.iter().take_while(can_join) {
        match merger.apply(sum, Json::borrowed(&next.fragment, &arena), rule) {
            Ok(both) if merger.removed.is_empty() => sum = both,
            _ => break,
        }
        length += 1;
    }
    let fragment = (length > 1).then(|| OwnedJson::from_json(sum));
    (length, fragment, merger.stats.replaced)
}

/// Returns true if a layer only adds and sets values: nothing depends on the pod (placeholders, containers that may be
/// the primary one or become sidecars), on removals, or on the order (init containers, required terms).
fn is_plain(layer: &Layer) -> bool {
    let pointer = |path: &str| layer.fragment.pointer(path);
    let containers = pointer("/spec/containers").and_then(Value::as_array);
    layer.conflict != Conflict::Deny
        && !layer.placeholders
        && !layer.unknown
        && containers.is_none_or(|all| all.iter().all(|container| container["name"] == PRIMARY))
        && pointer("/spec/initContainers").is_none()
        && pointer("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution").is_none()
        && only_sets(&layer.fragment)
}

/// Returns true if a value has no `null` and no directive.
fn only_sets(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => items.iter().all(only_sets),
        Value::Object(members) => members.iter().all(|(key, member)| !key.starts_with('$') && only_sets(member)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
