//! What layers change, take away and may not touch.

use super::*;
use crate::merge::layer::Source;

#[test]
fn what_is_others_may_not_be_changed() {
    let cases = [
        (
            json!({"spec": {"nodeName": "n1"}}),
            "module/hook: spec.nodeName may not be changed: it is the scheduler's or another controller's",
        ),
        (
            json!({"spec": {"schedulingGates": [{"name": "x"}]}}),
            "module/hook: spec.schedulingGates may not be changed: it is the scheduler's or another controller's",
        ),
        (
            json!({"metadata": {"finalizers": ["x/y"]}}),
            "module/hook: metadata.finalizers may not be changed: it is the API server's or the creator's",
        ),
        (json!({"status": {"phase": "Failed"}}), "module/hook: status may not be changed: it is the API server's"),
        (
            json!({"spec": {"containers": [{"name": "primary", "env": [{"name": "CLEARML_WORKER_ID", "value": "w:x"}]}]}}),
            "module/hook: spec.containers[clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60].env[CLEARML_WORKER_ID].value may not be changed: it is the task's identity",
        ),
        (
            json!({"metadata": {"labels": {"clearml-task-id": "x"}}}),
            "module/hook: metadata.labels.clearml-task-id may not be changed: it is the task's identity",
        ),
        (json!({"spec": {"containers": [{"name": "sidecar", "image": "x"}]}}), "done"),
    ];
    for (fragment, expected) in cases {
        assert_eq!(said_of(&pod(), &fragment), expected, "{fragment}");
    }
}

#[test]
fn a_label_that_a_controller_may_select_by_stays() {
    let mut owned = pod();
    owned["metadata"]["labels"]["app"] = json!("train");
    let change = json!({"metadata": {"labels": {"app": "other"}}});
    assert_eq!(said_of(&owned, &change), "done", "nobody selects a bare pod");
    owned["metadata"]["ownerReferences"] =
        json!([{"kind": "ReplicaSet", "name": "rs", "controller": true, "uid": "1"}]);
    assert_eq!(
        said_of(&owned, &change),
        "module/hook: metadata.labels.app may not be changed: a controller may select the pod by it"
    );
    assert_eq!(said_of(&owned, &json!({"metadata": {"labels": {"new": "1"}}})), "done");
}

#[test]
fn labels_and_containers_cannot_be_taken_away_as_a_whole() {
    let taking = |change: fn(&mut Value)| {
        let mut hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            change(&mut template);
            Ok(Returned::Template(template.to_string()))
        });
        hook.may_remove = true;
        denial(&pod(), &snapshot(json!({}), vec![hook]))
    };
    let labels = taking(|pod| drop(pod["metadata"].as_object_mut().unwrap().remove("labels")));
    assert_eq!(labels, "422 Protected module/hook: metadata.labels may not be changed: it holds the task's identity");
    let containers = taking(|pod| pod["spec"]["containers"] = json!([]));
    assert!(containers.ends_with("may not be changed: it is the task itself"), "{containers}");
    let list = taking(|pod| drop(pod["spec"].as_object_mut().unwrap().remove("containers")));
    assert_eq!(list, "422 Protected module/hook: spec.containers may not be changed: it holds the task itself");
}

/// The queue's layer under `Deny`.
fn denying(fragment: Value) -> Snapshot {
    let mut snapshot = snapshot(json!({}), vec![]);
    let deny = Layer { line: 12, ..layer(Source::Queue("GPU".to_owned()), Conflict::Deny, fragment) };
    let mut queue = queue_of(&snapshot);
    queue.graft.layers = vec![deny];
    snapshot.queues.by_name.insert("gpu".to_owned(), unit(Source::Queue("GPU".to_owned()), queue));
    snapshot
}

#[test]
fn a_layer_that_denies_refuses_a_pod_with_another_value_and_does_not_say_it() {
    let fragment = json!({"spec": {"containers": [{"name": "primary", "env": [{"name": "OWN", "value": "another"}]}]}});
    let answer = answered_to(&pod(), &denying(fragment));
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    let path = format!("spec.containers[clearml-id-{ID}].env[OWN]");
    let message = format!(
        "queue/GPU (podgraft.yaml:12) wants another value for {path} than is there, and its conflict rule is Deny"
    );
    assert_eq!(
        (&reply["response"]["status"]["code"], &reply["response"]["status"]["reason"]),
        (&json!(422), &json!("Conflict"))
    );
    assert_eq!(reply["response"]["status"]["message"], json!(message));
    assert!(!answer.body.windows(11).any(|bytes| bytes == b"plain-value"), "the pod's value is nobody's to read");
}

