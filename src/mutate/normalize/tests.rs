//! Each rule on pods as the API server sends them.

use serde_json::{Value, json};

use super::*;
use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::hook::Execution;
use crate::model::review::Review;
use crate::model::snapshot::{Snapshot, Unit, UnitSpec};
use crate::model::system::{System, SystemKind};
use crate::mutate::{LayerMode, MutateError, mutate};

/// A pod with one container `main`, an init container `init` and what the plugins add. The submitter wrote the
/// containers and what `written` names in `spec`.
fn pod(spec: &Value, written: &Value) -> Value {
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
    fields.extend(written.as_object().unwrap().clone());
    pod
}

fn snapshot(fragment: Value) -> Snapshot {
    let layer = Layer {
        source: Source::Base,
        file: "podgraft.yaml".into(),
        line: 1,
        file_mounts: None,
        conflict: Conflict::Override,
        explicit: false,
        placeholders: false,
        unknown: false,
        fragment,
    };
    let system = |name: &str, kind| System {
        name: name.to_owned(),
        kind,
        namespaces: Vec::new(),
        pod_name_prefix: String::new(),
        submitters: Vec::new(),
    };
    let graft = UnitSpec { layers: vec![layer], modules: Vec::new() };
    let base =
        Unit { source: Source::Base, last_valid: Some(std::sync::Arc::new(graft)), error: None, claimed_match: None };
    let systems = vec![system("clearml", SystemKind::ClearML), system("own", SystemKind::Generic)];
    Snapshot { systems, base: Some(base), ..Snapshot::default() }
}

/// The pod after the layer, as json-patch makes it; a second time must change nothing.
fn after(pod: &Value, fragment: &Value) -> Result<Value, String> {
    let once = through(pod, fragment)?;
    assert_eq!(through(&once, fragment).as_ref(), Ok(&once), "a second time");
    Ok(once)
}

fn through(pod: &Value, fragment: &Value) -> Result<Value, String> {
    let request = json!({"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": "ml", "object": pod});
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string();
    let arena = Bump::new();
    let snapshot = snapshot(fragment.clone());
    let review = Review::parse(body.as_bytes(), &arena).unwrap();
    let mut result = pod.clone();
    match mutate(&review, &snapshot, Execution::Inline, LayerMode::PerLayer, &mut Vec::new(), &arena)
        .map_err(|failure| failure.error)
    {
        Ok(mutation) => {
            let patch = serde_json::to_value(mutation.unwrap().operations).unwrap();
            json_patch::patch(&mut result, &serde_json::from_value::<json_patch::Patch>(patch).unwrap()).unwrap();
            Ok(result)
        }
        Err(MutateError::Denied(rejection)) => Err(rejection.message),
        Err(MutateError::NeedsPool(_)) => panic!("slow"),
    }
}

fn spec(given: &Value, fragment: &Value) -> Value {
    after(given, &json!({"spec": fragment})).unwrap()["spec"].clone()
}

#[test]
fn another_priority_class_takes_the_old_ones_numbers_away() {
    let result = spec(&pod(&json!({}), &json!({})), &json!({"priorityClassName": "high"}));
    assert_eq!((result.get("priority"), result.get("preemptionPolicy")), (None, None));
}

#[test]
fn the_same_priority_class_leaves_its_numbers() {
    let given = pod(&json!({"priorityClassName": "high", "priority": 1000}), &json!({}));
    let result = spec(&given, &json!({"priorityClassName": "high"}));
    assert_eq!((&result["priority"], &result["preemptionPolicy"]), (&json!(1000), &json!("PreemptLowerPriority")));
}

#[test]
fn another_account_takes_the_old_ones_pull_secrets_and_token_away() {
    let given = pod(&json!({"imagePullSecrets": [{"name": "of-default"}]}), &json!({}));
    let result = spec(&given, &json!({"serviceAccountName": "trainer"}));
    assert_eq!((&result["serviceAccountName"], &result["serviceAccount"]), (&json!("trainer"), &json!("trainer")));
    assert_eq!((&result["imagePullSecrets"], &result["volumes"]), (&json!([]), &json!([])));
    assert_eq!(result["containers"][0]["volumeMounts"], json!([]));
    assert_eq!(result["initContainers"][0]["volumeMounts"], json!([]));
}

#[test]
fn another_account_leaves_what_the_submitter_wrote_and_layers_brought() {
    let own = json!({"f:imagePullSecrets": {"k:{\"name\":\"own\"}": {}},
        "f:volumes": {"k:{\"name\":\"kube-api-access-x\"}": {"f:name": {}}}});
    let given = pod(&json!({"imagePullSecrets": [{"name": "own"}, {"name": "of-default"}]}), &own);
    let layer = json!({"serviceAccountName": "trainer", "imagePullSecrets": [{"name": "layers"}]});
    let result = spec(&given, &layer);
    assert_eq!(result["imagePullSecrets"], json!([{"name": "layers"}, {"name": "own"}]));
    assert_eq!(result["volumes"], json!([{"name": "kube-api-access-x", "projected": {}}]));
    let mut offline = given.clone();
    offline["metadata"].as_object_mut().unwrap().remove("managedFields");
    let result = spec(&offline, &json!({"serviceAccountName": "trainer"}));
    assert_eq!(result["imagePullSecrets"].as_array().unwrap().len(), 2, "nobody can say who wrote it");
}

#[test]
fn the_same_account_leaves_its_pull_secrets_and_token() {
    let given = pod(&json!({"imagePullSecrets": [{"name": "of-default"}]}), &json!({}));
    assert_eq!(spec(&given, &json!({"serviceAccountName": "default"})), given["spec"]);
}

