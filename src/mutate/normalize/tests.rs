//! Each rule, on pods like those that the API server sends.

use serde_json::{Value, json};

use super::*;
use crate::merge::layer::{Conflict, Source};
use crate::model::hook::Execution;
use crate::model::review::Review;
use crate::mutate::fixtures::{layer, review, snapshot};
use crate::mutate::{LayerMode, MutateError, mutate};

/// Returns a pod with a container `main`, an init container `init` and the values that plugins add. The submitter set
/// the containers and the fields of `spec` that `submitted` names.
fn pod(spec: &Value, submitted: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "p", "labels": {"podgraft.io/queue": "none"}, "managedFields": [{"fieldsV1": {"f:spec": {
            "f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}, "f:imagePullPolicy": {}}},
            "f:initContainers": {"k:{\"name\":\"init\"}": {"f:image": {}, "f:imagePullPolicy": {}}}}}}]},
        "spec": {
            "containers": [{"name": "main", "image": "task", "imagePullPolicy": "Always",
                "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/token"}]}],
            "initContainers": [{"name": "init", "image": "busybox:1.36", "imagePullPolicy": "IfNotPresent",
                "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/token"}]}],
            "volumes": [{"name": "kube-api-access-x", "projected": {}}],
            "serviceAccountName": "default", "serviceAccount": "default", "priority": 0, "preemptionPolicy": "PreemptLowerPriority"
        }
    });
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let fields = pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].as_object_mut().unwrap();
    fields.extend(submitted.as_object().unwrap().clone());
    pod
}

/// Applies the layer's patch with json-patch; a second run must change nothing.
fn apply(pod: &Value, fragment: &Value) -> Result<Value, String> {
    let once = apply_once(pod, fragment)?;
    assert_eq!(apply_once(&once, fragment).as_ref(), Ok(&once), "a second run");
    Ok(once)
}

fn apply_once(pod: &Value, fragment: &Value) -> Result<Value, String> {
    let (body, arena) = (review(pod, "ml", ""), Bump::new());
    let snapshot = snapshot(vec![layer(Source::Base, Conflict::Override, fragment.clone())]);
    let review = Review::parse(&body, &arena).unwrap();
    let mut result = pod.clone();
    match mutate(&review, &snapshot, Execution::Inline, LayerMode::PerLayer, &mut Vec::new(), &arena)
        .map_err(|failure| failure.error)
    {
        Ok(mutation) => {
            let patch = serde_json::to_value(mutation.unwrap().operations).unwrap();
            json_patch::patch(&mut result, &serde_json::from_value::<json_patch::Patch>(patch).unwrap()).unwrap();
            Ok(result)
        }
        Err(MutateError::Denied(denial)) => Err(denial.message),
        Err(MutateError::NeedsPool(_)) => panic!("slow"),
    }
}

fn spec(given: &Value, fragment: &Value) -> Value {
    apply(given, &json!({"spec": fragment})).unwrap()["spec"].clone()
}

#[test]
fn a_new_priority_class_removes_the_old_ones_numbers() {
    let result = spec(&pod(&json!({}), &json!({})), &json!({"priorityClassName": "high"}));
    assert_eq!((result.get("priority"), result.get("preemptionPolicy")), (None, None));
}

#[test]
fn the_same_priority_class_keeps_its_numbers() {
    let given = pod(&json!({"priorityClassName": "high", "priority": 1000}), &json!({}));
    let result = spec(&given, &json!({"priorityClassName": "high"}));
    assert_eq!((&result["priority"], &result["preemptionPolicy"]), (&json!(1000), &json!("PreemptLowerPriority")));
}

#[test]
fn a_new_service_account_removes_the_old_ones_pull_secrets_and_token() {
    let given = pod(&json!({"imagePullSecrets": [{"name": "of-default"}]}), &json!({}));
    let result = spec(&given, &json!({"serviceAccountName": "trainer"}));
    assert_eq!((&result["serviceAccountName"], &result["serviceAccount"]), (&json!("trainer"), &json!("trainer")));
    assert_eq!((&result["imagePullSecrets"], &result["volumes"]), (&json!([]), &json!([])));
    assert_eq!(result["containers"][0]["volumeMounts"], json!([]));
    assert_eq!(result["initContainers"][0]["volumeMounts"], json!([]));
}

