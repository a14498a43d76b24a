//! "Never touched", item by item: set where it was not, changed and taken away, with leave to remove anything.

use bumpalo::Bump;
use serde_json::{Value, json};

use super::*;
use crate::k8s::patch::diff;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::system::{System, SystemKind};
use crate::mutate::Pod;

fn pod() -> Value {
    json!({
        "metadata": {"name": "clearml-id-1", "generateName": "g-", "namespace": "ml", "ownerReferences": [{"name": "o"}],
            "finalizers": ["f/x"], "managedFields": [{}], "annotations": {"a": "b"},
            "labels": {"CLEARML": "agent-1", "clearml-agent-queue": "id", "clearml-agent-queue-name": "gpu",
                "clearml-task-id": "1", "clearml-parent-task-id": "0", "ai.allegro.agent.serial": "pod-1",
                "ai.clearml.agent.serial": "pod-1", "app": "train"}},
        "spec": {
            "nodeName": "n1", "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}], "ephemeralContainers": [{"name": "e"}],
            "containers": [
                {"name": "clearml-id-1", "image": "python", "command": ["/bin/bash"], "args": ["-c"], "env": [
                    {"name": "CLEARML_WORKER_ID", "value": "w"}, {"name": "CLEARML_TASK_ID", "value": "1"},
                    {"name": "CLEARML_AUTH_TOKEN", "value": "t"}, {"name": "OWN", "value": "x"}]},
                {"name": "side", "image": "nginx", "command": ["x"], "args": ["y"], "env": [{"name": "OWN", "value": "x"}]}]},
        "status": {"phase": "Pending"}
    })
}

/// Why the way from `before` to `after` is refused.
fn refused(before: &Value, after: &Value, owned: bool) -> Option<&'static str> {
    let system = |name: &str, kind| System {
        name: name.to_owned(),
        kind,
        namespaces: Vec::new(),
        pod_name_prefix: "clearml-id-".to_owned(),
        submitters: Vec::new(),
    };
    let systems = vec![system("clearml", SystemKind::ClearML), system("own", SystemKind::Generic)];
    let snapshot = Snapshot { systems, ..Snapshot::default() };
    let request =
        json!({"uid": "u", "kind": {"version": "v1", "kind": "Pod"}, "operation": "CREATE", "object": before});
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string();
    let arena = Bump::new();
    let review = Review::parse(body.as_bytes(), &arena).unwrap();
    let task = Task::from_pod(&Pod::from_review(&review), &review, &snapshot).unwrap().unwrap();
    let operations = diff(Json::borrowed(before, &arena), Json::borrowed(after, &arena), &arena);
    assert!(!operations.is_empty(), "nothing was changed");
    let removable = ["metadata", "spec", "status"].map(str::to_owned);
    check(operations, &task, owned, &removable).err().map(|(_, whose)| whose)
}

/// Every way to touch what stands at `parent`/`key`.
fn touched(pod: &Value, parent: &str, key: &str, other: Value) -> Vec<(Value, Value)> {
    let mut changed = pod.clone();
    changed.pointer_mut(parent).unwrap()[key] = other;
    let mut without = pod.clone();
    without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
    let removal = (without != *pod).then(|| (pod.clone(), without.clone()));
    [(pod.clone(), changed.clone()), (without, changed)].into_iter().chain(removal).collect()
}

fn is_never_touched(parent: &str, key: &str, other: Value) {
    for (before, after) in touched(&pod(), parent, key, other) {
        // Without its label it may be another system's pod, or none: only that it was is of interest.
        if before.pointer("/metadata/labels/CLEARML").is_some() {
            assert!(refused(&before, &after, false).is_some(), "{parent}/{key}: {after}");
        }
    }
}

#[test]
fn image_command_and_args_of_the_primary_container_are_never_touched() {
    for (key, other) in [("image", json!("evil")), ("command", json!(["sh"])), ("args", json!(["-c", "x"]))] {
        is_never_touched("/spec/containers/0", key, other);
    }
}

#[test]
fn the_primary_containers_name_is_never_touched() {
    let mut renamed = pod();
    renamed["spec"]["containers"][0]["name"] = json!("other");
    assert_eq!(refused(&pod(), &renamed, false), Some("it is the task itself"));
    let mut gone = pod();
    gone["spec"]["containers"].as_array_mut().unwrap().remove(0);
    assert_eq!(refused(&pod(), &gone, false), Some("it is the task itself"));
}

