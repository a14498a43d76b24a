//! One review through all of it, with configuration made by hand and modules that are closures.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::render::{Call, Fault, Level, Log, Outcome as Returned, Render, Rendered};
use crate::snapshot::{
    Budget, Conflict, Graft, Match, Module, OnError, Queue, Queues, System, SystemKind, Unit, UnknownQueue, Vault,
};

const SUBMITTER: &str = "system:serviceaccount:clearml:clearml-agent-sa";
const ID: &str = "6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60";

/// A module that is a closure over the call's arguments.
struct Fake<F>(F);

impl<F> fmt::Debug for Fake<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Fake")
    }
}

impl<F: Fn(&Call<'_>) -> Result<Returned, Fault> + Send + Sync> Render for Fake<F> {
    fn render(&self, call: &Call<'_>) -> Rendered {
        let logs = vec![Log { level: Level::Info, message: format!("saw {}", call.template) }];
        Rendered { result: (self.0)(call), logs, elapsed: Duration::ZERO }
    }
}

fn module(code: impl Fn(&Call<'_>) -> Result<Returned, Fault> + Send + Sync + 'static) -> Module {
    Module {
        name: "hook".to_owned(),
        digest: "0123456789abcdef".repeat(4),
        when: None,
        params: json!({"p": 1}),
        may_remove: false,
        on_error: OnError::Fail,
        budget: Budget::default(),
        code: Arc::new(Fake(code)),
    }
}

fn layer(source: Source, conflict: Conflict, fragment: Value) -> Layer {
    let placeholders = crate::placeholder::stands_in(&fragment);
    let file = "podgraft.yaml".into();
    Layer {
        source,
        file,
        line: 1,
        file_mounts: None,
        conflict,
        explicit: false,
        placeholders,
        unknown: false,
        fragment,
    }
}

fn unit<T>(source: Source, value: T) -> Unit<T> {
    Unit { source, good: Some(Arc::new(value)), error: None, meant_for: None }
}

/// A snapshot with the ClearML system, a base label and, for the queue `gpu`, `fragment` and `modules`.
fn snapshot(fragment: Value, modules: Vec<Module>) -> Snapshot {
    let source = || Source::Queue("GPU".to_owned());
    let base = layer(Source::Base, Conflict::Keep, json!({"metadata": {"labels": {"base": "yes"}}}));
    let graft = Graft {
        layers: vec![layer(source(), Conflict::Override, fragment)],
        modules: modules.into_iter().map(Arc::new).collect(),
    };
    let queue = Queue {
        name: "GPU".to_owned(),
        id: None,
        system: None,
        matches: Match::default(),
        base: Some(base.clone()),
        graft,
    };
    Snapshot {
        plans: crate::merge::beforehand::Plans::default(),
        pod_security: crate::pod_security::Levels::default(),
        generation: 1,
        digest: "d1".to_owned(),
        namespace: "podgraft".to_owned(),
        systems: vec![System {
            name: "clearml".to_owned(),
            kind: SystemKind::ClearML,
            namespaces: Vec::new(),
            pod_name_prefix: "clearml-id-".to_owned(),
            submitters: vec![SUBMITTER.to_owned()],
        }],
        base: Some(unit(Source::Base, Graft { layers: vec![base], modules: Vec::new() })),
        environments: Vec::new(),
        queues: Queues { by_id: BTreeMap::new(), by_name: BTreeMap::from([("gpu".to_owned(), unit(source(), queue))]) },
        task_config: Vec::new(),
        providers_info: Vec::new(),
        unknown_queue: UnknownQueue::Base,
    }
}

fn pod() -> Value {
    let name = format!("clearml-id-{ID}");
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "clearml", "labels": {"CLEARML": "agent-1", "clearml-agent-queue-name": "gpu"}},
        "spec": {
            "volumes": [{"name": "kube-api-access-x", "projected": {}}],
            "containers": [{
                "name": name, "image": "python", "command": ["/bin/bash"], "args": ["-c", "bootstrap secret"],
                "env": [{"name": "CLEARML_WORKER_ID", "value": format!("w:{ID}")}, {"name": "CLEARML_API_SECRET_KEY", "value": "tokentoken"}, {"name": "OWN", "value": "plain-value"}],
                "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets"}],
                "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}
            }]
        },
        "status": {}
    })
}

fn review(pod: &Value, user: &str) -> Vec<u8> {
    let request = json!({"uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": pod["metadata"]["namespace"], "userInfo": {"username": user}, "object": pod});
    serde_json::to_vec(&json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}))
        .unwrap()
}

fn answered_to(pod: &Value, snapshot: &Snapshot) -> Answer {
    let left = || Duration::from_secs(1);
    match answer(&review(pod, SUBMITTER), snapshot, Pace::Patient(&left), &Bump::new()) {
        Verdict::Done(answer) => answer,
        Verdict::Slow(module) => panic!("slow: {module}"),
    }
}

/// The pod as the API server would store it, by json-patch.
fn applied(pod: &Value, answer: &Answer) -> Value {
    use base64::Engine as _;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(reply["response"]["uid"], "u-1");
    assert_eq!(reply["response"]["allowed"], true, "{reply}");
    let mut result = pod.clone();
    if let Some(patch) = reply["response"]["patch"].as_str() {
        let text = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        json_patch::patch(&mut result, &serde_json::from_slice::<json_patch::Patch>(&text).unwrap()).unwrap();
    }
    result
}

fn denial(pod: &Value, snapshot: &Snapshot) -> String {
    let answer = answered_to(pod, snapshot);
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(reply["response"]["allowed"], false, "{reply}");
    assert!(reply["response"]["patch"].is_null());
    format!("{} {} {}", reply["response"]["status"]["code"], answer.reason.unwrap(), answer.message.unwrap())
}

