//! Fields that the API server and its plugins derive from others; and the warnings of the API server, each of which fails
//! a ClearML task.

use serde_json::{Value, json};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{expect, quiet, same, says};
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::pod::{named, primary, task_pod};

/// Creates service accounts with pull secrets, one of them without a token, and classes. Classes are cluster-wide, so
/// their names hold the name of the namespace, which is also its queue.
fn plugins(ns: &TestNamespace<'_>) {
    let objects = "\
        {apiVersion: v1, kind: ServiceAccount, metadata: {name: submitter, namespace: NAMESPACE}, imagePullSecrets: [{name: of-submitter}]}\n---\n\
        {apiVersion: v1, kind: ServiceAccount, metadata: {name: trainer, namespace: NAMESPACE}, imagePullSecrets: [{name: of-trainer}], \
         automountServiceAccountToken: false}\n---\n\
        {apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: polite-NAMESPACE}, value: 700, preemptionPolicy: Never}\n---\n\
        {apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: heavy-NAMESPACE}, handler: heavy, overhead: {podFixed: {cpu: 100m}}}\n---\n\
        {apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: light-NAMESPACE}, handler: light}\n";
    ns.installation.cluster.apply(&objects.replace("NAMESPACE", ns.name));
}

/// A queue with a layer that sets all fields on which others depend.
fn everything(queue: &str) -> String {
    format!(
        "queues:
  {queue}:
    match: {{namespaces: [NAMESPACE]}}
    podTemplate:
      spec:
        initContainers: [{{name: prepare, image: busybox}}]
    conflict: Override
    templateOverrides:
      serviceAccountName: trainer
      priorityClassName: polite-NAMESPACE
      runtimeClassName: light-NAMESPACE
      resources: {{limits: {{cpu: 2, memory: 1.5Gi}}}}
      hostAliases: [{{ip: 10.0.0.9, hostnames: [nfs]}}]
      env: [{{name: PATH_OF_TASK, value: '/tasks/${{pod.name}}'}}]
      topologySpreadConstraints:
        - {{topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: {{}}}}
"
    )
}

/// A pod as an agent would send it: a task's variable given twice, and an init container of an older image.
fn pod(name: &str, queue: &str) -> Value {
    let mut pod = task_pod(name, queue);
    pod["spec"]["serviceAccountName"] = "submitter".into();
    pod["spec"]["runtimeClassName"] = format!("heavy-{queue}").into();
    pod["spec"]["initContainers"] = json!([{"name": "prepare", "image": "busybox:1.36"}]);
    let task = &mut pod["spec"]["containers"][1];
    task["resources"] = json!({"limits": {"cpu": "4", "memory": "2Gi"}});
    task["env"] = json!([{"name": "SEED", "value": "1"}, {"name": "SEED", "value": "2"}]);
    pod
}

pub(crate) fn another_service_account_and_other_classes_replace_what_the_old_ones_brought(
    installation: &Installation,
) -> Outcome {
    let ns = installation.create_namespace("dependents", &everything("dependents"))?;
    ns.until_webhook_says("dependents", "queue/dependents")?;
    plugins(&ns);
    let spec = ns.create(&pod("changed", "dependents"))?["spec"].clone();
    for (what, found, expected) in [
        ("the service account", &spec["serviceAccountName"], json!("trainer")),
        ("the deprecated name of the service account", &spec["serviceAccount"], json!("trainer")),
        ("the pull secrets", &spec["imagePullSecrets"], json!([{"name": "of-trainer"}])),
        ("the volumes", &spec["volumes"], Value::Null),
        ("the task's mounts", &named(&spec["containers"], "changed")["volumeMounts"], Value::Null),
        ("the priority", &spec["priority"], json!(700)),
        ("the policy", &spec["preemptionPolicy"], json!("Never")),
        ("the overhead", &spec["overhead"], Value::Null),
        (
            "the requests",
            &named(&spec["containers"], "changed")["resources"]["requests"],
            json!({"cpu": "2", "memory": "1536Mi"}),
        ),
        ("the pull policy", &named(&spec["initContainers"], "prepare")["imagePullPolicy"], json!("Always")),
    ] {
        same(what, found, &expected)?;
    }
    Ok(())
}

