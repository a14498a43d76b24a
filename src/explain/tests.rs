//! The reasons for settings that did not reach a pod.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::merge::layer::{Conflict, Layer};
use crate::model::snapshot::{Environment, UnitSpec};
use crate::mutate::fixtures::{self, queue, review, unit};

fn layer(source: Source, conflict: Conflict, line: u32, fragment: Value) -> Layer {
    Layer { line, ..fixtures::layer(source, conflict, fragment) }
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
    let layers = vec![
        layer(source.clone(), Conflict::Override, 9, variable("the queue's")),
        layer(source.clone(), Conflict::Override, 12, primary(json!({"workingDir": "/queue"}))),
    ];
    let matches = Match { namespaces: vec!["ml".to_owned()], ..Match::default() };
    let gpu = Queue { matches, ..queue("GPU", Some(kept), layers) };
    let environment = |name: &str, matches: Match| {
        let value = Environment { name: name.to_owned(), priority: 0, matches, spec: UnitSpec::default() };
        unit(Source::Environment(name.to_owned()), value)
    };
    let labelled = Match { pod_labels: [("tier".to_owned(), "prod".to_owned())].into(), ..Match::default() };
    let mut snapshot = fixtures::snapshot(vec![base]);
    snapshot.environments = vec![environment("prod", labelled), environment("dev", Match::default())];
    snapshot.queues.by_name.insert("gpu".to_owned(), unit(source, gpu));
    snapshot
}

fn pod(queue: &str) -> Value {
    json!({"metadata": {"name": "t", "labels": {"clearml-agent-queue-name": queue}}, "spec": {"containers": [
        {"name": "t", "image": "i", "env": [{"name": "A", "value": "the task's"}], "workingDir": "/own"}]}})
}

/// Returns the reasons of an explanation, line by line.
fn reasons(pod: &Value, namespace: &str, snapshot: &Snapshot) -> Vec<String> {
    let (body, arena) = (review(pod, namespace, ""), Bump::new());
    let review = Review::parse(&body, &arena).unwrap();
    let left = || Duration::from_secs(1);
    let explanation = explain(&review, snapshot, Execution::Pooled(&left), &arena);
    let not_applied = explanation.not_applied.iter().map(|unit| format!("{} {}", unit.source, unit.reason));
    let overridden = explanation.overridden.iter().map(|value| {
        let place = value.location.as_ref().map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"));
        let winner = value.winner.as_ref().map_or("the pod".to_owned(), Source::to_string);
        format!("{}{place}: {} is overridden by {winner}", value.source, value.path)
    });
    explanation.skipped.into_iter().chain(not_applied).chain(overridden).collect()
}

#[test]
fn an_overridden_setting_names_the_winner() {
    let lines = reasons(&pod("gpu"), "ml", &snapshot());
    assert_eq!(
        lines,
        [
            "base does not set env: replaced by queue/GPU",
            "environment/prod matches pods with the label tier=prod",
            "environment/dev has no match: it applies only to pods with the label podgraft.io/environment=dev",
            "base (podgraft.yaml:3): spec.containers[t].workingDir is overridden by queue/GPU",
            "queue/GPU (podgraft.yaml:9): spec.containers[t].env[A] is overridden by the pod",
        ]
    );
}

#[test]
fn a_queue_that_does_not_apply_has_a_reason() {
    let snapshot = snapshot();
    let last = |queue: &str, namespace: &str| {
        let lines = reasons(&pod(queue), namespace, &snapshot);
        lines.into_iter().rfind(|line| line.starts_with("queue/")).unwrap()
    };
    assert_eq!(last("gpu", "dev"), "queue/GPU matches the namespaces ml, not dev");
    assert_eq!(last("gpus", "ml"), "queue/gpus is not configured; did you mean gpu?");
    assert_eq!(last("elsewhere", "ml"), "queue/elsewhere is not configured");
}

#[test]
fn a_skipped_pod_has_a_reason() {
    let mut snapshot = snapshot();
    let mut other = pod("gpu");
    other["metadata"]["labels"] = json!({"app": "web"});
    assert_eq!(reasons(&other, "ml", &snapshot), ["it is not a task pod: it has no label of a configured task system"]);
    snapshot.unknown_queue = UnknownQueue::Ignore;
    let skipped = reasons(&pod("gpux"), "ml", &snapshot).remove(0);
    assert_eq!(skipped, "its queue 'gpux' is not configured (unknownQueue: Ignore)");
    snapshot.namespace = "ml".to_owned();
    assert_eq!(reasons(&pod("gpu"), "ml", &snapshot)[0], "it is in podgraft's own namespace");
}