#[test]
fn base_queue_and_annotation_arrive_and_a_second_time_changes_nothing() {
    let fragment = json!({"spec": {"volumes": [{"name": "scratch", "emptyDir": {}}],
        "containers": [{"name": "primary", "env": [{"name": "HF_HOME", "value": "/cache"}], "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}]}});
    let snapshot = snapshot(fragment, Vec::new());
    let once = applied(&pod(), &answered_to(&pod(), &snapshot));
    assert_eq!(once["metadata"]["labels"]["base"], "yes");
    assert_eq!(once["metadata"]["annotations"][APPLIED], "base, queue/GPU");
    assert_eq!(once["spec"]["containers"][0]["env"][0]["name"], "HF_HOME");
    assert_eq!(once["spec"]["volumes"][0]["name"], "scratch");
    let again = answered_to(&once, &snapshot);
    assert_eq!((again.outcome, again.operations), (Outcome::Unchanged, 0));
}

#[test]
fn what_is_not_ours_passes_untouched() {
    let snapshot = snapshot(json!({}), Vec::new());
    let mut mirror = pod();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut unlabelled = pod();
    unlabelled["metadata"]["labels"] = json!({"app": "web"});
    let mut own = pod();
    own["metadata"]["namespace"] = json!("podgraft");
    for pod in [mirror, unlabelled, own] {
        assert_eq!(answered_to(&pod, &snapshot).outcome, Outcome::Skipped, "{pod}");
    }
    let change = |pointer: &str, value: Value| {
        let mut body: Value = serde_json::from_slice(&review(&pod(), SUBMITTER)).unwrap();
        body["request"][pointer] = value;
        serde_json::to_vec(&body).unwrap()
    };
    let others = [
        change("operation", json!("UPDATE")),
        change("subResource", json!("exec")),
        change("kind", json!({"group": "batch", "version": "v1", "kind": "Job"})),
        change("object", Value::Null),
    ];
    for body in others {
        let arena = Bump::new();
        let Verdict::Done(answer) = answer(&body, &snapshot, Pace::Inline, &arena) else { panic!("slow") };
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
    let Verdict::Done(dry) = answer(&dry, &snapshot, Pace::Inline, &arena) else { panic!("slow") };
    assert_eq!(dry.body, answered_to(&pod(), &snapshot).body);
}

#[test]
fn a_changed_limit_drops_the_request_that_was_its_copy() {
    let resources = |limits: Value| json!({"spec": {"containers": [{"name": "primary", "resources": limits}]}});
    let snapshot1 = snapshot(resources(json!({"limits": {"nvidia.com/gpu": "2"}})), Vec::new());
    let result = applied(&pod(), &answered_to(&pod(), &snapshot1));
    assert_eq!(
        result["spec"]["containers"][0]["resources"],
        json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {}})
    );
    let mut on_cpu = pod();
    on_cpu["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
    let asked = resources(json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}));
    let result = applied(&on_cpu, &answered_to(&on_cpu, &snapshot(asked, Vec::new())));
    assert_eq!(result["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1"}), "a layer asked for it");
}

#[test]
fn a_request_above_its_limit_is_refused_by_name() {
    let result = |written: Value, resources: Value| {
        let mut pod = pod();
        pod["spec"]["containers"][0]["resources"] = written;
        let layer = json!({"spec": {"containers": [{"name": "primary", "resources": resources}]}});
        denial(&pod, &snapshot(layer, Vec::new()))
    };
    let path = format!("422 InvalidResult queue/GPU: spec.containers[clearml-id-{ID}].resources.requests");
    assert_eq!(
        result(
            json!({"limits": {"memory": "8Gi"}, "requests": {"memory": "4Gi"}}),
            json!({"limits": {"memory": "2Gi"}})
        ),
        format!("{path}.memory is 4Gi, more than the limit of 2Gi")
    );
    assert_eq!(
        result(json!({}), json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}})),
        format!("{path}.nvidia.com/gpu is 1, and must be equal to the limit of 2")
    );
    assert_eq!(
        result(json!({}), json!({"requests": {"hugepages-2Mi": "4Mi"}})),
        format!("{path}.hugepages-2Mi is 4Mi, and needs a limit that is equal")
    );
}

#[test]
fn a_request_above_its_limit_that_the_pod_brought_is_the_api_servers_to_refuse() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}});
    let layer = json!({"spec": {"containers": [{"name": "primary", "env": [{"name": "A", "value": "b"}]}]}});
    assert_eq!(answered_to(&pod, &snapshot(layer, Vec::new())).outcome, Outcome::Patched);
}

#[test]
fn a_warning_that_only_the_result_earns_is_refused_by_name() {
    let layer = json!({"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}});
    assert_eq!(
        denial(&pod(), &snapshot(layer.clone(), Vec::new())),
        "422 InvalidResult queue/GPU: spec.nodeSelector.beta.kubernetes.io/os would earn a warning of the API server, which fails a ClearML task: deprecated since v1.14; use \"kubernetes.io/os\" instead"
    );
    let mut own = pod();
    own["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    assert_eq!(answered_to(&own, &snapshot(layer, Vec::new())).outcome, Outcome::Patched, "the pod's own");
}

#[test]
fn what_only_the_result_violates_of_pod_security_is_refused_by_name() {
    let context = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut compliant = pod();
    for container in compliant["spec"]["containers"].as_array_mut().unwrap() {
        container["securityContext"] = context.clone();
    }
    let held = |layer: Value| {
        let snapshot = snapshot(layer, Vec::new());
        snapshot.pod_security.set(HashMap::from([("clearml".to_owned(), "restricted".parse().unwrap())]));
        snapshot
    };
    let with_init = |more: Value| {
        let mut init = json!({"name": "fetch", "image": "busybox"});
        init["securityContext"] = more;
        json!({"spec": {"initContainers": [init]}})
    };
    assert_eq!(
        denial(&compliant, &held(with_init(json!({})))),
        "422 InvalidResult queue/GPU: spec.initContainers[fetch].securityContext.allowPrivilegeEscalation must be false: \
         the pod would violate its namespace's PodSecurity \"restricted:latest\" (allowPrivilegeEscalation != false), \
         and the API server's warning fails a ClearML task"
    );
    let fetch = json!({"name": "fetch", "image": "busybox", "ports": [{"containerPort": 80, "hostPort": 80}]});
    let fetch = json!({"spec": {"initContainers": [fetch]}});
    let hook = module(move |_| Ok(Returned::Fragment(fetch.to_string())));
    let of_module = snapshot(json!({}), vec![hook]);
    of_module.pod_security.set_everywhere(Some("baseline".parse().unwrap()));
    let said = denial(&compliant, &of_module);
    assert!(said.contains("module/hook: spec.initContainers[fetch].ports may have no hostPort"), "{said}");
    let mut of_the_pod = compliant.clone();
    of_the_pod["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    of_the_pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = Value::Null;
    let taken = denial(&of_the_pod, &held(json!({"spec": {"securityContext": {"$patch": "replace", "fsGroup": 1}}})));
    assert!(taken.contains("queue/GPU: spec.containers[clearml-id-"), "{taken}");
    assert!(taken.contains(".securityContext.runAsNonRoot must be true: "), "{taken}");
    let loose = denial(&compliant, &held(json!({"spec": {"securityContext": {"runAsUser": 0}}})));
    assert!(loose.starts_with("422 InvalidResult queue/GPU: spec.securityContext.runAsUser may not be 0: "), "{loose}");
    assert_eq!(answered_to(&compliant, &held(with_init(context))).outcome, Outcome::Patched, "as compliant as before");
    assert_eq!(answered_to(&pod(), &held(with_init(json!({})))).outcome, Outcome::Patched, "the pod's own violation");
    let elsewhere = snapshot(with_init(json!({})), Vec::new());
    elsewhere.pod_security.set(HashMap::from([("other".to_owned(), "restricted".parse().unwrap())]));
    assert_eq!(answered_to(&compliant, &elsewhere).outcome, Outcome::Patched, "another namespace's level");
}

#[test]
fn a_port_of_a_sidecar_that_meets_the_tasks_is_refused_by_name() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 10022}]);
    let sidecar =
        json!({"name": "ssh", "image": "ssh", "restartPolicy": "Always", "ports": [{"containerPort": 10022}]});
    let said = denial(&pod, &snapshot(json!({"spec": {"initContainers": [sidecar]}}), Vec::new()));
    assert!(
        said.starts_with("422 InvalidResult queue/GPU: ")
            && said.contains("ports[10022/TCP] would earn a warning")
            && said.contains("duplicate port"),
        "{said}"
    );
}

