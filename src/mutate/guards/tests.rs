//! Protected fields one by one: added, changed and removed, with every removal allowed.

use bumpalo::Bump;
use serde_json::{Value, json};

use super::*;
use crate::k8s::patch::diff;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::mutate::fixtures::{review, snapshot};

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

/// Returns the reason why the change from `before` to `after` is denied, if it is.
fn denial(before: &Value, after: &Value, controlled: bool) -> Option<&'static str> {
    let (body, arena, snapshot) = (review(before, "", ""), Bump::new(), snapshot(Vec::new()));
    let review = Review::parse(&body, &arena).unwrap();
    let task = Task::from_pod(&Pod::from_review(&review), &review, &snapshot).unwrap().unwrap();
    let operations = diff(Json::borrowed(before, &arena), Json::borrowed(after, &arena), &arena);
    assert!(!operations.is_empty(), "nothing was changed");
    let removable = ["metadata", "spec", "status"].map(str::to_owned);
    check(operations, &task, controlled, &removable).err().map(|(_, reason)| reason)
}

/// Returns pods before and after each kind of change at `parent`/`key`: replaced, added and removed.
fn changes_of(pod: &Value, parent: &str, key: &str, other: Value) -> Vec<(Value, Value)> {
    let mut changed = pod.clone();
    changed.pointer_mut(parent).unwrap()[key] = other;
    let mut without = pod.clone();
    without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
    let removal = (without != *pod).then(|| (pod.clone(), without.clone()));
    [(pod.clone(), changed.clone()), (without, changed)].into_iter().chain(removal).collect()
}

fn assert_protected(parent: &str, key: &str, other: Value) {
    for (before, after) in changes_of(&pod(), parent, key, other) {
        // Without this label the pod may belong to another system or to none.
        if before.pointer("/metadata/labels/CLEARML").is_some() {
            assert!(denial(&before, &after, false).is_some(), "{parent}/{key}: {after}");
        }
    }
}

#[test]
fn image_command_and_args_of_the_primary_container_are_protected() {
    for (key, other) in [("image", json!("evil")), ("command", json!(["sh"])), ("args", json!(["-c", "x"]))] {
        assert_protected("/spec/containers/0", key, other);
    }
}

#[test]
fn the_primary_containers_name_is_protected() {
    let mut renamed = pod();
    renamed["spec"]["containers"][0]["name"] = json!("other");
    assert_eq!(denial(&pod(), &renamed, false), Some("it is the task itself"));
    let mut removed = pod();
    removed["spec"]["containers"].as_array_mut().unwrap().remove(0);
    assert_eq!(denial(&pod(), &removed, false), Some("it is the task itself"));
}

#[test]
fn another_containers_image_command_and_args_may_be_changed() {
    for (key, other) in [("image", json!("nginx:2")), ("command", json!(["sh"])), ("args", json!(["z"]))] {
        for (before, after) in changes_of(&pod(), "/spec/containers/1", key, other) {
            assert_eq!(denial(&before, &after, false), None, "{key}");
        }
    }
}

#[test]
fn identity_labels_of_the_task_system_are_protected() {
    for label in pod()["metadata"]["labels"].as_object().unwrap().keys().filter(|label| *label != "app") {
        assert_protected("/metadata/labels", label, json!("other"));
    }
    let generic = |label: &str| {
        let before = json!({"metadata": {"labels": {label: "a"}}, "spec": {"containers": [{"name": "c"}]}});
        let mut after = before.clone();
        after["metadata"]["labels"][label] = json!("b");
        denial(&before, &after, false)
    };
    assert_eq!(generic("podgraft.io/queue"), Some("it is the task's identity"));
    assert_eq!(generic("podgraft.io/environment"), Some("it is the task's identity"));
}

#[test]
fn identity_env_of_the_task_system_is_protected() {
    for index in 0..3 {
        let mut changed = pod();
        changed["spec"]["containers"][0]["env"][index]["value"] = json!("other");
        assert_eq!(denial(&pod(), &changed, false), Some("it is the task's identity"), "{index}");
        let mut without = pod();
        without["spec"]["containers"][0]["env"].as_array_mut().unwrap().remove(index);
        assert_eq!(denial(&pod(), &without, false), Some("it is the task's identity"), "{index}");
        assert_eq!(denial(&without, &pod(), false), Some("it is the task's identity"), "{index}");
    }
    let mut own = pod();
    own["spec"]["containers"][0]["env"][3]["value"] = json!("other");
    assert_eq!(denial(&pod(), &own, false), None);
}

#[test]
fn existing_labels_of_a_controllers_pod_are_protected() {
    let mut changed = pod();
    changed["metadata"]["labels"]["app"] = json!("other");
    let mut without = pod();
    without["metadata"]["labels"].as_object_mut().unwrap().remove("app");
    for after in [&changed, &without] {
        assert_eq!(denial(&pod(), after, true), Some("a controller may select the pod by it"));
        assert_eq!(denial(&pod(), after, false), None, "no controller selects this pod");
    }
    assert_eq!(denial(&without, &pod(), true), None, "a new label");
}

#[test]
fn metadata_of_the_creator_and_the_api_server_is_protected() {
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
        assert_protected("/metadata", key, other);
    }
}

#[test]
fn status_is_protected() {
    assert_protected("", "status", json!({"phase": "Running"}));
    assert_protected("/status", "phase", json!("Running"));
}

#[test]
fn the_node_name_is_protected() {
    assert_protected("/spec", "nodeName", json!("n2"));
}

#[test]
fn scheduling_gates_are_protected() {
    assert_protected("/spec", "schedulingGates", json!([{"name": "another"}]));
    let mut more = pod();
    more["spec"]["schedulingGates"].as_array_mut().unwrap().push(json!({"name": "another"}));
    assert!(denial(&pod(), &more, false).is_some());
}

#[test]
fn ephemeral_containers_are_protected() {
    assert_protected("/spec", "ephemeralContainers", json!([{"name": "f"}]));
    assert_protected("/spec/ephemeralContainers/0", "image", json!("evil"));
}

#[test]
fn only_a_repaired_queue_label_may_change_the_identity() {
    let labelled = |label: &str| {
        let mut pod = pod();
        pod["metadata"]["labels"]["clearml-agent-queue-name"] = json!(label);
        pod
    };
    assert_eq!(denial(&labelled("größe"), &labelled("gr-e"), false), None);
    assert_eq!(denial(&labelled("größe"), &labelled("gpu"), false), Some("it is the task's identity"));
    assert_eq!(denial(&labelled("gpu"), &labelled("gpu-1"), false), Some("it is the task's identity"));
}
