//! The pods that podgraft changes, and the answer to a whole request.

use super::*;
use crate::k8s::labels::APPLIED;

#[test]
fn base_queue_and_annotation_are_applied_and_a_second_run_changes_nothing() {
    let fragment = json!({"spec": {"volumes": [{"name": "scratch", "emptyDir": {}}],
        "containers": [{"name": "primary", "env": [{"name": "HF_HOME", "value": "/cache"}], "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}]}});
    let snapshot = snapshot(fragment, Vec::new());
    let once = patched(&pod(), &answer_for(&pod(), &snapshot));
    assert_eq!(once["metadata"]["labels"]["base"], "yes");
    assert_eq!(once["metadata"]["annotations"][APPLIED], "base, queue/GPU");
    assert_eq!(once["spec"]["containers"][0]["env"][0]["name"], "HF_HOME");
    assert_eq!(once["spec"]["volumes"][0]["name"], "scratch");
    let second = answer_for(&once, &snapshot);
    assert_eq!((second.outcome, second.operations), (Outcome::Unchanged, 0));
}

#[test]
fn a_request_that_creates_no_task_pod_is_skipped() {
    let snapshot = snapshot(json!({}), Vec::new());
    let mut mirror = pod();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut unlabelled = pod();
    unlabelled["metadata"]["labels"] = json!({"app": "web"});
    let mut own = pod();
    own["metadata"]["namespace"] = json!("podgraft");
    for pod in [mirror, unlabelled, own] {
        assert_eq!(answer_for(&pod, &snapshot).outcome, Outcome::Skipped, "{pod}");
    }
    let change = |pointer: &str, value: Value| {
        let mut body: Value = serde_json::from_slice(&review(&pod(), SUBMITTER)).unwrap();
        body["request"][pointer] = value;
        serde_json::to_vec(&body).unwrap()
    };
    let bodies = [
        change("operation", json!("UPDATE")),
        change("subResource", json!("exec")),
        change("kind", json!({"group": "batch", "version": "v1", "kind": "Job"})),
        change("object", Value::Null),
    ];
    for body in bodies {
        let arena = Bump::new();
        let Verdict::Done(answer) = answer(&body, &snapshot, Execution::Inline, &arena) else { panic!("slow") };
        assert_eq!((answer.status, answer.outcome), (200, Outcome::Skipped));
    }
}

#[test]
fn a_dry_run_gets_the_same_patch() {
    let snapshot = snapshot(json!({"metadata": {"labels": {"x": "y"}}}), Vec::new());
    let mut body: Value = serde_json::from_slice(&review(&pod(), SUBMITTER)).unwrap();
    body["request"]["dryRun"] = json!(true);
    let dry = serde_json::to_vec(&body).unwrap();
    let arena = Bump::new();
    let Verdict::Done(dry) = answer(&dry, &snapshot, Execution::Inline, &arena) else { panic!("slow") };
    assert_eq!(dry.body, answer_for(&pod(), &snapshot).body);
}

#[test]
fn an_invalid_pod_is_denied_with_its_error() {
    type Change = fn(&mut Value);
    let denial_after = |change: Change| {
        let mut pod = pod();
        change(&mut pod);
        denial(&pod, &snapshot(json!({}), Vec::new()))
    };
    let path = format!("spec.containers[clearml-id-{ID}].env");
    let cases: [(Change, &str); 4] = [
        (|pod| pod["spec"]["containers"] = json!([]), "spec.containers has no container"),
        (|pod| drop(pod.as_object_mut().unwrap().remove("spec")), "spec.containers has no container"),
        (|pod| pod["spec"]["containers"][0]["env"] = json!({"A": "b"}), &format!("{path} is not a list")),
        (|pod| pod["metadata"]["annotations"] = json!([]), "metadata.annotations is not a map"),
    ];
    for (change, expected) in cases {
        assert_eq!(denial_after(change), format!("422 InvalidPod the pod is invalid: {expected}"));
    }
}

#[test]
fn task_config_merges_from_global_to_user_and_a_user_needs_a_submitter() {
    let hook = || {
        module(|call| {
            Ok(HookOutput::Fragment(
                json!({"metadata": {"annotations": {"seen": call.task_config.to_string()}}}).to_string(),
            ))
        })
    };
    let vault = |namespace: &[&str], queue: Option<&str>, user: Option<&str>, config: Value| Vault {
        namespaces: namespace.iter().map(|name| (*name).to_owned()).collect(),
        queue: queue.map(str::to_owned),
        user: user.map(str::to_owned),
        config: Arc::new(config),
    };
    let mut snapshot = snapshot(json!({}), vec![hook()]);
    snapshot.task_config = vec![
        vault(&[], None, Some("ada"), json!({"level": "user", "list": [3]})),
        vault(&[], Some("GPU"), None, json!({"level": "queue", "queue": true})),
        vault(&["clearml"], None, None, json!({"level": "namespace", "list": [1, 2]})),
        vault(&["other"], None, None, json!({"other": true})),
        vault(&[], None, None, json!({"level": "global", "deep": {"a": 1}})),
    ];
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"podgraft.io/user": "ada"});
    let seen = |user: &str| {
        let left = || Duration::from_secs(1);
        let Verdict::Done(answer) = answer(&review(&pod, user), &snapshot, Execution::Pooled(&left), &Bump::new())
        else {
            panic!("slow")
        };
        serde_json::from_str::<Value>(patched(&pod, &answer)["metadata"]["annotations"]["seen"].as_str().unwrap())
            .unwrap()
    };
    assert_eq!(seen(SUBMITTER), json!({"level": "user", "list": [3], "queue": true, "deep": {"a": 1}}));
    assert_eq!(seen("another-user"), json!({"level": "queue", "list": [1, 2], "queue": true, "deep": {"a": 1}}));
}

#[test]
fn unconfigured_queues_follow_unknown_queue() {
    let mut pod = pod();
    pod["metadata"]["labels"]["clearml-agent-queue-name"] = json!("nowhere");
    let mut snapshot = snapshot(json!({"metadata": {"labels": {"queue": "yes"}}}), Vec::new());
    let result = patched(&pod, &answer_for(&pod, &snapshot));
    assert_eq!(
        (&result["metadata"]["labels"]["base"], &result["metadata"]["labels"]["queue"]),
        (&json!("yes"), &Value::Null)
    );
    snapshot.unknown_queue = UnknownQueue::Ignore;
    assert_eq!(answer_for(&pod, &snapshot).outcome, Outcome::Skipped);
    snapshot.unknown_queue = UnknownQueue::Deny;
    assert_eq!(denial(&pod, &snapshot), "422 UnknownQueue queue 'nowhere' is not configured, and unknownQueue is Deny");
}

#[test]
fn a_unit_that_was_never_valid_denies_only_its_own_pods() {
    let mut snapshot = snapshot(json!({}), Vec::new());
    let invalid = Unit {
        source: Source::Queue("GPU".to_owned()),
        last_valid: None,
        error: Some("podgraft.yaml:3:5: an error".to_owned()),
        claimed_match: None,
    };
    snapshot.queues.by_name.insert("gpu".to_owned(), invalid);
    assert_eq!(
        denial(&pod(), &snapshot),
        "503 ConfigInvalid queue/GPU has no valid configuration: podgraft.yaml:3:5: an error"
    );
    let mut other = pod();
    other["metadata"]["labels"]["clearml-agent-queue-name"] = json!("else");
    assert_eq!(answer_for(&other, &snapshot).outcome, Outcome::Patched);
}

#[test]
fn an_environment_that_was_never_valid_denies_the_pods_that_it_claims() {
    let claimed_match = Some(Match { namespaces: vec!["clearml".to_owned()], ..Match::default() });
    let mut snapshot = snapshot(json!({}), Vec::new());
    snapshot.environments = vec![Unit {
        source: Source::Environment("prod".to_owned()),
        last_valid: None,
        error: Some("podgraft.yaml:9:1: an error".to_owned()),
        claimed_match,
    }];
    assert_eq!(
        denial(&pod(), &snapshot),
        "503 ConfigInvalid environment/prod has no valid configuration: podgraft.yaml:9:1: an error"
    );
    let mut elsewhere = pod();
    elsewhere["metadata"]["namespace"] = json!("other");
    assert_eq!(answer_for(&elsewhere, &snapshot).outcome, Outcome::Patched);
}

#[test]
fn a_pod_with_a_contradictory_identity_is_denied() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"][0]["value"] = json!("w:00000000000000000000000000000000");
    assert_eq!(
        denial(&pod, &snapshot(json!({}), Vec::new())),
        "422 IdentityContradiction CLEARML_WORKER_ID names another task than the pod's name does"
    );
}

#[test]
fn a_pod_that_names_another_primary_container_keeps_its_task() {
    let mut sidecar = pod();
    sidecar["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "web"});
    sidecar["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "web", "image": "nginx", "args": ["second"]}));
    let name = sidecar["spec"]["containers"][0]["name"].as_str().unwrap().to_owned();
    let image = json!({"spec": {"containers": [{"name": name, "image": "evil"}]}});
    assert!(message_for(&sidecar, &image).ends_with("image may not be changed: it defines the task"));
    let seen = module(|call| {
        assert!(!call.template.contains("bootstrap") && !call.template.contains("second"), "{}", call.template);
        Ok(HookOutput::Unchanged)
    });
    assert_eq!(answer_for(&sidecar, &snapshot(json!({}), vec![seen])).outcome, Outcome::Patched);
}

#[test]
fn oversized_lists_are_denied_before_they_cost_time() {
    let mut large = pod();
    large["spec"]["tolerations"] = (0..5000).map(|n| json!({"key": n.to_string()})).collect();
    let snapshot = snapshot(json!({"spec": {"tolerations": [{"key": "a"}]}}), Vec::new());
    assert_eq!(
        denial(&large, &snapshot),
        "422 TooLarge the pod has a list or map of 5000 elements, more than the limit of 4096"
    );
    large["metadata"]["labels"] = json!({"app": "web"});
    assert_eq!(answer_for(&large, &snapshot).outcome, Outcome::Skipped, "other pods are not denied for it");
    let volumes: Value = (0..2000).map(|n| json!({"name": format!("v{n}"), "emptyDir": {}})).collect();
    assert_eq!(
        message_for(&pod(), &json!({"spec": {"volumes": volumes}})),
        "module hook returned a fragment with a list or map of 2000 elements"
    );
    let long = json!({"metadata": {"labels": {"x".repeat(100_000): 1}}});
    assert!(message_for(&pod(), &long).len() <= 2048 + 20);
}
