//! Changes and removals by layers, and the protected fields.

use super::*;

#[test]
fn a_protected_field_cannot_be_changed() {
    let cases = [
        (
            json!({"spec": {"nodeName": "n1"}}),
            "module/hook: spec.nodeName may not be changed: it belongs to the scheduler or another controller",
        ),
        (
            json!({"spec": {"schedulingGates": [{"name": "x"}]}}),
            "module/hook: spec.schedulingGates may not be changed: it belongs to the scheduler or another controller",
        ),
        (
            json!({"metadata": {"finalizers": ["x/y"]}}),
            "module/hook: metadata.finalizers may not be changed: it belongs to the API server or the creator",
        ),
        (
            json!({"status": {"phase": "Failed"}}),
            "module/hook: status may not be changed: it belongs to the API server",
        ),
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
        assert_eq!(message_for(&pod(), &fragment), expected, "{fragment}");
    }
}

#[test]
fn a_controllers_selector_label_cannot_be_changed() {
    let mut owned = pod();
    owned["metadata"]["labels"]["app"] = json!("train");
    let change = json!({"metadata": {"labels": {"app": "other"}}});
    assert_eq!(message_for(&owned, &change), "done", "no controller selects this pod");
    owned["metadata"]["ownerReferences"] =
        json!([{"kind": "ReplicaSet", "name": "rs", "controller": true, "uid": "1"}]);
    assert_eq!(
        message_for(&owned, &change),
        "module/hook: metadata.labels.app may not be changed: a controller may select the pod by it"
    );
    assert_eq!(message_for(&owned, &json!({"metadata": {"labels": {"new": "1"}}})), "done");
}

#[test]
fn labels_and_containers_cannot_be_removed_as_a_whole() {
    let denial_of = |change: fn(&mut Value)| {
        let mut hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            change(&mut template);
            Ok(HookOutput::Template(template.to_string()))
        });
        hook.may_remove = true;
        denial(&pod(), &snapshot(json!({}), vec![hook]))
    };
    let labels = denial_of(|pod| drop(pod["metadata"].as_object_mut().unwrap().remove("labels")));
    assert_eq!(labels, "422 Protected module/hook: metadata.labels may not be changed: it holds the task's identity");
    let containers = denial_of(|pod| pod["spec"]["containers"] = json!([]));
    assert!(containers.ends_with("may not be changed: it is the task itself"), "{containers}");
    let list = denial_of(|pod| drop(pod["spec"].as_object_mut().unwrap().remove("containers")));
    assert_eq!(list, "422 Protected module/hook: spec.containers may not be changed: it holds the task itself");
}

/// Returns a snapshot whose queue has one layer with the rule `Deny`.
fn denying(fragment: Value) -> Snapshot {
    let mut snapshot = snapshot(json!({}), vec![]);
    let deny = Layer { line: 12, ..layer(Source::Queue("GPU".to_owned()), Conflict::Deny, fragment) };
    set_queue_layers(&mut snapshot, vec![deny]);
    snapshot
}

#[test]
fn a_deny_layer_denies_another_value_without_quoting_it() {
    let fragment = json!({"spec": {"containers": [{"name": "primary", "env": [{"name": "OWN", "value": "another"}]}]}});
    let answer = answer_for(&pod(), &denying(fragment));
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    let path = format!("spec.containers[clearml-id-{ID}].env[OWN]");
    let message = format!(
        "queue/GPU (podgraft.yaml:12) sets another value for {path} than the pod has, and its conflict rule is Deny"
    );
    assert_eq!(
        (&reply["response"]["status"]["code"], &reply["response"]["status"]["reason"]),
        (&json!(422), &json!("Conflict"))
    );
    assert_eq!(reply["response"]["status"]["message"], json!(message));
    assert!(!answer.body.windows(11).any(|bytes| bytes == b"plain-value"), "the message does not show the pod's value");
}

#[test]
fn a_deny_layer_adds_missing_values_and_is_applied_last() {
    let snapshot = denying(json!({"metadata": {"labels": {"base": "denied", "new": "1"}}}));
    let once = patched(&pod(), &answer_for(&pod(), &snapshot));
    assert_eq!(
        (&once["metadata"]["labels"]["base"], &once["metadata"]["labels"]["new"]),
        (&json!("denied"), &json!("1"))
    );
    assert_eq!(patched(&once, &answer_for(&once, &snapshot)), once, "the second time");
}

#[test]
fn a_layers_toleration_replaces_a_plugins() {
    let toleration = |seconds: u32| json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    let mut pod = pod();
    pod["spec"]["tolerations"] = json!([toleration(300)]);
    for layers in [toleration(600), json!({"operator": "Exists"})] {
        let snapshot = snapshot(json!({"spec": {"tolerations": [layers]}}), vec![]);
        assert_eq!(patched(&pod, &answer_for(&pod, &snapshot))["spec"]["tolerations"], json!([layers]));
    }
}

#[test]
fn a_layer_removes_what_its_directives_name() {
    let mut pod = pod();
    pod["spec"]["nodeSelector"] = json!({"zone": "a", "disk": "ssd"});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "scratch", "emptyDir": {}}));
    let fragment = json!({"spec": {"nodeSelector": {"$patch": "replace", "zone": "b"}, "volumes": [{"name": "scratch", "$patch": "delete"}]}});
    let result = patched(&pod, &answer_for(&pod, &snapshot(fragment, vec![])));
    assert_eq!(result["spec"]["nodeSelector"], json!({"zone": "b"}));
    assert_eq!(result["spec"]["volumes"], json!([{"name": "kube-api-access-x", "projected": {}}]));
}

#[test]
fn a_directive_cannot_remove_the_tasks_command() {
    let fragment = json!({"spec": {"containers": [{"name": "primary", "command": null}]}});
    let answer = answer_for(&pod(), &snapshot(fragment, vec![]));
    assert_eq!(answer.reason, Some("Protected"));
}

#[test]
fn node_selector_terms_are_required_in_addition_to_the_pods() {
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let affinity = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let mut pod = pod();
    pod["spec"]["affinity"] = affinity(json!([term("own"), term("a")]));
    let layer = json!({"spec": {"affinity": affinity(json!([term("a"), term("b")]))}});
    let once = with_layer(&pod, layer.clone());
    let combined = |other: &str| json!({"matchExpressions": [{"key": "own", "operator": "Exists"}, {"key": other, "operator": "Exists"}]});
    assert_eq!(once["spec"]["affinity"], affinity(json!([combined("a"), combined("b"), term("a")])));
    assert_eq!(with_layer(&once, layer), once, "the second time");
}

#[test]
fn a_new_source_of_a_volume_or_variable_replaces_the_old_one() {
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
    let fragment = json!({"spec": {"volumes": volumes, "containers": [{"name": "primary", "env": [entry]}]}});
    let layer = fixtures::layer(Source::Queue("GPU".to_owned()), Conflict::Override, fragment);
    let mut snapshot = snapshot(json!({}), vec![]);
    set_queue_layers(&mut snapshot, vec![Layer { explicit: true, ..layer }]);
    let result = patched(&pod, &answer_for(&pod, &snapshot));
    assert_eq!(result["spec"]["volumes"], volumes);
    assert_eq!(result["spec"]["containers"][0]["env"][3], entry);
}
