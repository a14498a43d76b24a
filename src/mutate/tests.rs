//! Whole reviews, with hand-made configuration and modules that are closures.

mod layers;
mod modules;
mod placeholders;
mod requests;
mod results;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use serde_json::{Value, json};

use super::fixtures::{self, layer, queue, unit};
use super::*;
use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::hook::Execution;
use crate::model::hook::{Budget, Hook, HookError, HookOutput, HookRequest, HookResponse, LogLevel, LogLine};
use crate::model::snapshot::Snapshot;
use crate::model::snapshot::{Match, Module, OnError, Unit, UnknownQueue, Vault};

const SUBMITTER: &str = "system:serviceaccount:clearml:clearml-agent-sa";
const ID: &str = "6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60";

/// A hook that is a closure over its arguments.
struct Fake<F>(F);

impl<F> fmt::Debug for Fake<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Fake")
    }
}

impl<F: Fn(&HookRequest<'_>) -> Result<HookOutput, HookError> + Send + Sync> Hook for Fake<F> {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        let logs = vec![LogLine { level: LogLevel::Info, message: format!("saw {}", call.template) }];
        HookResponse { result: (self.0)(call), logs, elapsed: Duration::ZERO }
    }
}

fn module(code: impl Fn(&HookRequest<'_>) -> Result<HookOutput, HookError> + Send + Sync + 'static) -> Module {
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

/// Returns a snapshot with the ClearML system, a base label and, for the queue `gpu`, `fragment` and `modules`.
fn snapshot(fragment: Value, modules: Vec<Module>) -> Snapshot {
    let base = layer(Source::Base, Conflict::Keep, json!({"metadata": {"labels": {"base": "yes"}}}));
    let source = Source::Queue("GPU".to_owned());
    let mut gpu = queue("GPU", Some(base.clone()), vec![layer(source.clone(), Conflict::Override, fragment)]);
    gpu.spec.modules = modules.into_iter().map(Arc::new).collect();
    let mut snapshot = Snapshot {
        generation: 1,
        digest: "d1".to_owned(),
        namespace: "podgraft".to_owned(),
        unknown_queue: UnknownQueue::Base,
        ..fixtures::snapshot(vec![base])
    };
    snapshot.systems.truncate(1);
    snapshot.systems[0].submitters = vec![SUBMITTER.to_owned()];
    snapshot.queues.by_name.insert("gpu".to_owned(), unit(source, gpu));
    snapshot
}

/// Replaces the layers of the queue `gpu`.
fn set_queue_layers(snapshot: &mut Snapshot, layers: Vec<Layer>) {
    let base = snapshot.queues.by_name["gpu"].last_valid.as_ref().unwrap().base.clone();
    let source = Source::Queue("GPU".to_owned());
    snapshot.queues.by_name.insert("gpu".to_owned(), unit(source, queue("GPU", base, layers)));
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
    fixtures::review(pod, pod["metadata"]["namespace"].as_str().unwrap(), user)
}

fn answer_for(pod: &Value, snapshot: &Snapshot) -> Answer {
    let left = || Duration::from_secs(1);
    match answer(&review(pod, SUBMITTER), snapshot, Execution::Pooled(&left), &Bump::new()) {
        Verdict::Done(answer) => answer,
        Verdict::NeedsPool(module) => panic!("slow: {module}"),
    }
}

/// Applies the answer's patch to the pod, with json-patch.
fn patched(pod: &Value, answer: &Answer) -> Value {
    use base64::Engine as _;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(reply["response"]["uid"], "u-1");
    assert_eq!(reply["response"]["allowed"], true, "{reply}");
    let mut result = pod.clone();
    if let Some(patch) = reply["response"]["patch"].as_str() {
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        json_patch::patch(&mut result, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    }
    result
}

fn denial(pod: &Value, snapshot: &Snapshot) -> String {
    let answer = answer_for(pod, snapshot);
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(reply["response"]["allowed"], false, "{reply}");
    assert!(reply["response"]["patch"].is_null());
    format!("{} {} {}", reply["response"]["status"]["code"], answer.reason.unwrap(), answer.message.unwrap())
}

/// Returns the message about a fragment that a module returns: the denial, or `done`.
fn message_for(pod: &Value, fragment: &Value) -> String {
    let text = fragment.to_string();
    let snapshot = snapshot(json!({}), vec![module(move |_| Ok(HookOutput::Fragment(text.clone())))]);
    answer_for(pod, &snapshot).message.unwrap_or_else(|| "done".to_owned())
}

/// Returns the pod after the queue's layer `fragment`.
fn with_layer(pod: &Value, fragment: Value) -> Value {
    patched(pod, &answer_for(pod, &snapshot(fragment, vec![])))
}
