//! Pod Security's warnings, by the labels of namespaces.

use serde_json::{Value, json};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{expect, quiet, same, says};
use podgraft_testkit::installation::{Place, World};
use podgraft_testkit::pod::{applied, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};

/// What `restricted` asks of a container.
fn context() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// A pod that violates nothing.
fn compliant(name: &str, queue: &str) -> Value {
    let mut pod = task_pod(name, queue);
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        container["securityContext"] = context();
    }
    pod
}

pub(crate) fn what_a_namespace_warns_of_is_refused_by_name_and_followed(world: &World) -> Outcome {
    let queue = |context: Value| json!({"templateOverrides": {"initContainers": [{"name": "fetch", "image": "busybox", "securityContext": context}]}});
    let queues = json!({"secured": queue(context()), "bare": queue(json!({}))});
    let place = world.place("pod-security", &format!("queues: {queues}"))?;
    place.until_says("bare", "queue/bare")?;
    same("without a level", applied(&place.create(&compliant("before", "bare"))?), "base, queue/bare")?;

    label(&place, "restricted");
    let refusal = until_refused(&place)?;
    says(&refusal, "(InvalidResult)")?;
    let path = "spec.initContainers[fetch].securityContext.allowPrivilegeEscalation";
    says(&refusal, &format!("queue/bare: {path} must be false: the pod would violate its namespace's PodSecurity"))?;
    says(&refusal, "\"restricted:latest\" (allowPrivilegeEscalation != false)")?;
    the_api_server_warns(&place)?;
    same("a compliant layer", applied(&place.create(&compliant("one", "secured"))?), "base, queue/secured")?;
    a_pod_of_which_is_warned_anyway_is_let_through(&place)?;

    // podgraft runs on while the labels change
    label(&place, "baseline");
    until_quiet(&place, "baseline")?;
    label(&place, "restricted");
    until_refused(&place)?;
    world.cluster.kubectl_ok(&["label", "namespace", place.name, "pod-security.kubernetes.io/warn-"]);
    until_quiet(&place, "none")
}

fn label(place: &Place<'_>, level: &str) {
    let label = format!("pod-security.kubernetes.io/warn={level}");
    place.world.cluster.kubectl_ok(&["label", "--overwrite", "namespace", place.name, &label]);
}

fn until_refused(place: &Place<'_>) -> Outcome<String> {
    wait_until("podgraft's refusal", PATIENCE, || {
        let pod = compliant("refused", "bare").to_string();
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod);
        Ok((!output.success()).then(|| output.stderr.trim().to_owned()))
    })
}

/// Waits until the layer goes through and nobody warns; the API server takes labels over in its own time.
fn until_quiet(place: &Place<'_>, level: &str) -> Outcome {
    wait_until("a pod that goes through", PATIENCE, || {
        let pod = compliant("dry", "bare").to_string();
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod);
        Ok((output.success() && output.stderr.is_empty()).then_some(()))
    })?;
    let pod = compliant(&format!("level-{level}"), "bare").to_string();
    quiet(&place.kubectl(&["create", "-f", "-"], &pod)).map(drop)
}

/// Of what podgraft refuses, were it nobody's task.
fn the_api_server_warns(place: &Place<'_>) -> Outcome {
    let mut pod = compliant("alone", "bare");
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod["spec"]["initContainers"] = json!([{"name": "fetch", "image": "busybox"}]);
    let warning = wait_until("the API server's warning", PATIENCE, || {
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod.to_string());
        expect(output.success(), || output.stderr.clone())?;
        Ok((!output.stderr.is_empty()).then_some(output.stderr))
    })?;
    says(&warning, "Warning: would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (")
}

fn a_pod_of_which_is_warned_anyway_is_let_through(place: &Place<'_>) -> Outcome {
    let output = place.kubectl(&["create", "-f", "-"], &task_pod("loose", "bare").to_string());
    expect(output.success(), || output.stderr.clone())?;
    let lines: Vec<&str> = output.stderr.lines().collect();
    let warns = |line: &str| line.starts_with("Warning: would violate PodSecurity \"restricted:latest\": ");
    expect(matches!(lines[..], [only] if warns(only)), || output.stderr.clone())?;
    same("what was applied", applied(&place.stored("loose")), "base, queue/bare")
}