#[test]
fn another_runtime_class_takes_the_overhead_away() {
    let given = pod(&json!({"runtimeClassName": "runc", "overhead": {"cpu": "250m"}}), &json!({}));
    assert_eq!(spec(&given, &json!({"runtimeClassName": "gvisor"})).get("overhead"), None);
    assert_eq!(spec(&given, &json!({"runtimeClassName": "runc"}))["overhead"], json!({"cpu": "250m"}));
    let wrote = json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "1"}});
    assert_eq!(spec(&given, &wrote)["overhead"], json!({"cpu": "1"}), "a layer wrote it");
}

#[test]
fn another_image_takes_the_pull_policy_away_that_was_the_old_ones_default() {
    let image = |policy: &str, image: &str| {
        let given = pod(
            &json!({"initContainers": [{"name": "init", "image": "busybox:1.36", "imagePullPolicy": policy}]}),
            &json!({}),
        );
        spec(&given, &json!({"initContainers": [{"name": "init", "image": image}]}))["initContainers"][0].clone()
    };
    assert_eq!(image("IfNotPresent", "busybox"), json!({"name": "init", "image": "busybox"}));
    assert_eq!(image("IfNotPresent", "busybox:1.37")["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        image("Always", "busybox")["imagePullPolicy"],
        "Always",
        "no default of the old image: somebody wrote it"
    );
    assert_eq!(image("Never", "busybox")["imagePullPolicy"], "Never");
    let given = pod(&json!({}), &json!({}));
    let wrote = json!({"initContainers": [{"name": "init", "image": "busybox", "imagePullPolicy": "IfNotPresent"}]});
    assert_eq!(spec(&given, &wrote)["initContainers"][0]["imagePullPolicy"], "IfNotPresent", "a layer wrote it");
}

#[test]
fn the_default_pull_policy_is_the_api_servers() {
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
    let lifted = Json::borrowed(&given, &arena);
    let kind = Type::Object(&crate::k8s::schema::POD);
    let mut expected = given.clone();
    expected["spec"]["containers"][0]["resources"]["limits"] = json!({"cpu": "500m", "memory": "1Gi", "x/y": "2"});
    expected["spec"]["overhead"]["cpu"] = json!("1");
    let result = quantities(lifted, kind, &arena);
    assert_eq!(result.to_value(), expected);
    assert!(quantities(result, kind, &arena).ptr_eq(&result), "nothing is copied where nothing changes");
}

/// What is left of an env list.
fn env(entries: &Value) -> Value {
    let mut given = pod(&json!({}), &json!({}));
    given["spec"]["containers"][0]["env"] = entries.clone();
    spec(&given, &json!({}))["containers"][0]["env"].clone()
}

#[test]
fn an_env_name_that_stands_twice_folds_to_the_last() {
    let folded = env(&json!([{"name": "A", "value": "1"}, {"name": "B", "value": "b"}, {"name": "A", "value": "2"}]));
    assert_eq!(folded, json!([{"name": "B", "value": "b"}, {"name": "A", "value": "2"}]));
    let exact = env(&json!([{"name": "A", "value": "1"}, {"name": "A", "value": "1"}]));
    assert_eq!(exact, json!([{"name": "A", "value": "1"}]));
    let thrice =
        env(&json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]));
    assert_eq!(thrice, json!([{"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]), "built upon");
}

#[test]
fn an_env_name_that_builds_upon_itself_or_is_used_between_stays() {
    for kept in [
        json!([{"name": "PATH", "value": "/a"}, {"name": "PATH", "value": "$(PATH):/b"}]),
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}, {"name": "A", "value": "2"}]),
    ] {
        assert_eq!(env(&kept), kept);
    }
}

#[test]
fn many_env_names_are_looked_through_too() {
    let mut entries: Vec<Value> = (0..100).map(|n| json!({"name": format!("V{n}"), "value": "x"})).collect();
    entries.push(json!({"name": "V7", "value": "last"}));
    let folded = env(&json!(entries));
    entries.remove(7);
    assert_eq!(folded, json!(entries));
}

#[test]
fn env_that_says_who_the_task_is_is_not_folded() {
    let mut given = pod(&json!({}), &json!({}));
    given["metadata"]["labels"] = json!({"CLEARML": "agent-1"});
    let twice = json!([{"name": "CLEARML_WORKER_ID", "value": "a:1"}, {"name": "CLEARML_WORKER_ID", "value": "b:2"}]);
    given["spec"]["containers"][0]["env"] = twice.clone();
    assert_eq!(spec(&given, &json!({}))["containers"][0]["env"], twice);
}

#[test]
fn a_queue_label_that_the_agent_wrote_wrongly_is_repaired() {
    let repaired = |label: &str| {
        let mut given = pod(&json!({}), &json!({}));
        given["metadata"]["labels"] = json!({"CLEARML": "agent-1", "clearml-agent-queue-name": label});
        after(&given, &json!({})).unwrap()["metadata"]["labels"]["clearml-agent-queue-name"].clone()
    };
    assert_eq!(repaired("größe-xl"), "gr-e-xl");
    assert_eq!(repaired(&format!("{}-", "a".repeat(62))), "a".repeat(62));
    assert_eq!(repaired("gpu"), "gpu");
}

#[test]
fn another_systems_label_is_its_creators_to_mend() {
    let mut given = pod(&json!({}), &json!({}));
    given["metadata"]["labels"] = json!({"podgraft.io/queue": "größe"});
    assert_eq!(after(&given, &json!({})).unwrap()["metadata"]["labels"]["podgraft.io/queue"], "größe");
}