#[test]
fn a_pod_that_is_not_made_as_one_is_told_so() {
    type Change = fn(&mut Value);
    let told = |change: Change| {
        let mut pod = pod();
        change(&mut pod);
        denial(&pod, &snapshot(json!({}), Vec::new()))
    };
    let path = format!("spec.containers[clearml-id-{ID}].env");
    let cases: [(Change, &str); 4] = [
        (|pod| pod["spec"]["containers"] = json!([]), "spec.containers has no container"),
        (|pod| drop(pod.as_object_mut().unwrap().remove("spec")), "spec.containers has no container"),
        (|pod| pod["spec"]["containers"][0]["env"] = json!({"A": "b"}), &format!("{path} is no list")),
        (|pod| pod["metadata"]["annotations"] = json!([]), "metadata.annotations is no map"),
    ];
    for (change, expected) in cases {
        assert_eq!(told(change), format!("422 InvalidPod the pod is not one that can run: {expected}"));
    }
}

#[test]
fn a_layers_placeholders_are_filled_for_each_pod() {
    let layer = json!({"spec": {"containers": [{"name": "primary", "env": [
        {"name": "WHO", "value": "${task.id} ${queue.name} ${pod.namespace} ${CLEARML_WORKER_ID} ${HOME}"}]}]}});
    let result = applied(&pod(), &answered_to(&pod(), &snapshot(layer, Vec::new())));
    let expected = format!("{ID} GPU clearml w:{ID} ${{HOME}}");
    assert_eq!(result["spec"]["containers"][0]["env"][0], json!({"name": "WHO", "value": expected}));
}

#[test]
fn a_placeholder_without_a_value_names_its_layer_file_and_line() {
    let layer = json!({"metadata": {"annotations": {"a": "${task_config.nfs.server}"}}});
    assert_eq!(
        denial(&pod(), &snapshot(layer, Vec::new())),
        "422 Placeholder queue/GPU (podgraft.yaml:1): the placeholder ${task_config.nfs.server} has no value: taskConfig has nothing of that name for the pod"
    );
}

#[test]
fn what_a_placeholder_was_filled_with_is_in_no_refusal() {
    let mount = json!({"name": "primary", "volumeMounts": [{"name": "x", "mountPath": "/${task_config.secret}"}]});
    let mut snapshot = snapshot(json!({"spec": {"containers": [mount]}}), Vec::new());
    let config = Arc::new(json!({"secret": "canary-in-the-vault"}));
    snapshot.task_config = vec![Vault { namespaces: Vec::new(), queue: None, user: None, config }];
    let said = denial(&pod(), &snapshot);
    assert!(said.contains("mounts the volume \"x\"") && !said.contains("canary"), "{said}");
}

#[test]
fn a_fragment_of_a_module_is_laid_like_a_layer() {
    let hook = module(|call| {
        let request: Value = serde_json::from_str(call.request).unwrap();
        assert_eq!(request["queue_name"], "GPU");
        assert_eq!(request["task_data"]["id"], ID);
        assert_eq!(request["params"]["p"], 1);
        let fragment = json!({"spec": {"volumes": [{"name": "nfs", "nfs": {"server": "s", "path": "/"}}],
            "containers": [{"name": "primary", "volumeMounts": [{"name": "nfs", "mountPath": "/nfs"}]}]}});
        Ok(Returned::Fragment(fragment.to_string()))
    });
    let snapshot = snapshot(json!({}), vec![hook]);
    let result = applied(&pod(), &answered_to(&pod(), &snapshot));
    assert_eq!(result["spec"]["volumes"][0]["name"], "nfs");
    assert_eq!(result["metadata"]["annotations"][APPLIED], "base, queue/GPU, module/hook@0123456789ab");
    assert_eq!(answered_to(&result, &snapshot).outcome, Outcome::Unchanged);
}

#[test]
fn a_template_given_back_is_compared_with_what_the_module_saw() {
    let hook = module(|call| {
        let mut template: Value = serde_json::from_str(call.template).unwrap();
        assert!(!call.template.contains("kube-api-access"), "{template}");
        assert!(!call.template.contains("bootstrap") && !call.template.contains("tokentoken"));
        assert!(template.get("status").is_none() && template["metadata"].get("managedFields").is_none());
        let env = template["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": "FOO", "value": "bar"}));
        Ok(Returned::Template(template.to_string()))
    });
    let result = applied(&pod(), &answered_to(&pod(), &snapshot(json!({}), vec![hook])));
    let mut expected = pod()["spec"].clone();
    expected["containers"][0]["env"].as_array_mut().unwrap().insert(0, json!({"name": "FOO", "value": "bar"}));
    assert_eq!(result["spec"], expected, "the token volume, the arguments and the secret stay as they were");
}

