//! Layers of one rule that follow each other, merged once for all pods that get them.
//!
//! What a request costs grows with its layers, and the pods of one queue get the same ones each time. Laying what
//! several come to gives the same pod as laying one after the other, as the conflict rule is judged against the
//! submitted pod. Where that is not so, or not surely so, a layer stays by itself ([`is_plain`], and whatever takes
//! something of an earlier one away); what only the pod can tell, [`Run::contested`] is for. Who must know which layer
//! did what (`render`, `explain`, a refusal) lays one by one.

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

/// So many plans are remembered (a plan of ten layers takes about 10 KB); pods that get another one have their layers
/// laid one by one.
const CACHE_SLOTS: usize = 512;

/// The merged layers of a snapshot's plans, each made when the first pod gets it. Nobody waits for anybody.
#[derive(Debug, Default)]
pub struct PlanCache {
    slots: OnceLock<Box<[OnceLock<Box<MergedPlan>>]>>,
}

impl PlanCache {
    /// What these layers, in the order in which they are laid, come to; none where there is no room. They are layers of
    /// the snapshot that this belongs to: known by their addresses.
    pub fn get(&self, layers: &[&Layer]) -> Option<&MergedPlan> {
        let slots = self.slots.get_or_init(|| (0..CACHE_SLOTS).map(|_| OnceLock::new()).collect());
        let addresses = || layers.iter().map(|layer| std::ptr::from_ref(*layer).addr());
        let mut hasher = DefaultHasher::new();
        addresses().for_each(|address| address.hash(&mut hasher));
        // The remainder is below REMEMBERED.
        let first = usize::try_from(hasher.finish() % (CACHE_SLOTS as u64)).unwrap_or_default();
        let near = (first..first + 4).map(|slot| &slots[slot % CACHE_SLOTS]);
        for slot in near {
            let merged = slot.get_or_init(|| Box::new(MergedPlan::new(layers, addresses().collect())));
            if merged.addresses.iter().copied().eq(addresses()) {
                return Some(merged);
            }
        }
        None
    }
}

/// A plan's layers, as far as possible in one.
#[derive(Debug)]
pub struct MergedPlan {
    addresses: Vec<usize>,
    /// all of the plan's layers, in order
    pub runs: Vec<MergedRun>,
    /// who they are, as the annotation says it
    pub names: String,
}

/// Layers that are laid at once.
#[derive(Debug)]
pub struct MergedRun {
    /// which of the plan's
    pub layers: Range<usize>,
    /// what they come to; of one by itself nothing
    pub fragment: Option<OwnedJson>,
    /// whether two of them say different things of one path. Where the pod's value there agrees with the last of
    /// them, although written otherwise (`1` and `1000m`), laying one by one would still replace it.
    pub order_matters: bool,
}

impl MergedPlan {
    fn new(layers: &[&Layer], addresses: Vec<usize>) -> Self {
        let mut runs: Vec<MergedRun> = Vec::new();
        while let Some(rest) = layers.get(runs.last().map_or(0, |run| run.layers.end)..).filter(|rest| !rest.is_empty())
        {
            let begin = layers.len() - rest.len();
            let (length, fragment, contested) = merge_run(rest);
            runs.push(MergedRun { layers: begin..begin + length, fragment, order_matters: contested });
        }
        Self { addresses, runs, names: names(layers) }
    }
}

/// Who these layers are, each unit once.
pub fn names(layers: &[&Layer]) -> String {
    let mut units: Vec<String> = layers.iter().map(|layer| layer.source.to_string()).collect();
    units.dedup();
    units.join(", ")
}

/// How many of these layers can be laid at once, what they come to, and whether that is contested.
fn merge_run(layers: &[&Layer]) -> (usize, Option<OwnedJson>, bool) {
    let [first, rest @ ..] = layers else { return (0, None, false) };
    let alike = |next: &&&Layer| {
        next.conflict == first.conflict && next.explicit == first.explicit && [first, **next].into_iter().all(is_plain)
    };
    let arena = Bump::new();
    let owners = ManagedFields::from_pod(Json::Null, &arena);
    let mut merger = Merger::new(Json::Null, &owners, Some(PRIMARY), &arena);
    let rule = MergeRule { conflict: Conflict::Override, keeps_env: false, may_remove: false, alias: true };
    let mut sum = Json::borrowed(&first.fragment, &arena);
    let mut length = 1;
    for next in rest.iter().take_while(alike) {
        match merger.apply(sum, Json::borrowed(&next.fragment, &arena), rule) {
            Ok(both) if merger.removed.is_empty() => sum = both,
            _ => break,
        }
        length += 1;
    }
    let fragment = (length > 1).then(|| OwnedJson::from_json(sum));
    (length, fragment, merger.stats.replaced)
}

/// Whether a layer adds and sets, and no more: nothing that depends on the pod (placeholders, containers that may be
/// the primary's or become sidecars), on what is taken away, or on the order (init containers, required terms).
fn is_plain(layer: &Layer) -> bool {
    let spec = |path: &str| layer.fragment.pointer(path);
    let containers = spec("/spec/containers").and_then(Value::as_array);
    layer.conflict != Conflict::Deny
        && !layer.placeholders
        && !layer.unknown
        && containers.is_none_or(|all| all.iter().all(|container| container["name"] == PRIMARY))
        && spec("/spec/initContainers").is_none()
        && spec("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution").is_none()
        && only_sets(&layer.fragment)
}

/// No `null` and no directive.
fn only_sets(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => items.iter().all(only_sets),
        Value::Object(members) => members.iter().all(|(key, member)| !key.starts_with('$') && only_sets(member)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
