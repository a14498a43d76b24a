//! Makes a sample pod for every unit, as its task system would send it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::k8s::labels::{ENVIRONMENT, QUEUE};
use crate::merge::layer::Source;
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{Environment, Match, Queue, Snapshot};
use crate::model::system::{System, SystemKind};

/// A sample pod.
pub(super) struct Sample {
    /// the unit that the pod tries
    pub(super) unit: Source,
    pub(super) pod: Value,
}

/// Makes a sample pod for each unit and each task system that the unit may apply to.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Sample> {
    let mut samples = Vec::new();
    for system in &snapshot.systems {
        if snapshot.base.is_some() {
            samples.push(sample(Source::Base, system, &Match::default(), system_label(system)));
        }
        for unit in &snapshot.environments {
            if let Some(environment) = unit.last_valid.as_deref() {
                samples.push(environment_sample(&unit.source, environment, system));
            }
        }
        let queues: BTreeMap<_, _> = snapshot.queues.iter().map(|unit| (&unit.source, unit)).collect();
        for (source, queue) in
            queues.into_iter().filter_map(|(source, unit)| Some((source, unit.last_valid.as_deref()?)))
        {
            if queue.system.as_ref().is_none_or(|name| *name == system.name) {
                samples.extend(queue_sample(source, queue, system));
            }
        }
    }
    samples
}

fn environment_sample(source: &Source, environment: &Environment, system: &System) -> Sample {
    let mut labels = system_label(system);
    if environment.matches.is_empty() {
        labels.push((ENVIRONMENT.to_owned(), environment.name.clone()));
    }
    sample(source.clone(), system, &environment.matches, labels)
}

/// Returns `None` for a queue with an id and no name in a task system that has no ids.
fn queue_sample(source: &Source, queue: &Queue, system: &System) -> Option<Sample> {
    let name = canonical_queue_name(&queue.name);
    let mut labels = Vec::new();
    match system.kind {
        SystemKind::ClearML => {
            labels.extend(queue.id.clone().map(|id| ("clearml-agent-queue".to_owned(), id)));
            labels.push(("clearml-agent-queue-name".to_owned(), name));
        }
        SystemKind::Generic if name.is_empty() => return None,
        SystemKind::Generic => labels.push((QUEUE.to_owned(), name)),
    }
    Some(sample(source.clone(), system, &queue.matches, labels))
}

/// Returns the label by which a task system is detected.
fn system_label(system: &System) -> Vec<(String, String)> {
    match system.kind {
        SystemKind::ClearML => vec![("CLEARML".to_owned(), "agent".to_owned())],
        SystemKind::Generic => vec![(QUEUE.to_owned(), String::new())],
    }
}

fn sample(unit: Source, system: &System, matches: &Match, labels: Vec<(String, String)>) -> Sample {
    let namespace = matches.namespaces.first().or(system.namespaces.first()).map_or("default", String::as_str);
    let labels: BTreeMap<_, _> = matches.pod_labels.clone().into_iter().chain(labels).collect();
    let name = match system.kind {
        SystemKind::ClearML => format!("{}0123456789abcdef0123456789abcdef", system.pod_name_prefix),
        SystemKind::Generic => "sample".to_owned(),
    };
    let mut container = json!({
        "name": name, "image": "python:3.12", "command": ["/bin/bash"], "args": ["-c", "exit 0"],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
    });
    if system.kind == SystemKind::ClearML {
        let worker = json!({"name": "CLEARML_WORKER_ID", "value": "agent:0123456789abcdef0123456789abcdef"});
        container["env"] = json!([worker]);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [container]}});
    Sample { unit, pod }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;

    use super::*;
    use crate::config::{Builder, File, Input};
    use crate::explain::simulate::{Sender, review};
    use crate::model::pod::Pod;
    use crate::model::review::Review;
    use crate::model::task::Task;
    use crate::mutate::plan::Plan;

    const CONFIG: &str = "
apiVersion: podgraft.io/v1alpha1
kind: GraftConfig
systems:
  clearml: {type: ClearML, namespaces: [clearml]}
basePodTemplate: {labels: {base: b}}
environments:
  here: {match: {namespaces: [ml]}, podTemplate: {metadata: {labels: {here: b}}}}
  labelled: {match: {podLabels: {tier: gold}}, podTemplate: {metadata: {labels: {labelled: b}}}}
  named: {podTemplate: {metadata: {labels: {named: b}}}}
queues:
  GPU Queue: {id: 3f9a1c0d5b7e42d8a6c4e2f01b8d7a95, templateOverrides: {labels: {gpu: b}}}
  team: {system: generic, match: {namespaces: [team], podLabels: {x: z}}, templateOverrides: {labels: {team: b}}}
";

    /// The ClearML system has its own namespaces only, so its samples for other namespaces are no task pods.
    #[test]
    fn the_samples_of_every_unit_reach_the_unit() {
        let files = vec![File { name: "x.yaml".into(), text: CONFIG.to_owned() }];
        let input = Input { files, ..Input::default() };
        let built = Builder::default().build(&input, &|_, _| Err("there is none".into()));
        assert_eq!(built.errors.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        let mut reached = Vec::new();
        for sample in all(&built.snapshot) {
            let body = review(sample.pod, Sender::default(), &built.snapshot).unwrap().to_string();
            let arena = Bump::new();
            let review = Review::parse(body.as_bytes(), &arena).unwrap();
            let pod = Pod::from_review(&review);
            let Some(task) = Task::from_pod(&pod, &review, &built.snapshot).unwrap() else { continue };
            let plan = Plan::choose(&task, &pod, &built.snapshot).unwrap().unwrap();
            let is_applied = plan.layers.iter().any(|layer| layer.source == sample.unit);
            assert!(is_applied, "{} by {}", sample.unit, task.system.name);
            reached.push(format!("{} by {}", sample.unit, task.system.name));
        }
        let expected = [
            "base by clearml",
            "environment/labelled by clearml",
            "environment/named by clearml",
            "queue/GPU Queue by clearml",
            "base by generic",
            "environment/here by generic",
            "environment/labelled by generic",
            "environment/named by generic",
            "queue/GPU Queue by generic",
            "queue/team by generic",
        ];
        assert_eq!(reached, expected);
    }
}