#[test]
fn what_a_module_returns_is_checked_and_the_module_is_named() {
    let returns =
        |text: &'static str| snapshot(json!({}), vec![module(move |_| Ok(Returned::Fragment(text.to_owned())))]);
    let template = |change: fn(&mut Value)| {
        let hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            change(&mut template);
            Ok(Returned::Template(template.to_string()))
        });
        snapshot(json!({}), vec![hook])
    };
    let cases = [
        (returns("nonsense"), "422 ModuleFailed module hook returned a fragment that is not a JSON object"),
        (returns("[]"), "422 ModuleFailed module hook returned a fragment that is not a JSON object"),
        (
            returns(r#"{"spec":{},"spec":{}}"#),
            "422 ModuleFailed module hook returned a fragment in which the name \"spec\" stands twice in one object",
        ),
        (
            returns(r#"{"spec":{"volums":[]}}"#),
            "422 ModuleFailed module hook returned a fragment that is no pod's: spec has no field volums; did you mean volumes?",
        ),
        (
            returns(r#"{"spec":{"priority":"high"}}"#),
            "422 ModuleFailed module hook returned a fragment that is no pod's: spec.priority is a string, should be a whole number of 32 bits",
        ),
        (
            returns(r#"{"spec":{"containers":[{"name":"primary","image":"evil"}]}}"#),
            "422 Protected module/hook: spec.containers[clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60].image may not be changed: it is the task's own",
        ),
        (
            returns(r#"{"metadata":{"namespace":"other"}}"#),
            "422 Protected module/hook: metadata.namespace may not be changed: it is the API server's or the creator's",
        ),
        (
            returns(r#"{"metadata":{"labels":{"clearml-agent-queue-name":"x"}}}"#),
            "422 Protected module/hook: metadata.labels.clearml-agent-queue-name may not be changed: it is the task's identity",
        ),
        (
            returns(r#"{"spec":{"volumes":[{"emptyDir":{}}]}}"#),
            "422 ModuleFailed module hook returned a fragment that cannot be laid: spec.volumes: an element without its key",
        ),
        (
            returns(r#"{"spec":{"initContainers":[{"name":"x","env":[{"name":"Y","value":"podgraft.io:opaque"}]}]}}"#),
            "422 ModuleFailed module hook returned a fragment that uses a value which was hidden from it",
        ),
        (
            template(|pod| drop(pod["spec"]["containers"][0].as_object_mut().unwrap().remove("env"))),
            "422 ModuleFailed module hook removes spec.containers[clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60].env, and mayRemove is not set",
        ),
    ];
    for (snapshot, expected) in cases {
        assert_eq!(denial(&pod(), &snapshot), expected);
    }
}

#[test]
fn a_removal_that_was_declared_is_done() {
    let mut hook = module(|call| {
        let mut template: Value = serde_json::from_str(call.template).unwrap();
        template["spec"]["containers"][0]["env"].as_array_mut().unwrap().retain(|entry| entry["name"] != "OWN");
        Ok(Returned::Template(template.to_string()))
    });
    hook.may_remove = true;
    let result = applied(&pod(), &answered_to(&pod(), &snapshot(json!({}), vec![hook])));
    assert_eq!(result["spec"]["containers"][0]["env"].as_array().unwrap().len(), 2);
}

#[test]
fn a_fault_refuses_the_pod_or_is_ignored_as_the_module_says() {
    let faulty = |on_error: OnError, fault: Fault| {
        let mut hook = module(move |_| Err(fault.clone()));
        hook.on_error = on_error;
        snapshot(json!({}), vec![hook])
    };
    let time = Fault::Time(Duration::from_millis(200));
    assert_eq!(
        denial(&pod(), &faulty(OnError::Fail, time.clone())),
        "503 ModuleUnavailable module hook exceeded its time budget of 200 ms"
    );
    let memory = Fault::Memory(64 << 20);
    assert_eq!(
        denial(&pod(), &faulty(OnError::Fail, memory)),
        "422 ModuleFailed module hook exceeded its memory budget of 64 MiB"
    );
    let ignored = answered_to(&pod(), &faulty(OnError::Ignore, time));
    assert_eq!(ignored.outcome, Outcome::Patched);
    assert_eq!(ignored.modules[0].fault.as_deref(), Some("module hook exceeded its time budget of 200 ms"));
    assert_eq!(applied(&pod(), &ignored)["metadata"]["annotations"][APPLIED], "base, queue/GPU");
}

#[test]
fn a_slow_module_sends_the_request_elsewhere() {
    let snapshot = snapshot(json!({}), vec![module(|_| Err(Fault::Slow))]);
    let verdict = answer(&review(&pod(), SUBMITTER), &snapshot, Pace::Inline, &Bump::new());
    assert!(matches!(verdict, Verdict::Slow(module) if module == "hook"));
}

#[test]
fn a_modules_words_carry_no_secret() {
    let mut snapshot = snapshot(
        json!({}),
        vec![module(|_| Err(Fault::Refused("nfs at 10.1.2.3-canary with plain-value and tokentoken".to_owned())))],
    );
    snapshot.task_config = vec![Vault {
        namespaces: Vec::new(),
        queue: None,
        user: None,
        config: Arc::new(json!({"nfs": {"server": "10.1.2.3-canary"}})),
    }];
    assert_eq!(denial(&pod(), &snapshot), "422 ModuleFailed module hook refused: nfs at *** with *** and ***");
    let answer = answered_to(&pod(), &snapshot);
    assert!(!answer.modules[0].logs[0].message.contains("plain-value"), "{:?}", answer.modules[0].logs);
}

#[test]
fn vaults_are_laid_from_global_to_user_and_a_user_counts_only_from_a_submitter() {
    let hook = || {
        module(|call| {
            Ok(Returned::Fragment(
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
        let Verdict::Done(answer) = answer(&review(&pod, user), &snapshot, Pace::Patient(&left), &Bump::new()) else {
            panic!("slow")
        };
        serde_json::from_str::<Value>(applied(&pod, &answer)["metadata"]["annotations"]["seen"].as_str().unwrap())
            .unwrap()
    };
    assert_eq!(seen(SUBMITTER), json!({"level": "user", "list": [3], "queue": true, "deep": {"a": 1}}));
    assert_eq!(seen("somebody"), json!({"level": "queue", "list": [1, 2], "queue": true, "deep": {"a": 1}}));
}

#[test]
fn queues_that_nobody_configured_follow_unknown_queue() {
    let mut pod = pod();
    pod["metadata"]["labels"]["clearml-agent-queue-name"] = json!("nowhere");
    let mut snapshot = snapshot(json!({"metadata": {"labels": {"queue": "yes"}}}), Vec::new());
    let result = applied(&pod, &answered_to(&pod, &snapshot));
    assert_eq!(
        (&result["metadata"]["labels"]["base"], &result["metadata"]["labels"]["queue"]),
        (&json!("yes"), &Value::Null)
    );
    snapshot.unknown_queue = UnknownQueue::Ignore;
    assert_eq!(answered_to(&pod, &snapshot).outcome, Outcome::Skipped);
    snapshot.unknown_queue = UnknownQueue::Deny;
    assert_eq!(denial(&pod, &snapshot), "422 UnknownQueue queue 'nowhere' is not configured, and unknownQueue is Deny");
}

#[test]
fn a_unit_that_was_never_sound_denies_its_pods_and_nobody_elses() {
    let mut snapshot = snapshot(json!({}), Vec::new());
    let bad = Unit {
        source: Source::Queue("GPU".to_owned()),
        good: None,
        error: Some("podgraft.yaml:3:5: it is broken".to_owned()),
        meant_for: None,
    };
    snapshot.queues.by_name.insert("gpu".to_owned(), bad);
    assert_eq!(
        denial(&pod(), &snapshot),
        "503 ConfigInvalid queue/GPU has no valid configuration: podgraft.yaml:3:5: it is broken"
    );
    let mut other = pod();
    other["metadata"]["labels"]["clearml-agent-queue-name"] = json!("else");
    assert_eq!(answered_to(&other, &snapshot).outcome, Outcome::Patched);
}

#[test]
fn a_pod_that_contradicts_itself_is_refused() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"][0]["value"] = json!("w:00000000000000000000000000000000");
    assert_eq!(
        denial(&pod, &snapshot(json!({}), Vec::new())),
        "422 IdentityContradiction CLEARML_WORKER_ID names another task than the pod's name does"
    );
}

#[test]
fn without_any_time_left_modules_that_may_fail_are_left_out() {
    // what the admission asks for when the module threads are full
    let busy = |on_error: OnError| {
        let mut hook = module(|call| match call.pace {
            Pace::Patient(left) if left().is_zero() => Err(Fault::Busy),
            _ => panic!("there is no time"),
        });
        hook.on_error = on_error;
        snapshot(json!({}), vec![hook])
    };
    let answered = |snapshot: &Snapshot| {
        let none = || Duration::ZERO;
        match answer(&review(&pod(), SUBMITTER), snapshot, Pace::Patient(&none), &Bump::new()) {
            Verdict::Done(answer) => answer,
            Verdict::Slow(module) => panic!("slow: {module}"),
        }
    };
    assert_eq!(answered(&busy(OnError::Ignore)).outcome, Outcome::Patched);
    assert_eq!(answered(&busy(OnError::Fail)).message.as_deref(), Some("module hook found no room to run"));
}

/// What comes of a fragment that a module returns: the refusal, or `done`.
fn said_of(pod: &Value, fragment: &Value) -> String {
    let text = fragment.to_string();
    let snapshot = snapshot(json!({}), vec![module(move |_| Ok(Returned::Fragment(text.clone())))]);
    answered_to(pod, &snapshot).message.unwrap_or_else(|| "done".to_owned())
}

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

#[test]
fn a_container_that_a_module_adds_stands_after_the_pods_own() {
    let hook = module(|_| {
        Ok(Returned::Fragment(json!({"spec": {"containers": [{"name": "sidecar", "image": "x"}]}}).to_string()))
    });
    let result = applied(&pod(), &answered_to(&pod(), &snapshot(json!({}), vec![hook])));
    assert_eq!(result["spec"]["containers"][1]["name"], "sidecar");
}

#[test]
fn lists_without_end_are_refused_before_they_cost_time() {
    let mut large = pod();
    large["spec"]["tolerations"] = (0..5000).map(|n| json!({"key": n.to_string()})).collect();
    let snapshot = snapshot(json!({"spec": {"tolerations": [{"key": "a"}]}}), Vec::new());
    assert_eq!(
        denial(&large, &snapshot),
        "422 TooLarge the pod has a list or map of 5000 elements, more than the 4096 that podgraft takes"
    );
    large["metadata"]["labels"] = json!({"app": "web"});
    assert_eq!(answered_to(&large, &snapshot).outcome, Outcome::Skipped, "nobody else's pod is refused for it");
    let volumes: Value = (0..2000).map(|n| json!({"name": format!("v{n}"), "emptyDir": {}})).collect();
    assert_eq!(
        said_of(&pod(), &json!({"spec": {"volumes": volumes}})),
        "module hook returned a fragment with a list or map of 2000 elements"
    );
    let long = json!({"metadata": {"labels": {"x".repeat(100_000): 1}}});
    assert!(said_of(&pod(), &long).len() <= 2048 + 20);
}

#[test]
fn what_the_api_server_would_refuse_is_refused_by_name() {
    let volume = |source: Value| json!({"spec": {"volumes": [source]}});
    let primary = |extra: Value| {
        let mut container = json!({"name": "primary"});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let cases = [
        (
            primary(json!({"volumeMounts": [{"name": "nope", "mountPath": "/x"}]})),
            "volumeMounts[/x] mounts the volume \"nope\", which the pod does not have",
        ),
        (json!({"spec": {"containers": [{"name": "side"}]}}), "spec.containers[side] is added without an image"),
        (
            volume(json!({"name": "Upper", "emptyDir": {}})),
            "has a name that is no DNS label (lower-case letters, digits and -)",
        ),
        (
            volume(json!({"name": "two", "emptyDir": {}, "nfs": {"server": "s", "path": "/"}})),
            "spec.volumes[two] has two sources, emptyDir and nfs",
        ),
        (
            primary(json!({"env": [{"name": "a b", "value": "c"}]})),
            "env[a b] has a name that no environment variable can have",
        ),
        (
            primary(json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]})),
            "env[A] has both value and valueFrom",
        ),
        (
            json!({"metadata": {"labels": {"a": "not a value"}}}),
            "metadata.labels.a has a value that no label can have (at most 63 letters, digits, -, _ and ., ends alphanumeric)",
        ),
        (
            primary(json!({"resources": {"limits": {"cpu": "lots"}}})),
            "should be a quantity, such as \"500m\" or \"4Gi\"",
        ),
        (primary(json!({"ports": [{"containerPort": 4_294_967_296_u64}]})), "should be a whole number of 32 bits"),
        (
            json!({"spec": {"nodeSelector": {"$retainKeys": "a"}}}),
            "spec.nodeSelector has the name $retainKeys, which is a directive and not a name",
        ),
        (json!({"spec": {"tolerations": [null]}}), "spec.tolerations[0] is null, should be an object"),
        (
            json!({"metadata": {"deletionTimestamp": "x"}}),
            "metadata.deletionTimestamp may not be changed: it is the API server's or the creator's",
        ),
    ];
    for (fragment, end) in cases {
        let said = said_of(&pod(), &fragment);
        assert!(said.ends_with(end), "{fragment}: {said}");
    }
}

#[test]
fn a_module_gives_no_rights_and_adds_no_identity() {
    let primary = |extra: Value| {
        let mut container = json!({"name": "primary"});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let cases = [
        (json!({"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}), "spec.volumes: hostPath"),
        (json!({"spec": {"hostPID": true}}), "spec.hostPID"),
        (json!({"spec": {"priorityClassName": "high"}}), "spec.priorityClassName"),
        (
            primary(json!({"securityContext": {"privileged": true}})),
            "securityContext: privileged or added capabilities",
        ),
        (
            primary(json!({"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}})),
            "lifecycle of the task's container",
        ),
    ];
    for (fragment, path) in cases {
        assert_eq!(
            said_of(&pod(), &fragment),
            format!("module hook asks for {path}, which a module cannot give: a layer can")
        );
    }
    let task_id = primary(json!({"env": [{"name": "CLEARML_TASK_ID", "value": "x"}]}));
    assert!(said_of(&pod(), &task_id).ends_with("env[CLEARML_TASK_ID] may not be changed: it is the task's identity"));
    let mut bare = pod();
    bare["spec"]["containers"][0].as_object_mut().unwrap().remove("env");
    assert!(said_of(&bare, &task_id).ends_with(".env may not be changed: it holds the task's identity"));
    for key in ["podgraft.io/user", "kubernetes.io/config.mirror", "kubectl.kubernetes.io/default-container"] {
        let fragment = json!({"metadata": {"annotations": {key: "x"}}});
        assert!(said_of(&pod(), &fragment).contains("may not be changed: "), "{key}");
    }
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
    assert!(said_of(&sidecar, &image).ends_with("image may not be changed: it is the task's own"));
    let seen = module(|call| {
        assert!(!call.template.contains("bootstrap") && !call.template.contains("second"), "{}", call.template);
        Ok(Returned::Unchanged)
    });
    assert_eq!(answered_to(&sidecar, &snapshot(json!({}), vec![seen])).outcome, Outcome::Patched);
}

#[test]
fn a_template_given_back_changes_what_was_changed_and_nothing_else() {
    let change = |pod: &Value, change: fn(&mut Value)| {
        let hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            change(&mut template);
            Ok(Returned::Template(template.to_string()))
        });
        applied(pod, &answered_to(pod, &snapshot(json!({}), vec![hook])))
    };
    let mut twice = pod();
    let env = twice["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.extend([json!({"name": "A", "value": "1"}), json!({"name": "A", "value": "2"})]);
    let mut own = env.clone();
    own.remove(3); // folded
    let result = change(&twice, |pod| {
        let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": "NEW", "value": "x"}));
    });
    assert_eq!(result["spec"]["containers"][0]["env"].as_array().unwrap()[1..], own);
    let mut beside = pod();
    beside["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "primary", "image": "nginx"}));
    let result = change(&beside, |pod| pod["spec"]["containers"][1]["tty"] = json!(true));
    assert_eq!(result["spec"]["containers"][1]["tty"], true, "a sidecar called primary is a sidecar here");
    assert!(result["spec"]["containers"][0].get("tty").is_none());
}

#[test]
fn a_module_cannot_take_the_token_that_it_does_not_see() {
    let text = json!({"spec": {"volumes": [{"$patch": "replace"}], "containers": [{"name": "primary", "volumeMounts": [{"$patch": "replace"}]}]}});
    let mut hook = module(move |_| Ok(Returned::Fragment(text.to_string())));
    hook.may_remove = true;
    let result = applied(&pod(), &answered_to(&pod(), &snapshot(json!({}), vec![hook])));
    assert_eq!(result["spec"], pod()["spec"]);
}

#[test]
fn whatever_fails_of_a_module_that_may_fail_is_left_out_whole() {
    let bad = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "n"}}).to_string();
    let mut hook = module(move |_| Ok(Returned::Fragment(bad.clone())));
    hook.on_error = OnError::Ignore;
    let answer = answered_to(&pod(), &snapshot(json!({}), vec![hook]));
    let result = applied(&pod(), &answer);
    assert!(result["metadata"]["labels"].get("x").is_none());
    assert_eq!(result["metadata"]["annotations"][APPLIED], "base, queue/GPU");
    assert!(answer.modules[0].fault.as_ref().unwrap().contains("spec.nodeName may not be changed"));
}

#[test]
fn error_texts_of_ours_quote_no_secret_of_the_modules_input() {
    let quoting = json!({"spec": {"nodeSelector": {"plain-value": 1}}});
    assert_eq!(
        said_of(&pod(), &quoting),
        "module hook returned a fragment that is no pod's: spec.nodeSelector[***] is a number, should be a string"
    );
}

#[test]
fn a_limit_under_a_plugins_request_takes_the_request_away() {
    let mut ranged = pod();
    ranged["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:spec": {"f:restartPolicy": {}}}}]);
    ranged["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}});
    let lower = json!({"spec": {"containers": [{"name": "primary", "resources": {"limits": {"cpu": "250m"}}}]}});
    let result = applied(&ranged, &answered_to(&ranged, &snapshot(lower, Vec::new())));
    assert_eq!(result["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "250m"}, "requests": {}}));
}

#[test]
fn an_environment_that_was_never_sound_denies_the_pods_that_it_says_it_is_for() {
    let meant_for = Match { namespaces: vec!["clearml".to_owned()], ..Match::default() };
    let mut snapshot = snapshot(json!({}), Vec::new());
    snapshot.environments = vec![Unit {
        source: Source::Environment("prod".to_owned()),
        good: None,
        error: Some("podgraft.yaml:9:1: it is broken".to_owned()),
        meant_for: Some(meant_for),
    }];
    assert_eq!(
        denial(&pod(), &snapshot),
        "503 ConfigInvalid environment/prod has no valid configuration: podgraft.yaml:9:1: it is broken"
    );
    let mut elsewhere = pod();
    elsewhere["metadata"]["namespace"] = json!("other");
    assert_eq!(answered_to(&elsewhere, &snapshot).outcome, Outcome::Patched);
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

/// A copy of the queue `gpu` without modules.
fn queue_of(snapshot: &Snapshot) -> Queue {
    let queue = snapshot.queues.by_name["gpu"].good.as_deref().unwrap();
    Queue {
        name: queue.name.clone(),
        id: None,
        system: None,
        matches: Match::default(),
        base: queue.base.clone(),
        graft: Graft { layers: queue.graft.layers.clone(), modules: Vec::new() },
    }
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

/// What becomes of a pod under the queue's layer.
fn under(pod: &Value, fragment: Value) -> Value {
    applied(pod, &answered_to(pod, &snapshot(fragment, vec![])))
}

/// A snapshot whose task config says `word`, and a layer that uses it.
fn with_word(word: &str, fragment: Value) -> Snapshot {
    let mut snapshot = snapshot(fragment, vec![]);
    let config = Arc::new(json!({"word": word}));
    snapshot.task_config = vec![Vault { namespaces: Vec::new(), queue: None, user: None, config }];
    snapshot
}

#[test]
fn a_claim_name_that_a_placeholder_made_wrong_is_refused_by_name() {
    let layer = json!({"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-${task_config.word}"}}]}});
    let claim = |word: &str| with_word(word, layer.clone());
    assert_eq!(answered_to(&pod(), &claim("a.b")).outcome, Outcome::Patched);
    for word in ["Alice", "a_b", "ends-", "x".repeat(250).as_str()] {
        let said = denial(&pod(), &claim(word));
        assert!(
            said.starts_with("422 InvalidResult queue/GPU: spec.volumes[data] has a claimName that is no name"),
            "{said}"
        );
    }
}

#[test]
fn a_sub_path_that_a_placeholder_leads_out_of_the_volume_is_refused_by_name() {
    let layer = json!({"spec": {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{"name": "primary", "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "${task_config.word}"}]}]}});
    let mount = |word: &str| with_word(word, layer.clone());
    assert_eq!(answered_to(&pod(), &mount("users/alice")).outcome, Outcome::Patched);
    for word in ["../alice", "/etc", "a/../../b", ".."] {
        let said = denial(&pod(), &mount(word));
        assert!(
            said.ends_with(".subPath: `${task_config.word}`, filled for this pod, must be a relative path without .."),
            "{said}"
        );
    }
}

#[test]
fn annotations_beyond_what_a_pod_may_have_are_refused_by_name() {
    let layer = json!({"metadata": {"annotations": {"large": "x".repeat(200_000), "small": "y"}}});
    let with = |bytes: usize| {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({"own": "z".repeat(bytes)});
        pod
    };
    assert_eq!(answered_to(&with(60_000), &snapshot(layer.clone(), vec![])).outcome, Outcome::Patched);
    let said = denial(&with(65_000), &snapshot(layer.clone(), vec![]));
    assert!(
        said.starts_with("422 InvalidResult queue/GPU: metadata.annotations.large brings the pod to 2650")
            && said.ends_with("and it may have 262144"),
        "{said}"
    );
    // kubectl's copy counts as what it says, not as it is spelled
    let mut copied = with(0);
    copied["metadata"]["annotations"][crate::review::LAST_APPLIED] = json!("\"".repeat(40_000));
    assert_eq!(answered_to(&copied, &snapshot(layer, vec![])).outcome, Outcome::Patched);
}

#[test]
fn a_sidecar_with_the_name_of_one_of_the_pods_containers_is_refused_by_name() {
    let mut pod = pod();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "proxy", "image": "own"}));
    let sidecar = |name: &str| json!({"spec": {"initContainers": [{"name": name, "image": "layers", "restartPolicy": "Always"}]}});
    let name = format!("clearml-id-{ID}");
    for name in ["proxy", &name] {
        assert_eq!(
            denial(&pod, &snapshot(sidecar(name), vec![])),
            format!(
                "422 InvalidResult queue/GPU: spec.initContainers[{name}] has the name of another container of the pod"
            )
        );
    }
}

#[test]
fn an_init_container_of_the_pod_does_not_become_a_layers_sidecar() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "fetch", "image": "own"}]);
    let sidecar = json!({"name": "fetch", "image": "layers"});
    assert_eq!(
        denial(&pod, &snapshot(json!({"spec": {"containers": [sidecar]}}), vec![])),
        "422 InvalidResult queue/GPU: spec.initContainers[fetch].restartPolicy would make a sidecar of the pod's own init container of that name"
    );
    let layer = json!({"spec": {"initContainers": [sidecar]}});
    assert_eq!(under(&pod, layer)["spec"]["initContainers"][0]["image"], "layers", "laid over, it stays what it is");
}

#[test]
fn a_device_without_its_limit_is_not_asked_for() {
    let layer = json!({"spec": {"containers": [{"name": "primary", "resources": {"limits": {"$patch": "replace", "cpu": "2"}}}]}});
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}, "requests": {"nvidia.com/gpu": "1", "memory": "1Gi"}});
    let resources = &under(&pod, layer)["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "2"}, "requests": {"memory": "1Gi"}}));
}

#[test]
fn other_node_affinity_in_a_template_given_back_is_what_the_pod_gets() {
    let required = |zones: &[&[&str]]| {
        let terms = zones.iter().map(|zones| {
            json!({"matchExpressions": zones.iter().map(|zone| json!({"key": "zone", "operator": "In", "values": [zone]})).collect::<Vec<_>>()})
        });
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms.collect::<Vec<_>>()}}})
    };
    let given = |before: &Value, after: &Value, may_remove: bool| {
        let (mut pod, after) = (pod(), after.clone());
        pod["spec"]["affinity"] = before.clone();
        let mut hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            template["spec"]["affinity"] = after.clone();
            Ok(Returned::Template(template.to_string()))
        });
        hook.may_remove = may_remove;
        let answer = answered_to(&pod, &snapshot(json!({}), vec![hook]));
        match answer.outcome {
            Outcome::Denied => Err(answer.message.unwrap()),
            _ => Ok(applied(&pod, &answer)["spec"]["affinity"].clone()),
        }
    };
    let one = required(&[&["a"]]);
    for after in [required(&[&["b"]]), required(&[&["a"], &["b"]]), required(&[])] {
        assert_eq!(given(&one, &after, true), Ok(after.clone()));
        let said = given(&one, &after, false).unwrap_err();
        assert!(said.contains("nodeSelectorTerms, and mayRemove is not set"), "{said}");
    }
    let two = required(&[&["a"], &["b"]]);
    assert_eq!(given(&two, &required(&[&["b"]]), true), Ok(required(&[&["b"]])));
    let more = required(&[&["a", "b"]]);
    assert_eq!(given(&one, &more, false), Ok(more), "demanding more takes nothing away");
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

