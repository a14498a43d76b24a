//! What is worth knowing of a layer, and not wrong.

use std::collections::BTreeSet;

use bumpalo::Bump;
use serde_json::Value;

use super::report::Finding;
use crate::config::Position;
use crate::json::Json;
use crate::snapshot::{Conflict, Graft, Layer, Snapshot};
use crate::yaml;

/// Booleans of a pod's and a container's security; in a `PodTemplate` of Flyte's, `true` beats the pod's `false`.
const SECURITY: &[&str] = &[
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsNonRoot",
];

/// Paths that are named in one sentence; the rest is counted.
const NAMED: usize = 3;

/// Of all layers, in the order of the configuration.
pub(super) fn of_layers(snapshot: &Snapshot) -> Vec<Finding> {
    let base = snapshot.base.iter().filter_map(|unit| unit.good.as_deref());
    let environments = snapshot.environments.iter().filter_map(|unit| unit.good.as_deref());
    let queues = super::report::queues(snapshot).filter_map(|unit| unit.good.as_deref());
    let grafts: Vec<&Graft> =
        base.chain(environments.map(|one| &one.graft)).chain(queues.map(|one| &one.graft)).collect();
    grafts.iter().flat_map(|graft| &graft.layers).flat_map(of_layer).collect()
}

fn of_layer(layer: &Layer) -> Vec<Finding> {
    let arena = Bump::new();
    let lines = yaml::lines(Json::lift(&layer.fragment, &arena), &arena);
    let paths: BTreeSet<&str> = lines.iter().filter(|line| !line.text.ends_with(':')).map(|line| &*line.path).collect();
    let at = Position { line: layer.line, column: 0 };
    let finding = |message| Finding::new(&layer.file, at, &layer.source.to_string(), message);
    let mut findings = Vec::new();
    let replacing = || paths.iter().copied().filter(|path| can_replace(path)).collect::<Vec<_>>();
    if layer.conflict == Conflict::Override && !replacing().is_empty() {
        findings.push(finding(format!(
            "overrides {}: a second `kubectl apply` of a manifest that sets it otherwise fails (422)",
            shortened(&replacing())
        )));
    }
    if layer.fragment.pointer("/spec/tolerations").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        findings.push(finding(
            "adds a toleration: a second `kubectl apply` of a manifest that sets any toleration fails (422)".to_owned(),
        ));
    }
    let is_security = |path: &&str| SECURITY.iter().any(|key| path.ends_with(&format!(".{key}")));
    let security: Vec<&str> = paths.iter().copied().filter(is_security).collect();
    if layer.conflict == Conflict::Keep && !security.is_empty() {
        findings.push(finding(format!(
            "{} is only a default: a pod that sets it keeps its own; with `conflict: Override` the layer wins",
            shortened(&security)
        )));
    }
    findings
}

/// Whether a manifest could set the field otherwise, and no update of a pod may change it. Labels and annotations may be
/// changed; what only identifies an element of a list is the same on both sides.
fn can_replace(path: &str) -> bool {
    let identifies = path.ends_with("].name") || path.ends_with("].mountPath") || path.ends_with("].key");
    path.starts_with("spec.") && !path.starts_with("spec.tolerations") && !identifies
}

/// The first paths, and how many more there are.
pub(super) fn shortened(paths: &[&str]) -> String {
    let named = paths.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
