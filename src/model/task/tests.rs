//! Pods of the real agent, and pods that claim to be.

use serde_json::{Value, json};

use super::*;
use crate::model::system::SystemKind;

const AGENT: &str = "system:serviceaccount:clearml:clearml-agent-sa";
const ID: &str = "0123456789abcdef0123456789abcdef";

fn snapshot() -> Snapshot {
    let system = |name: &str, kind: SystemKind, prefix: &str, submitters: &[&str]| System {
        name: name.to_owned(),
        kind,
        namespaces: Vec::new(),
        pod_name_prefix: prefix.to_owned(),
        submitters: submitters.iter().map(|user| (*user).to_owned()).collect(),
    };
    let clearml = system("clearml", SystemKind::ClearML, "clearml-id-", &[AGENT]);
    Snapshot { systems: vec![clearml, system("generic", SystemKind::Generic, "", &["ops"])], ..Snapshot::default() }
}

/// The task of a pod as one line: system, queue id and name, task id, user, primary container.
fn read(pod: &Value, user: &Value) -> String {
    let request = json!({"uid": "u", "kind": {"version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "clearml",
        "userInfo": user, "object": pod});
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string();
    let arena = bumpalo::Bump::new();
    let snapshot = snapshot();
    let review = Review::parse(body.as_bytes(), &arena).unwrap();
    match Task::from_pod(&Pod::from_review(&review), &review, &snapshot) {
        Ok(None) => "no task".to_owned(),
        Err(denial) => denial.message,
        Ok(Some(task)) => format!(
            "{} {} {} {} {} {}",
            task.system.name,
            task.queue_id.unwrap_or("-"),
            task.queue_name.unwrap_or("-"),
            task.id.as_deref().unwrap_or("-"),
            task.user.unwrap_or("-"),
            task.primary.unwrap_or("-")
        ),
    }
}

fn by_agent() -> Value {
    json!({"username": AGENT, "extra": {"authentication.kubernetes.io/pod-name": ["clearml-agent-7f9c"]}})
}

fn fixture(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn pods_of_the_real_agent_are_read() {
    let small = fixture(include_str!("../../../tests/fixtures/clearml/pod-small.yaml"));
    let large = fixture(include_str!("../../../tests/fixtures/clearml/pod-large.yaml"));
    let entrypoint = fixture(include_str!("../../../tests/fixtures/clearml/pod-entrypoint.yaml"));
    let line = |queue: &str, id: &str| format!("clearml {queue} {id} - clearml-id-{id}");
    assert_eq!(
        read(&small, &by_agent()),
        line("3f9a1c0d5b7e42d8a6c4e2f01b8d7a95 gpu-queue-for-team-a", "6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60")
    );
    assert_eq!(
        read(&large, &by_agent()),
        line("8d2e6f4a1b3c4957b0a8c7d6e5f40312 1xgpu", "c0a8e7d6b5f44e3392817a6b5c4d3e2f")
    );
    assert_eq!(
        read(&entrypoint, &by_agent()),
        line("b7c6d5e4f3a24190886f5e4d3c2b1a09 gpus-with-shared-memory", "9e8d7c6b5a4f43e2a1b0c9d8e7f6a5b4")
    );
}

/// A pod as the Job controller makes it from the agent's Job: without a name, and created by the controller.
#[test]
fn a_jobs_pod_is_a_task_without_a_submitter() {
    let job = fixture(include_str!("../../../tests/fixtures/clearml/job.yaml"));
    let mut pod = job["spec"]["template"].clone();
    let name = job["metadata"]["name"].clone();
    pod["metadata"]["generateName"] = json!(format!("{}-", name.as_str().unwrap()));
    pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": name, "controller": true}]);
    let controller = json!({"username": "system:serviceaccount:kube-system:job-controller"});
    assert_eq!(
        read(&pod, &controller),
        "clearml b7c6d5e4f3a24190886f5e4d3c2b1a09 gpus-with-shared-memory - - clearml-id-2a4c6e8f0b1d43579f8e7d6c5b4a3928"
    );
}

fn clearml(change: impl FnOnce(&mut Value)) -> Value {
    let name = format!("clearml-id-{ID}");
    let env = json!([{"name": "CLEARML_WORKER_ID", "value": format!("w:{ID}")}]);
    let mut pod = json!({"metadata": {"name": name, "labels": {"clearml-agent-queue-name": "gpu"}, "annotations": {"podgraft.io/user": "ada"}},
        "spec": {"containers": [{"name": name, "env": env}]}});
    change(&mut pod);
    pod
}

#[test]
fn identity_is_trusted_only_from_a_submitter_outside_a_task() {
    let pod = clearml(|_| ());
    let name = format!("clearml-id-{ID}");
    assert_eq!(read(&pod, &by_agent()), format!("clearml - gpu {ID} ada {name}"));
    let anonymous = format!("clearml - gpu - - {name}");
    assert_eq!(read(&pod, &json!({"username": "mallory"})), anonymous);
    assert_eq!(read(&pod, &Value::Null), anonymous);
    // Task pods of the open chart run under the agent's service account, and may create pods.
    let from_a_task =
        json!({"username": AGENT, "extra": {"authentication.kubernetes.io/pod-name": ["clearml-id-ffff"]}});
    assert_eq!(read(&pod, &from_a_task), anonymous);
}

#[test]
fn a_generic_pods_user_is_trusted_only_from_its_systems_submitter() {
    let pod = json!({"metadata": {"name": "a", "labels": {"podgraft.io/queue": "batch"}, "annotations": {"podgraft.io/user": "ada"}},
        "spec": {"containers": [{"name": "a"}]}});
    assert_eq!(read(&pod, &json!({"username": "ops"})), "generic - batch - ada a");
    assert_eq!(read(&pod, &json!({"username": "mallory"})), "generic - batch - - a");
    assert_eq!(read(&pod, &by_agent()), "generic - batch - - a", "another system's submitter");
}

#[test]
fn a_jobs_pod_has_the_jobs_name_and_another_controllers_pod_does_not() {
    let called = |metadata: Value| {
        let pod = json!({"metadata": metadata});
        let arena = bumpalo::Bump::new();
        Pod { object: Json::borrowed(&pod, &arena), namespace: "x" }.display_name().unwrap_or("-").to_owned()
    };
    let owner = |kind: &str| json!([{"kind": kind, "name": "owner", "controller": true}]);
    assert_eq!(called(json!({"name": "own", "ownerReferences": owner("Job")})), "own");
    assert_eq!(called(json!({"generateName": "owner-", "ownerReferences": owner("Job")})), "owner");
    assert_eq!(called(json!({"generateName": "owner-", "ownerReferences": owner("ReplicaSet")})), "-");
    assert_eq!(called(json!({"generateName": "owner-"})), "-");
}

#[test]
fn a_pod_that_names_two_tasks_is_denied() {
    let other = "f".repeat(32);
    let label = clearml(|pod| pod["metadata"]["labels"]["clearml-task-id"] = json!(other));
    assert_eq!(read(&label, &by_agent()), "the label clearml-task-id names another task than the pod's name does");
    let worker = clearml(|pod| pod["spec"]["containers"][0]["env"][0]["value"] = json!(format!("w:{other}")));
    assert_eq!(read(&worker, &by_agent()), "CLEARML_WORKER_ID names another task than the pod's name does");
    let user_env =
        clearml(|pod| pod["spec"]["containers"][0]["env"][0] = json!({"name": "CLEARML_TASK_ID", "value": other}));
    assert_eq!(
        read(&user_env, &by_agent()),
        format!("clearml - gpu {ID} ada clearml-id-{ID}"),
        "users may set CLEARML_TASK_ID"
    );
    let rank = clearml(|pod| pod["metadata"]["name"] = json!(format!("clearml-id-{ID}-12")));
    assert_eq!(
        read(&rank, &by_agent()),
        format!("clearml - gpu {ID} ada clearml-id-{ID}"),
        "a pod of a multi-node task"
    );
}

#[test]
fn a_queue_that_the_agent_could_not_look_up_has_no_name() {
    let pod = clearml(|pod| {
        pod["metadata"]["labels"] = json!({"clearml-agent-queue-name": "k8s", "clearml-agent-queue": "5f0e"});
    });
    assert_eq!(read(&pod, &by_agent()), format!("clearml 5f0e - {ID} ada clearml-id-{ID}"));
    let bare = clearml(|pod| pod["metadata"]["labels"] = json!({"CLEARML": "agent"}));
    assert_eq!(read(&bare, &by_agent()), format!("clearml - - {ID} ada clearml-id-{ID}"));
}

#[test]
fn labels_make_any_pod_a_task_pod() {
    let pod = |labels: Value| json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a"}]}});
    assert_eq!(read(&pod(json!({"podgraft.io/queue": "batch"})), &Value::Null), "generic - batch - - a");
    assert_eq!(read(&pod(json!({"podgraft.io/environment": "x"})), &Value::Null), "generic - - - - a");
    assert_eq!(read(&pod(json!({"app": "web"})), &Value::Null), "no task");
    assert_eq!(read(&json!({"metadata": {}}), &Value::Null), "no task");
}

#[test]
fn the_primary_container_is_found_in_the_documented_order() {
    let primary = |metadata: Value, names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let pod = json!({"metadata": metadata, "spec": {"containers": containers}});
        let arena = bumpalo::Bump::new();
        let pod = Pod { object: Json::borrowed(&pod, &arena), namespace: "x" };
        primary_container(&pod).unwrap_or("-").to_owned()
    };
    let both = json!({"podgraft.io/primary-container": "b", "kubectl.kubernetes.io/default-container": "a"});
    assert_eq!(primary(json!({"annotations": both}), &["a", "b"]), "b");
    assert_eq!(
        primary(json!({"annotations": {"kubectl.kubernetes.io/default-container": "a"}, "name": "b"}), &["a", "b"]),
        "a"
    );
    assert_eq!(
        primary(json!({"annotations": {"podgraft.io/primary-container": "gone"}, "name": "b"}), &["a", "b"]),
        "b"
    );
    assert_eq!(primary(json!({"ownerReferences": [{"name": "b", "controller": true}]}), &["a", "b"]), "b");
    assert_eq!(primary(json!({"generateName": "b-"}), &["a", "b"]), "b");
    assert_eq!(primary(json!({}), &["a", "primary"]), "primary");
    assert_eq!(primary(json!({}), &["only"]), "only");
    assert_eq!(primary(json!({}), &["a", "b"]), "-");
}