pub(crate) fn a_stack_of_layers_causes_no_warning(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("warnings", &everything("warnings"))?;
    ns.until_webhook_says("warnings", "queue/warnings")?;
    plugins(&ns);
    let manifest = pod("quiet", "warnings");
    quiet(&ns.kubectl(&["apply", "-f", "-"], &manifest.to_string()))?;
    let stored = ns.stored("quiet");
    same("the variable", &primary(&stored)["env"][1], &json!({"name": "SEED", "value": "2"}))?;
    same("the placeholder", &primary(&stored)["env"][0]["value"], &json!("/tasks/quiet"))?;

    // The same pod without a task's labels is not sent: the API server warns.
    let mut alone = pod("loud", "warnings");
    alone["metadata"]["labels"] = json!({"app": "web"});
    let applied = ns.kubectl(&["apply", "-f", "-"], &alone.to_string());
    expect(applied.success(), || applied.stderr.clone())?;
    says(&applied.stderr, "Warning: spec.containers[1].env[1]: hides previous definition of \"SEED\"")
}

pub(crate) fn a_layer_that_would_cause_a_warning_is_denied_by_name(installation: &Installation) -> Outcome {
    let layer =
        "queues: {ports: {templateOverrides: {sidecars: [{name: ssh, image: ssh, ports: [{containerPort: 10022}]}]}}}";
    let ns = installation.create_namespace("ports", layer)?;
    ns.until_webhook_says("ports", "queue/ports")?;
    let mut pod = task_pod("one", "ports");
    pod["spec"]["containers"][1]["ports"] = json!([{"containerPort": 10022}]);
    let said = ns.expect_denial(&pod)?;
    says(&said, "queue/ports: ")?;
    says(&said, "ports[10022/TCP] would cause a warning of the API server")
}

pub(crate) fn an_invalid_queue_label_is_repaired(installation: &Installation) -> Outcome {
    let ns =
        installation.create_namespace("repaired", "queues: {Größe XL: {templateOverrides: {labels: {size: xl}}}}")?;
    ns.until_webhook_says("größe-xl", "queue/Größe XL")?;
    let created = ns.create_in("größe-xl", "one")?;
    let labels = &created["metadata"]["labels"];
    same("the queue's label", &labels["clearml-agent-queue-name"], &json!("gr-e-xl"))?;
    same("the queue's layer", &labels["size"], &json!("xl"))
}

pub(crate) fn other_sources_and_alternatives_are_stored_as_applied(installation: &Installation) -> Outcome {
    let term = |keys: &[&str]| {
        let expressions = keys.iter().map(|key| json!({"key": key, "operator": "Exists"}));
        json!({"matchExpressions": expressions.collect::<Vec<_>>()})
    };
    let required = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let queue = json!({"conflict": "Override", "templateOverrides": {
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "new"}}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "affinity": required(json!([term(&["a"]), term(&["b"])])),
    }});
    let ns = installation.create_namespace("unions", &format!("queues: {{unions: {queue}}}"))?;
    ns.until_webhook_says("unions", "queue/unions")?;
    let mut pod = task_pod("one", "unions");
    pod["spec"]["volumes"] = json!([
        {"name": "scratch", "emptyDir": {"medium": "Memory"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "old", "readOnly": true}},
    ]);
    pod["spec"]["affinity"] = required(json!([term(&["own"]), term(&["a"])]));
    pod["spec"]["containers"][1]["env"] =
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": true}}}]);
    let stored = ns.create(&pod)?;
    same("the scratch volume", &named(&stored["spec"]["volumes"], "scratch")["emptyDir"], &json!({}))?;
    let claim = &named(&stored["spec"]["volumes"], "data")["persistentVolumeClaim"];
    same("the claim", claim, &json!({"claimName": "new"}))?;
    let variable = named(&primary(&stored)["env"], "A");
    same("the variable", &variable["valueFrom"]["fieldRef"]["fieldPath"], &json!("metadata.name"))?;
    let terms = json!([term(&["own", "a"]), term(&["own", "b"]), term(&["a"])]);
    same("the alternatives", &stored["spec"]["affinity"], &required(terms))
}

pub(crate) fn a_sidecar_named_as_a_container_is_denied_by_name(installation: &Installation) -> Outcome {
    let layer = "queues: {names: {templateOverrides: {sidecars: [{name: one, image: proxy}]}}}";
    let ns = installation.create_namespace("names", layer)?;
    ns.until_webhook_says("names", "queue/names")?;
    let said = ns.expect_denial(&task_pod("one", "names"))?;
    says(&said, "queue/names: spec.initContainers[one] has the name of another container of the pod")
}
