//! Configurations as files hold them, and why a pod did not get all of it.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::merge::layer::{Conflict, Layer};
use crate::model::snapshot::{Environment, Queues, Unit, UnitSpec};
use crate::model::system::{System, SystemKind};

fn layer(source: Source, conflict: Conflict, line: u32, fragment: Value) -> Layer {
    Layer {
        source,
        file: "podgraft.yaml".into(),
        line,
        file_mounts: None,
        conflict,
        explicit: false,
        placeholders: false,
        unknown: false,
        fragment,
    }
}

fn unit<T>(source: Source, value: T) -> Unit<T> {
    Unit { source, last_valid: Some(Arc::new(value)), error: None, claimed_match: None }
}

#[expect(clippy::needless_pass_by_value, reason = "json! gives values")]
fn primary(parts: Value) -> Value {
    let mut entry = json!({"name": "primary"});
    entry.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    json!({"spec": {"containers": [entry]}})
}

fn snapshot() -> Snapshot {
    let variable = |value: &str| primary(json!({"env": [{"name": "A", "value": value}]}));
    let base = layer(Source::Base, Conflict::Keep, 3, primary(json!({"env": [], "workingDir": "/base"})));
    let kept = layer(Source::Base, Conflict::Keep, 3, primary(json!({"workingDir": "/base"})));
    let source = Source::Queue("GPU".to_owned());
    let queue = Queue {
        name: "GPU".to_owned(),
        id: None,
        system: None,
        matches: Match { namespaces: vec!["ml".to_owned()], ..Match::default() },
        base: Some(kept),
        graft: UnitSpec {
            layers: vec![
                layer(source.clone(), Conflict::Override, 9, variable("the queue's")),
                layer(source.clone(), Conflict::Override, 12, primary(json!({"workingDir": "/queue"}))),
            ],
            modules: Vec::new(),
        },
    };
    let environment = |name: &str, matches: Match| {
        let value = Environment { name: name.to_owned(), priority: 0, matches, graft: UnitSpec::default() };
        unit(Source::Environment(name.to_owned()), value)
    };
    let labelled = Match { pod_labels: [("tier".to_owned(), "prod".to_owned())].into(), ..Match::default() };
    let system = |name: &str, kind, prefix: &str| System {
        name: name.to_owned(),
        kind,
        namespaces: Vec::new(),
        pod_name_prefix: prefix.to_owned(),
        submitters: Vec::new(),
    };
    Snapshot {
        systems: vec![system("clearml", SystemKind::ClearML, "clearml-id-"), system("own", SystemKind::Generic, "")],
        base: Some(unit(Source::Base, UnitSpec { layers: vec![base], modules: Vec::new() })),
        environments: vec![environment("prod", labelled), environment("dev", Match::default())],
        queues: Queues { by_name: [("gpu".to_owned(), unit(source, queue))].into(), ..Queues::default() },
        ..Snapshot::default()
    }
}

fn pod(queue: &str) -> Value {
    json!({"metadata": {"name": "t", "labels": {"clearml-agent-queue-name": queue}}, "spec": {"containers": [
        {"name": "t", "image": "i", "env": [{"name": "A", "value": "the task's"}], "workingDir": "/own"}]}})
}

/// What an account says, line by line.
fn said(pod: &Value, namespace: &str, snapshot: &Snapshot) -> Vec<String> {
    let request = json!({"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": namespace, "object": pod});
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string();
    let arena = Bump::new();
    let review = Review::parse(body.as_bytes(), &arena).unwrap();
    let left = || Duration::from_secs(1);
    let explanation = explain(&review, snapshot, Execution::Pooled(&left), &arena);
    let passed = explanation.not_applied.iter().map(|passed| format!("{} {}", passed.source, passed.why));
    let lost = explanation.overridden.iter().map(|lost| {
        let at = lost.at.as_ref().map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"));
        let to = lost.to.as_ref().map_or("the pod's own".to_owned(), Source::to_string);
        format!("{}{at}: {} stays {to}", lost.source, lost.path)
    });
    explanation.skipped.into_iter().chain(passed).chain(lost).collect()
}

#[test]
fn what_a_layer_lost_and_to_whom_is_told() {
    let lines = said(&pod("gpu"), "ml", &snapshot());
    assert_eq!(
        lines,
        [
            "base gives no env: queue/GPU replaces them",
            "environment/prod is for pods with the label tier=prod",
            "environment/dev has no match, so it is for pods with the label podgraft.io/environment=dev only",
            "base (podgraft.yaml:3): spec.containers[t].workingDir stays queue/GPU",
            "queue/GPU (podgraft.yaml:9): spec.containers[t].env[A] stays the pod's own",
        ]
    );
}

#[test]
fn a_queue_that_gives_nothing_says_why() {
    let snapshot = snapshot();
    let last = |queue: &str, namespace: &str| {
        let lines = said(&pod(queue), namespace, &snapshot);
        lines.into_iter().rfind(|line| line.starts_with("queue/")).unwrap()
    };
    assert_eq!(last("gpu", "dev"), "queue/GPU is for the namespaces ml, not for dev");
    assert_eq!(last("gpus", "ml"), "queue/gpus is not configured; the nearest is 'gpu'");
    assert_eq!(last("elsewhere", "ml"), "queue/elsewhere is not configured");
}

#[test]
fn a_pod_that_is_left_alone_says_why() {
    let mut snapshot = snapshot();
    let mut other = pod("gpu");
    other["metadata"]["labels"] = json!({"app": "web"});
    assert_eq!(said(&other, "ml", &snapshot), ["it is no task pod: it has no label of a configured task system"]);
    snapshot.unknown_queue = UnknownQueue::Ignore;
    let alone = said(&pod("gpux"), "ml", &snapshot).remove(0);
    assert_eq!(alone, "its queue 'gpux' is not configured (unknownQueue: Ignore)");
    snapshot.namespace = "ml".to_owned();
    assert_eq!(said(&pod("gpu"), "ml", &snapshot)[0], "it is in podgraft's own namespace");
}