#[test]
fn two_of_what_rules_each_other_out_are_refused_by_name() {
    let mut pod = pod();
    let profile = json!({"type": "Localhost", "localhostProfile": "p"});
    let main = &mut pod["spec"]["containers"][0];
    main["livenessProbe"] = json!({"exec": {"command": ["true"]}});
    main["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 1}}});
    main["securityContext"] = json!({"seccompProfile": profile});
    main["volumeMounts"][0]["subPath"] = json!("own");
    pod["spec"]["securityContext"] = json!({"appArmorProfile": profile});
    let main = format!("spec.containers[clearml-id-{ID}]");
    let replace = "`$patch: replace` beside the new one takes the old one away";
    let profiled = format!("has a localhostProfile, which only the type Localhost takes: {replace}");
    let primary = |part: Value| {
        let mut container = part;
        container["name"] = json!("primary");
        json!({"spec": {"containers": [container]}})
    };
    let unconfined = |kind: &str| json!({"securityContext": {kind: {"type": "Unconfined"}}});
    for (layer, path, what) in [
        (
            primary(json!({"livenessProbe": {"httpGet": {"port": 80}}})),
            format!("{main}.livenessProbe"),
            format!("has two handlers, exec and httpGet: {replace}"),
        ),
        (
            primary(json!({"lifecycle": {"preStop": {"exec": {"command": ["a"]}}}})),
            format!("{main}.lifecycle.preStop"),
            format!("has two handlers, exec and sleep: {replace}"),
        ),
        (primary(unconfined("seccompProfile")), format!("{main}.securityContext.seccompProfile"), profiled.clone()),
        (json!({"spec": unconfined("appArmorProfile")}), "spec.securityContext.appArmorProfile".to_owned(), profiled),
        (
            primary(
                json!({"volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets", "subPathExpr": "b"}]}),
            ),
            format!("{main}.volumeMounts[/var/run/secrets]"),
            "has both subPath and subPathExpr".to_owned(),
        ),
    ] {
        assert_eq!(denial(&pod, &snapshot(layer, vec![])), format!("422 InvalidResult queue/GPU: {path} {what}"));
    }
    let replaced = json!({"livenessProbe": {"$patch": "replace", "httpGet": {"port": 80}}});
    let result = under(&pod, primary(replaced));
    assert_eq!(result["spec"]["containers"][0]["livenessProbe"], json!({"httpGet": {"port": 80}}));
}

