//! One review through all of it, with configuration made by hand and modules that are closures.

mod laying;
mod modules;
mod placeholders;
mod requests;
mod results;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::merge::layer::Conflict;
use crate::merge::layer::Layer;
use crate::merge::layer::Source;
use crate::model::hook::Budget;
use crate::model::hook::{Hook, HookError, HookOutput as Returned, HookRequest, HookResponse, LogLevel, LogLine};
use crate::model::snapshot::{Match, Module, OnError, Queue, Queues, Unit, UnitSpec, UnknownQueue, Vault};
use crate::model::system::{System, SystemKind};

const SUBMITTER: &str = "system:serviceaccount:clearml:clearml-agent-sa";
const ID: &str = "6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60";

/// A module that is a closure over the call's arguments.
struct Fake<F>(F);

impl<F> fmt::Debug for Fake<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Fake")
    }
}

impl<F: Fn(&HookRequest<'_>) -> Result<Returned, HookError> + Send + Sync> Hook for Fake<F> {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        let logs = vec![LogLine { level: LogLevel::Info, message: format!("saw {}", call.template) }];
        HookResponse { result: (self.0)(call), logs, elapsed: Duration::ZERO }
    }
}

fn module(code: impl Fn(&HookRequest<'_>) -> Result<Returned, HookError> + Send + Sync + 'static) -> Module {
    Module {
        name: "hook".to_owned(),
        digest: "0123456789abcdef".repeat(4),
        when: None,
        params: json!({"p": 1}),
        may_remove: false,
        on_error: OnError::Fail,
        budget: Budget::default(),
        hook: Arc::new(Fake(code)),
    }
}

fn layer(source: Source, conflict: Conflict, fragment: Value) -> Layer {
    let placeholders = crate::model::placeholder::has_placeholder(&fragment);
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
    Unit { source, last_valid: Some(Arc::new(value)), error: None, claimed_match: None }
}

/// A snapshot with the ClearML system, a base label and, for the queue `gpu`, `fragment` and `modules`.
fn snapshot(fragment: Value, modules: Vec<Module>) -> Snapshot {
    let source = || Source::Queue("GPU".to_owned());
    let base = layer(Source::Base, Conflict::Keep, json!({"metadata": {"labels": {"base": "yes"}}}));
    let graft = UnitSpec {
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
        plans: crate::merge::plan_cache::PlanCache::default(),
        pod_security: crate::k8s::pod_security::Levels::default(),
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
        base: Some(unit(Source::Base, UnitSpec { layers: vec![base], modules: Vec::new() })),
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
    match answer(&review(pod, SUBMITTER), snapshot, Execution::Pooled(&left), &Bump::new()) {
        Verdict::Done(answer) => answer,
        Verdict::NeedsPool(module) => panic!("slow: {module}"),
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

/// What comes of a fragment that a module returns: the refusal, or `done`.
fn said_of(pod: &Value, fragment: &Value) -> String {
    let text = fragment.to_string();
    let snapshot = snapshot(json!({}), vec![module(move |_| Ok(Returned::Fragment(text.clone())))]);
    answered_to(pod, &snapshot).message.unwrap_or_else(|| "done".to_owned())
}

/// A copy of the queue `gpu` without modules.
fn queue_of(snapshot: &Snapshot) -> Queue {
    let queue = snapshot.queues.by_name["gpu"].last_valid.as_deref().unwrap();
    Queue {
        name: queue.name.clone(),
        id: None,
        system: None,
        matches: Match::default(),
        base: queue.base.clone(),
        graft: UnitSpec { layers: queue.graft.layers.clone(), modules: Vec::new() },
    }
}

/// What becomes of a pod under the queue's layer.
fn under(pod: &Value, fragment: Value) -> Value {
    applied(pod, &answered_to(pod, &snapshot(fragment, vec![])))
}