#[test]
fn a_new_service_account_keeps_values_of_the_submitter_and_of_layers() {
    let submitted = json!({"f:imagePullSecrets": {"k:{\"name\":\"own\"}": {}},
        "f:volumes": {"k:{\"name\":\"kube-api-access-x\"}": {"f:name": {}}}});
    let given = pod(&json!({"imagePullSecrets": [{"name": "own"}, {"name": "of-default"}]}), &submitted);
    let layer = json!({"serviceAccountName": "trainer", "imagePullSecrets": [{"name": "layers"}]});
    let result = spec(&given, &layer);
    assert_eq!(result["imagePullSecrets"], json!([{"name": "layers"}, {"name": "own"}]));
    assert_eq!(result["volumes"], json!([{"name": "kube-api-access-x", "projected": {}}]));
    let mut unmanaged = given.clone();
    unmanaged["metadata"].as_object_mut().unwrap().remove("managedFields");
    let result = spec(&unmanaged, &json!({"serviceAccountName": "trainer"}));
    assert_eq!(
        result["imagePullSecrets"].as_array().unwrap().len(),
        2,
        "without managed fields the values count as submitted"
    );
}

#[test]
fn the_same_service_account_keeps_its_pull_secrets_and_token() {
    let given = pod(&json!({"imagePullSecrets": [{"name": "of-default"}]}), &json!({}));
    assert_eq!(spec(&given, &json!({"serviceAccountName": "default"})), given["spec"]);
}

#[test]
fn a_new_runtime_class_removes_the_overhead() {
    let given = pod(&json!({"runtimeClassName": "runc", "overhead": {"cpu": "250m"}}), &json!({}));
    assert_eq!(spec(&given, &json!({"runtimeClassName": "gvisor"})).get("overhead"), None);
    assert_eq!(spec(&given, &json!({"runtimeClassName": "runc"}))["overhead"], json!({"cpu": "250m"}));
    let layer = json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "1"}});
    assert_eq!(spec(&given, &layer)["overhead"], json!({"cpu": "1"}), "a layer set it");
}

#[test]
fn a_new_image_removes_the_old_images_default_pull_policy() {
    let image = |policy: &str, image: &str| {
        let given = pod(
            &json!({"initContainers": [{"name": "init", "image": "busybox:1.36", "imagePullPolicy": policy}]}),
            &json!({}),
        );
        spec(&given, &json!({"initContainers": [{"name": "init", "image": image}]}))["initContainers"][0].clone()
    };
    assert_eq!(image("IfNotPresent", "busybox"), json!({"name": "init", "image": "busybox"}));
    assert_eq!(image("IfNotPresent", "busybox:1.37")["imagePullPolicy"], "IfNotPresent");
    assert_eq!(image("Always", "busybox")["imagePullPolicy"], "Always", "not the old image's default: submitted");
    assert_eq!(image("Never", "busybox")["imagePullPolicy"], "Never");
    let given = pod(&json!({}), &json!({}));
    let layer = json!({"initContainers": [{"name": "init", "image": "busybox", "imagePullPolicy": "IfNotPresent"}]});
    assert_eq!(spec(&given, &layer)["initContainers"][0]["imagePullPolicy"], "IfNotPresent", "a layer set it");
}

#[test]
fn the_default_pull_policy_equals_the_api_servers() {
    for image in ["a", "a:latest", "r.io:5000/b/a", "a:latest@sha256:1"] {
        assert_eq!(default_policy(image), "Always", "{image}");
    }
    for image in ["a:1", "r.io:5000/b/a:1", "a@sha256:1", "a:1@sha256:1"] {
        assert_eq!(default_policy(image), "IfNotPresent", "{image}");
    }
}