#[test]
fn a_layer_that_denies_adds_where_the_pod_says_nothing_and_comes_last() {
    let snapshot = denying(json!({"metadata": {"labels": {"base": "denied", "new": "1"}}}));
    let once = applied(&pod(), &answered_to(&pod(), &snapshot));
    assert_eq!(
        (&once["metadata"]["labels"]["base"], &once["metadata"]["labels"]["new"]),
        (&json!("denied"), &json!("1"))
    );
    assert_eq!(applied(&once, &answered_to(&once, &snapshot)), once, "the second time");
}

#[test]
fn a_layers_toleration_takes_the_place_of_a_plugins() {
    let toleration = |seconds: u32| json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    let mut pod = pod();
    pod["spec"]["tolerations"] = json!([toleration(300)]);
    for layers in [toleration(600), json!({"operator": "Exists"})] {
        let snapshot = snapshot(json!({"spec": {"tolerations": [layers]}}), vec![]);
        assert_eq!(applied(&pod, &answered_to(&pod, &snapshot))["spec"]["tolerations"], json!([layers]));
    }
}

#[test]
fn a_layer_takes_away_what_it_names() {
    let mut pod = pod();
    pod["spec"]["nodeSelector"] = json!({"zone": "a", "disk": "ssd"});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "scratch", "emptyDir": {}}));
    let fragment = json!({"spec": {"nodeSelector": {"$patch": "replace", "zone": "b"}, "volumes": [{"name": "scratch", "$patch": "delete"}]}});
    let result = applied(&pod, &answered_to(&pod, &snapshot(fragment, vec![])));
    assert_eq!(result["spec"]["nodeSelector"], json!({"zone": "b"}));
    assert_eq!(result["spec"]["volumes"], json!([{"name": "kube-api-access-x", "projected": {}}]));
}

#[test]
fn a_directive_in_a_layer_does_not_reach_what_is_the_tasks() {
    let fragment = json!({"spec": {"containers": [{"name": "primary", "command": null}]}});
    let answer = answered_to(&pod(), &snapshot(fragment, vec![]));
    assert_eq!(answer.reason, Some("Protected"));
}

#[test]
fn alternatives_are_demanded_beside_those_of_the_pod_wherever_they_stand() {
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let affinity = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let mut pod = pod();
    pod["spec"]["affinity"] = affinity(json!([term("own"), term("a")]));
    let layer = json!({"spec": {"affinity": affinity(json!([term("a"), term("b")]))}});
    let once = under(&pod, layer.clone());
    let both = |other: &str| json!({"matchExpressions": [{"key": "own", "operator": "Exists"}, {"key": other, "operator": "Exists"}]});
    assert_eq!(once["spec"]["affinity"], affinity(json!([both("a"), both("b"), term("a")])));
    assert_eq!(under(&once, layer), once, "the second time");
}

#[test]
fn another_source_of_a_volume_or_a_variable_takes_the_place_of_the_old_one() {
    let mut pod = pod();
    let from = |source: Value| json!({"name": "A", "valueFrom": source});
    pod["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .push(from(json!({"configMapKeyRef": {"name": "c", "key": "k"}})));
    let volume = |name: &str, source: Value| {
        let mut volume = source;
        volume["name"] = json!(name);
        volume
    };
    pod["spec"]["volumes"] = json!([
        volume("scratch", json!({"emptyDir": {"medium": "Memory"}})),
        volume("data", json!({"persistentVolumeClaim": {"claimName": "old", "readOnly": true}})),
        volume("files", json!({"configMap": {"name": "old", "items": [{"key": "k", "path": "p"}]}})),
    ]);
    let volumes = json!([
        volume("scratch", json!({"emptyDir": {}})),
        volume("data", json!({"persistentVolumeClaim": {"claimName": "new"}})),
        volume("files", json!({"configMap": {"name": "new"}})),
    ]);
    let entry = from(json!({"fieldRef": {"fieldPath": "metadata.name"}}));
    let layer = json!({"spec": {"volumes": volumes, "containers": [{"name": "primary", "env": [entry]}]}});
    let mut snapshot = snapshot(layer, vec![]);
    let mut queue = queue_of(&snapshot);
    queue.graft.layers[0].explicit = true;
    snapshot.queues.by_name.insert("gpu".to_owned(), unit(Source::Queue("GPU".to_owned()), queue));
    let result = applied(&pod, &answered_to(&pod, &snapshot));
    assert_eq!(result["spec"]["volumes"], volumes);
    assert_eq!(result["spec"]["containers"][0]["env"][3], entry);
}