#[test]
fn a_selector_that_no_node_can_have_is_refused_by_the_modules_name() {
    let hook = module(|_| Ok(Returned::Fragment(json!({"spec": {"nodeSelector": {"team": "A B"}}}).to_string())));
    assert_eq!(
        denial(&pod(), &snapshot(json!({}), vec![hook])),
        "422 InvalidResult module/hook: spec.nodeSelector.team has a value that no label can have"
    );
}

#[test]
fn what_a_placeholder_made_wrong_is_refused_with_layer_and_field() {
    let spec = |spec: Value| json!({"spec": spec});
    let primary = |key: &str, value: Value| json!({"spec": {"containers": [{"name": "primary", key: value}]}});
    let volume = |source: &str, value: Value| spec(json!({"volumes": [{"name": "v", source: value}]}));
    let claim = |part: &str, value: Value| {
        let mut template =
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        *template.pointer_mut(part).unwrap() = value;
        volume("ephemeral", json!({"volumeClaimTemplate": template}))
    };
    let word = "${task_config.word}";
    let name = "is not the name of an object (lower-case letters, digits, - and .)";
    let label = "is not a label value (at most 63 letters, digits, -, _ and .)";
    let template = "spec.volumes[v].ephemeral.volumeClaimTemplate";
    for (layer, path, what) in [
        (spec(json!({"serviceAccountName": word})), "spec.serviceAccountName", name),
        (spec(json!({"priorityClassName": word})), "spec.priorityClassName", name),
        (spec(json!({"runtimeClassName": word})), "spec.runtimeClassName", name),
        (spec(json!({"imagePullSecrets": [{"name": word}]})), "spec.imagePullSecrets[${task_config.word}].name", name),
        (spec(json!({"nodeSelector": {"team": word}})), "spec.nodeSelector.team", label),
        (
            spec(json!({"hostAliases": [{"ip": word}]})),
            "spec.hostAliases[${task_config.word}].ip",
            "is not an IP address",
        ),
        (
            spec(json!({"hostAliases": [{"ip": "::1", "hostnames": ["a", word]}]})),
            "spec.hostAliases[::1].hostnames[1]",
            name,
        ),
        (volume("configMap", json!({"name": word})), "spec.volumes[v].configMap.name", name),
        (volume("secret", json!({"secretName": word})), "spec.volumes[v].secret.secretName", name),
        (
            volume("projected", json!({"sources": [{"secret": {"name": word}}]})),
            "spec.volumes[v].projected.sources[0].secret.name",
            name,
        ),
        (
            primary("envFrom", json!([{"configMapRef": {"name": word}}])),
            "spec.containers[primary].envFrom[0].configMapRef.name",
            name,
        ),
        (
            primary("env", json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": word, "key": "k"}}}])),
            "spec.containers[primary].env[A].valueFrom.secretKeyRef.name",
            name,
        ),
        (
            primary("resources", json!({"limits": {"memory": word}})),
            "spec.containers[primary].resources.limits.memory",
            "is not a quantity, like 2, 500m, 16Gi",
        ),
        (
            primary("imagePullPolicy", json!(word)),
            "spec.containers[primary].imagePullPolicy",
            "must be Always or IfNotPresent or Never",
        ),
        (
            claim("/spec/accessModes/0", json!(word)),
            &format!("{template}.spec.accessModes[0]"),
            "must be ReadWriteOnce or ReadOnlyMany or ReadWriteMany or ReadWriteOncePod",
        ),
        (
            claim("/spec/resources/requests/storage", json!(word)),
            &format!("{template}.spec.resources.requests.storage"),
            "is not a quantity, like 2, 500m, 16Gi",
        ),
        (claim("/spec", json!({"storageClassName": word})), &format!("{template}.spec.storageClassName"), name),
        (
            claim("", json!({"metadata": {"labels": {"team": word}}})),
            &format!("{template}.metadata.labels.team"),
            label,
        ),
        (json!({"metadata": {"labels": {"team": word}}}), "metadata.labels.team", label),
    ] {
        let said = denial(&pod(), &with_word("Data Science", layer));
        let begin = "422 Placeholder queue/GPU (podgraft.yaml:1)";
        assert_eq!(said, format!("{begin}: {path}: `${{task_config.word}}`, filled for this pod, {what}"));
    }
}

#[test]
fn what_a_placeholder_made_wrong_is_not_quoted() {
    for layer in [
        json!({"spec": {"imagePullSecrets": [{"name": "${task_config.word}"}]}}),
        json!({"spec": {"containers": [{"name": "primary", "imagePullPolicy": "${task_config.word}"}]}}),
        json!({"spec": {"hostname": "${task_config.word}"}}),
    ] {
        let said = denial(&pod(), &with_word("Hunter Two", layer.clone()));
        assert!(
            said.starts_with("422 Placeholder queue/GPU (podgraft.yaml:1): spec.") && !said.contains("Hunter"),
            "{said}"
        );
    }
    let fine = with_word("data-science", json!({"spec": {"imagePullSecrets": [{"name": "${task_config.word}"}]}}));
    let result = applied(&pod(), &answered_to(&pod(), &fine));
    assert_eq!(result["spec"]["imagePullSecrets"], json!([{"name": "data-science"}]));
}
