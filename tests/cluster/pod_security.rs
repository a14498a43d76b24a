//! Pod Security's warnings, by the labels of namespaces.

use serde_json::{Value, json};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{expect, quiet, same, says};
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::pod::{applied, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};

/// The security context that `restricted` demands of a container.
fn context() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Returns a pod that violates no level.
fn compliant(name: &str, queue: &str) -> Value {
    let mut pod = task_pod(name, queue);
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        container["securityContext"] = context();
    }
    pod
}

pub(crate) fn pod_security_warnings_are_denied_by_name_and_follow_the_labels(installation: &Installation) -> Outcome {
    let queue = |context: Value| json!({"templateOverrides": {"initContainers": [{"name": "fetch", "image": "busybox", "securityContext": context}]}});
    let queues = json!({"secured": queue(context()), "bare": queue(json!({}))});
    let ns = installation.create_namespace("pod-security", &format!("queues: {queues}"))?;
    ns.until_webhook_says("bare", "queue/bare")?;
    same("without a level", applied(&ns.create(&compliant("before", "bare"))?), "base, queue/bare")?;

    label(&ns, "restricted");
    let denial = until_denied(&ns)?;
    says(&denial, "(InvalidResult)")?;
    let path = "spec.initContainers[fetch].securityContext.allowPrivilegeEscalation";
    says(&denial, &format!("queue/bare: {path} must be false: the pod would violate its namespace's PodSecurity"))?;
    says(&denial, "\"restricted:latest\" (allowPrivilegeEscalation != false)")?;
    the_api_server_warns(&ns)?;
    same("a compliant layer", applied(&ns.create(&compliant("one", "secured"))?), "base, queue/secured")?;
    a_pod_with_warnings_of_its_own_is_created(&ns)?;

    // podgraft runs on while the labels change
    label(&ns, "baseline");
    until_quiet(&ns, "baseline")?;
    label(&ns, "restricted");
    until_denied(&ns)?;
    installation.cluster.kubectl_ok(&["label", "namespace", ns.name, "pod-security.kubernetes.io/warn-"]);
    until_quiet(&ns, "none")
}

fn label(ns: &TestNamespace<'_>, level: &str) {
    let label = format!("pod-security.kubernetes.io/warn={level}");
    ns.installation.cluster.kubectl_ok(&["label", "--overwrite", "namespace", ns.name, &label]);
}

fn until_denied(ns: &TestNamespace<'_>) -> Outcome<String> {
    wait_until("podgraft's denial", PATIENCE, || {
        let output = ns.dry_run(&compliant("denied", "bare"));
        Ok((!output.success()).then(|| output.stderr.trim().to_owned()))
    })
}

/// Waits until the layer goes through without a warning; the API server reads labels with a delay.
fn until_quiet(ns: &TestNamespace<'_>, level: &str) -> Outcome {
    wait_until("a pod that goes through", PATIENCE, || {
        let output = ns.dry_run(&compliant("dry", "bare"));
        Ok((output.success() && output.stderr.is_empty()).then_some(()))
    })?;
    let pod = compliant(&format!("level-{level}"), "bare").to_string();
    quiet(&ns.kubectl(&["create", "-f", "-"], &pod)).map(drop)
}

/// Checks that the API server warns of the denied pod if it is no task pod.
fn the_api_server_warns(ns: &TestNamespace<'_>) -> Outcome {
    let mut pod = compliant("alone", "bare");
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod["spec"]["initContainers"] = json!([{"name": "fetch", "image": "busybox"}]);
    let warning = wait_until("the API server's warning", PATIENCE, || {
        let output = ns.dry_run(&pod);
        expect(output.success(), || output.stderr.clone())?;
        Ok((!output.stderr.is_empty()).then_some(output.stderr))
    })?;
    says(&warning, "Warning: would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (")
}

fn a_pod_with_warnings_of_its_own_is_created(ns: &TestNamespace<'_>) -> Outcome {
    let output = ns.kubectl(&["create", "-f", "-"], &task_pod("loose", "bare").to_string());
    expect(output.success(), || output.stderr.clone())?;
    let lines: Vec<&str> = output.stderr.lines().collect();
    let warns = |line: &str| line.starts_with("Warning: would violate PodSecurity \"restricted:latest\": ");
    expect(matches!(lines[..], [only] if warns(only)), || output.stderr.clone())?;
    same("what was applied", applied(&ns.stored("loose")), "base, queue/bare")
}
