//! Parts of snapshots and reviews that several test modules use.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::placeholder;
use crate::model::snapshot::{Match, Queue, Snapshot, Unit, UnitSpec};
use crate::model::system::{System, SystemKind};

/// Returns a layer of `podgraft.yaml`, line 1.
pub(crate) fn layer(source: Source, conflict: Conflict, fragment: Value) -> Layer {
    Layer {
        source,
        file: "podgraft.yaml".into(),
        line: 1,
        file_mounts: None,
        conflict,
        explicit: false,
        placeholders: placeholder::has_placeholder(&fragment),
        unknown: false,
        fragment,
    }
}

/// Returns a valid unit.
pub(crate) fn unit<T>(source: Source, value: T) -> Unit<T> {
    Unit { source, last_valid: Some(Arc::new(value)), error: None, claimed_match: None }
}

/// Returns a queue that matches every pod.
pub(crate) fn queue(name: &str, base: Option<Layer>, layers: Vec<Layer>) -> Queue {
    Queue {
        name: name.to_owned(),
        id: None,
        system: None,
        matches: Match::default(),
        base,
        spec: UnitSpec { layers, modules: Vec::new() },
    }
}

/// Returns a snapshot with the systems `clearml` and `own` (generic), and a base of `layers`.
pub(crate) fn snapshot(layers: Vec<Layer>) -> Snapshot {
    let system = |name: &str, kind, prefix: &str| System {
        name: name.to_owned(),
        kind,
        namespaces: Vec::new(),
        pod_name_prefix: prefix.to_owned(),
        submitters: Vec::new(),
    };
    Snapshot {
        systems: vec![system("clearml", SystemKind::ClearML, "clearml-id-"), system("own", SystemKind::Generic, "")],
        base: Some(unit(Source::Base, UnitSpec { layers, modules: Vec::new() })),
        ..Snapshot::default()
    }
}

/// Returns the review of a pod's creation.
pub(crate) fn review(pod: &Value, namespace: &str, user: &str) -> Vec<u8> {
    let request = json!({"uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": namespace, "userInfo": {"username": user}, "object": pod});
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
    review.to_string().into_bytes()
}