#[test]
fn another_containers_image_command_and_args_may_be_changed() {
    for (key, other) in [("image", json!("nginx:2")), ("command", json!(["sh"])), ("args", json!(["z"]))] {
        for (before, after) in touched(&pod(), "/spec/containers/1", key, other) {
            assert_eq!(refused(&before, &after, false), None, "{key}");
        }
    }
}

#[test]
fn identity_labels_of_the_task_system_are_never_touched() {
    for label in pod()["metadata"]["labels"].as_object().unwrap().keys().filter(|label| *label != "app") {
        is_never_touched("/metadata/labels", label, json!("other"));
    }
    let generic = |label: &str| {
        let before = json!({"metadata": {"labels": {label: "a"}}, "spec": {"containers": [{"name": "c"}]}});
        let mut after = before.clone();
        after["metadata"]["labels"][label] = json!("b");
        refused(&before, &after, false)
    };
    assert_eq!(generic("podgraft.io/queue"), Some("it is the task's identity"));
    assert_eq!(generic("podgraft.io/environment"), Some("it is the task's identity"));
}

#[test]
fn identity_env_of_the_task_system_is_never_touched() {
    for index in 0..3 {
        let mut changed = pod();
        changed["spec"]["containers"][0]["env"][index]["value"] = json!("other");
        assert_eq!(refused(&pod(), &changed, false), Some("it is the task's identity"), "{index}");
        let mut without = pod();
        without["spec"]["containers"][0]["env"].as_array_mut().unwrap().remove(index);
        assert_eq!(refused(&pod(), &without, false), Some("it is the task's identity"), "{index}");
        assert_eq!(refused(&without, &pod(), false), Some("it is the task's identity"), "{index}");
    }
    let mut own = pod();
    own["spec"]["containers"][0]["env"][3]["value"] = json!("other");
    assert_eq!(refused(&pod(), &own, false), None);
}

#[test]
fn existing_labels_of_a_pod_that_a_controller_owns_are_never_touched() {
    let mut changed = pod();
    changed["metadata"]["labels"]["app"] = json!("other");
    let mut without = pod();
    without["metadata"]["labels"].as_object_mut().unwrap().remove("app");
    for after in [&changed, &without] {
        assert_eq!(refused(&pod(), after, true), Some("a controller may select the pod by it"));
        assert_eq!(refused(&pod(), after, false), None, "nobody selects a bare pod");
    }
    assert_eq!(refused(&without, &pod(), true), None, "a new label");
}

#[test]
fn metadata_of_the_creator_and_the_api_server_is_never_touched() {
    let fields = [
        ("name", json!("other")),
        ("generateName", json!("h-")),
        ("namespace", json!("other")),
        ("ownerReferences", json!([])),
        ("finalizers", json!(["f/x", "g/y"])),
        ("managedFields", json!([])),
        ("uid", json!("1")),
    ];
    for (key, other) in fields {
        is_never_touched("/metadata", key, other);
    }
}

#[test]
fn status_is_never_touched() {
    is_never_touched("", "status", json!({"phase": "Running"}));
    is_never_touched("/status", "phase", json!("Running"));
}

#[test]
fn the_node_name_is_never_touched() {
    is_never_touched("/spec", "nodeName", json!("n2"));
}

#[test]
fn others_scheduling_gates_are_never_touched() {
    is_never_touched("/spec", "schedulingGates", json!([{"name": "another"}]));
    let mut more = pod();
    more["spec"]["schedulingGates"].as_array_mut().unwrap().push(json!({"name": "another"}));
    assert!(refused(&pod(), &more, false).is_some());
}

#[test]
fn ephemeral_containers_are_never_touched() {
    is_never_touched("/spec", "ephemeralContainers", json!([{"name": "f"}]));
    is_never_touched("/spec/ephemeralContainers/0", "image", json!("evil"));
}

#[test]
fn a_repaired_queue_label_is_the_one_change_of_identity_that_passes() {
    let labelled = |label: &str| {
        let mut pod = pod();
        pod["metadata"]["labels"]["clearml-agent-queue-name"] = json!(label);
        pod
    };
    assert_eq!(refused(&labelled("größe"), &labelled("gr-e"), false), None);
    assert_eq!(refused(&labelled("größe"), &labelled("gpu"), false), Some("it is the task's identity"));
    assert_eq!(refused(&labelled("gpu"), &labelled("gpu-1"), false), Some("it is the task's identity"));
}