#[test]
fn numbers_become_quantities() {
    let arena = Bump::new();
    let given = json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1Gi", "x/y": 2}},
        "ports": [{"containerPort": 80}]}], "overhead": {"cpu": 1}}});
    let fragment = Json::borrowed(&given, &arena);
    let kind = Type::Object(&crate::k8s::schema::POD);
    let mut expected = given.clone();
    expected["spec"]["containers"][0]["resources"]["limits"] = json!({"cpu": "500m", "memory": "1Gi", "x/y": "2"});
    expected["spec"]["overhead"]["cpu"] = json!("1");
    let result = canonical_quantities(fragment, kind, &arena);
    assert_eq!(result.to_value(), expected);
    assert!(canonical_quantities(result, kind, &arena).ptr_eq(&result), "nothing is copied where nothing changes");
}

/// Returns an env list after normalization.
fn env(entries: &Value) -> Value {
    let mut given = pod(&json!({}), &json!({}));
    given["spec"]["containers"][0]["env"] = entries.clone();
    spec(&given, &json!({}))["containers"][0]["env"].clone()
}

#[test]
fn only_the_last_of_a_duplicate_env_name_stays() {
    let different =
        env(&json!([{"name": "A", "value": "1"}, {"name": "B", "value": "b"}, {"name": "A", "value": "2"}]));
    assert_eq!(different, json!([{"name": "B", "value": "b"}, {"name": "A", "value": "2"}]));
    let equal = env(&json!([{"name": "A", "value": "1"}, {"name": "A", "value": "1"}]));
    assert_eq!(equal, json!([{"name": "A", "value": "1"}]));
    let self_reference =
        env(&json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]));
    assert_eq!(self_reference, json!([{"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]));
}

#[test]
fn a_duplicate_env_name_that_is_referred_to_stays() {
    for kept in [
        json!([{"name": "PATH", "value": "/a"}, {"name": "PATH", "value": "$(PATH):/b"}]),
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}, {"name": "A", "value": "2"}]),
    ] {
        assert_eq!(env(&kept), kept);
    }
}

#[test]
fn a_duplicate_among_many_env_names_is_removed() {
    let mut entries: Vec<Value> = (0..100).map(|n| json!({"name": format!("V{n}"), "value": "x"})).collect();
    entries.push(json!({"name": "V7", "value": "last"}));
    let result = env(&json!(entries));
    entries.remove(7);
    assert_eq!(result, json!(entries));
}

#[test]
fn a_duplicate_identity_env_name_stays() {
    let mut given = pod(&json!({}), &json!({}));
    given["metadata"]["labels"] = json!({"CLEARML": "agent-1"});
    let duplicates =
        json!([{"name": "CLEARML_WORKER_ID", "value": "a:1"}, {"name": "CLEARML_WORKER_ID", "value": "b:2"}]);
    given["spec"]["containers"][0]["env"] = duplicates.clone();
    assert_eq!(spec(&given, &json!({}))["containers"][0]["env"], duplicates);
}

#[test]
fn an_invalid_queue_label_of_the_agent_is_repaired() {
    let repaired = |label: &str| {
        let mut given = pod(&json!({}), &json!({}));
        given["metadata"]["labels"] = json!({"CLEARML": "agent-1", "clearml-agent-queue-name": label});
        apply(&given, &json!({})).unwrap()["metadata"]["labels"]["clearml-agent-queue-name"].clone()
    };
    assert_eq!(repaired("größe-xl"), "gr-e-xl");
    assert_eq!(repaired(&format!("{}-", "a".repeat(62))), "a".repeat(62));
    assert_eq!(repaired("gpu"), "gpu");
}

#[test]
fn a_queue_label_of_another_system_is_not_repaired() {
    let mut given = pod(&json!({}), &json!({}));
    given["metadata"]["labels"] = json!({"podgraft.io/queue": "größe"});
    assert_eq!(apply(&given, &json!({})).unwrap()["metadata"]["labels"]["podgraft.io/queue"], "größe");
}
