//! Pods as their submitters create them, and the stored pods.

use serde_json::{Value, json};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{as_json, expect, quiet, same, says};
use podgraft_testkit::fixtures::clearml_manifest;
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::pod::{applied, env, named, primary, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};

/// The queues' additions, key by key.
const QUEUE: &str = "
    match: {namespaces: [NAMESPACE]}
    merge: Strategic
    templateOverrides:
      labels: {squad: blue}
      annotations: {example.com/owner: blue}
      nodeSelector: {pool: fast}
      resources: {limits: {example.com/fpga: 1}}
      env: [{name: NCCL_SOCKET_IFNAME, value: eth0}]
      volumes: [{name: scratch, emptyDir: {}}]
      volumeMounts: [{name: scratch, mountPath: /scratch}]
      initContainers: [{name: warm-up, image: busybox, command: ['true']}]
";

const ENVIRONMENT: &str = "
environments:
  NAMESPACE:
    match: {namespaces: [NAMESPACE]}
    podTemplate:
      metadata: {labels: {tier: prod}, annotations: {example.com/cost: '42'}}
      spec:
        containers: [{name: primary, env: [{name: FROM_ENVIRONMENT, value: prod}]}]
";

// The large pod's queue and environment add no toleration: kubectl could not apply its manifest, which sets some, twice.
const TOLERATION: &str = "        tolerations: [{key: prod, operator: Exists, effect: NoSchedule}]\n";

pub(crate) fn a_small_clearml_pod_comes_back_as_configured(installation: &Installation) -> Outcome {
    let config = format!("{ENVIRONMENT}{TOLERATION}queues:\n  GPU Queue For Team.A:{QUEUE}");
    let ns = installation.create_namespace("clearml-small", &config)?;
    let pod = comes_back_as_configured(&ns, "pod-small.yaml", "GPU Queue For Team.A")?;
    is_tolerant(&pod)?;
    same("a task's own variable", env(&pod, "GREETING"), "hello, world")
}

pub(crate) fn a_clearml_pod_with_its_images_entrypoint_comes_back_as_configured(
    installation: &Installation,
) -> Outcome {
    let config = format!("{ENVIRONMENT}{TOLERATION}queues:\n  GPUs_with_shared_memory:{QUEUE}");
    let ns = installation.create_namespace("clearml-entrypoint", &config)?;
    let pod = comes_back_as_configured(&ns, "pod-entrypoint.yaml", "GPUs_with_shared_memory")?;
    is_tolerant(&pod)
}

pub(crate) fn a_large_clearml_pod_comes_back_as_configured(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("clearml-large", &format!("{ENVIRONMENT}queues:\n  1xGPU:{QUEUE}"))?;
    classes(installation);
    let pod = comes_back_as_configured(&ns, "pod-large.yaml", "1xGPU")?;
    same("the pod's own selector", &pod["spec"]["nodeSelector"]["accelerator"], &json!("nvidia-l4"))?;
    same("the pod's own limit", &primary(&pod)["resources"]["limits"]["nvidia.com/gpu"], &json!("1"))
}

/// Applies a manifest twice, as the agent, and checks all additions of base, environment and queue.
fn comes_back_as_configured(ns: &TestNamespace<'_>, file: &str, queue: &str) -> Outcome<Value> {
    let manifest = clearml_manifest(file, ns.name)?;
    ns.until_webhook_says(queue, &format!("queue/{queue}"))?;
    let created = ns.kubectl(&["apply", "-f", "-"], &manifest);
    let given: Value = serde_saphyr::from_str(&manifest).map_err(|error| error.to_string())?;
    let name = given["metadata"]["name"].as_str().unwrap_or_default();
    same("kubectl's word", quiet(&created)?, &format!("pod/{name} created\n"))?;

    let pod = ns.stored(name);
    same("the applied layers", applied(&pod), &format!("base, environment/{}, queue/{queue}", ns.name))?;
    is_unchanged(&pod, &given)?;
    has_what_is_configured(&pod)?;

    quiet(&ns.kubectl(&["apply", "-f", "-"], &manifest))?;
    same("the pod, applied again,", &ns.stored(name), &pod)?;
    Ok(pod)
}

fn is_unchanged(pod: &Value, given: &Value) -> Outcome {
    for key in ["name", "image", "command", "args"] {
        same(key, &primary(pod)[key], &primary(given)[key])?;
    }
    for (label, value) in given["metadata"]["labels"].as_object().into_iter().flatten() {
        same(label, &pod["metadata"]["labels"][label], value)?;
    }
    for variable in primary(given)["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        same(name, named(&primary(pod)["env"], name), variable)?;
    }
    Ok(())
}

fn has_what_is_configured(pod: &Value) -> Outcome {
    let (metadata, spec, task) = (&pod["metadata"], &pod["spec"], primary(pod));
    for (what, found, expected) in [
        ("base", env(pod, "FROM_BASE"), "everywhere"),
        ("environment", env(pod, "FROM_ENVIRONMENT"), "prod"),
        ("queue", env(pod, "NCCL_SOCKET_IFNAME"), "eth0"),
    ] {
        same(what, found, expected)?;
    }
    for (what, found, expected) in [
        ("the environment's label", &metadata["labels"]["tier"], json!("prod")),
        ("the queue's label", &metadata["labels"]["squad"], json!("blue")),
        ("the environment's annotation", &metadata["annotations"]["example.com/cost"], json!("42")),
        ("the queue's annotation", &metadata["annotations"]["example.com/owner"], json!("blue")),
        ("the selector", &spec["nodeSelector"]["pool"], json!("fast")),
        ("the limit", &task["resources"]["limits"]["example.com/fpga"], json!("1")),
        ("the request", &task["resources"]["requests"]["example.com/fpga"], json!("1")),
        ("the volume", named(&spec["volumes"], "scratch"), json!({"name": "scratch", "emptyDir": {}})),
        ("the mount", named(&task["volumeMounts"], "scratch"), json!({"name": "scratch", "mountPath": "/scratch"})),
        ("the init container", &named(&spec["initContainers"], "warm-up")["command"], json!(["true"])),
    ] {
        same(what, found, &expected)?;
    }
    Ok(())
}

fn is_tolerant(pod: &Value) -> Outcome {
    let toleration = json!({"key": "prod", "operator": "Exists", "effect": "NoSchedule"});
    let tolerations = pod["spec"]["tolerations"].as_array();
    let has_it = tolerations.is_some_and(|tolerations| tolerations.contains(&toleration));
    expect(has_it, || format!("tolerations: {}", pod["spec"]["tolerations"]))
}

/// The classes that the large pod names: the API server denies a pod whose classes do not exist.
fn classes(installation: &Installation) {
    installation.cluster.apply(
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: training}, value: 1000}\n---\n\
         {apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: nvidia}, handler: nvidia}\n",
    );
}

pub(crate) fn a_changed_limit_takes_its_request_along(installation: &Installation) -> Outcome {
    let limits = "{nvidia.com/gpu: 2, memory: 48Gi}";
    let config = format!("queues:\n  more-gpus: {{templateOverrides: {{resources: {{limits: {limits}}}}}}}");
    let ns = installation.create_namespace("limits", &config)?;
    ns.until_webhook_says("more-gpus", "queue/more-gpus")?;
    classes(installation);
    let manifest = clearml_manifest("pod-large.yaml", ns.name)?.replace("name: 1xgpu", "name: more-gpus");
    quiet(&ns.kubectl(&["apply", "-f", "-"], &manifest))?;
    let pod = ns.stored("clearml-id-c0a8e7d6b5f44e3392817a6b5c4d3e2f");
    let expected = json!({
        "limits": {"cpu": "8", "memory": "48Gi", "nvidia.com/gpu": "2"},
        "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"},
    });
    same("resources", &primary(&pod)["resources"], &expected)?;
    // kubectl tries to restore the value that a layer overrides, but pods are immutable
    let again = ns.kubectl(&["apply", "-f", "-"], &manifest);
    says(&again.stderr, "Forbidden: pod updates may not change fields")
}

pub(crate) fn a_jobs_pod_gets_the_layers_and_no_identity(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace(
        "clearml-job",
        &format!(
            "{ENVIRONMENT}queues:\n  jobs:{QUEUE}    modules: [clearml-job]\n\
             modules: {{clearml-job: {{wasm: inject-nfs.wasm, when: has(task_config.nfs)}}}}\n\
             taskConfig: [{{match: {{namespaces: [NAMESPACE], user: alice}}, \
             config: {{nfs: {{server: {{ip: 10.0.0.7, path: /alice}}, mountPath: /mnt}}}}}}]\n"
        ),
    )?;
    ns.until_webhook_says("jobs", "queue/jobs")?;
    let manifest = clearml_manifest("job.yaml", ns.name)?.replace("gpus-with-shared-memory", "jobs").replace(
        "template:\n    metadata:\n",
        "template:\n    metadata:\n      annotations: {podgraft.io/user: alice}\n",
    );
    expect(manifest.contains("alice"), || "the manifest has changed".into())?;
    quiet(&ns.kubectl(&["apply", "-f", "-"], &manifest))?;
    let job = "clearml-id-2a4c6e8f0b1d43579f8e7d6c5b4a3928";
    let mut pod = wait_until("the Job's pod", PATIENCE, || {
        let selector = format!("job-name={job}");
        let pods = installation.cluster.get_json(&["pods", "-n", ns.name, "-l", &selector]);
        Ok(pods["items"].get(0).cloned())
    })?;
    same("the applied layers", applied(&pod), "base, environment/clearml-job, queue/jobs")?;
    same("the user", &pod["metadata"]["annotations"]["podgraft.io/user"], &json!("alice"))?;
    // the task's container has the Job's name
    pod["metadata"]["name"] = job.into();
    has_what_is_configured(&pod)
}

pub(crate) fn every_way_to_create_a_pod_gives_the_same(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("ways", &format!("{ENVIRONMENT}queues:\n  ways:{QUEUE}"))?;
    ns.until_webhook_says("ways", "queue/ways")?;
    let manifest = task_pod("one", "ways");
    let text = manifest.to_string();

    let dry = as_json(&ns.kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &text))?;
    says(&ns.kubectl(&["get", "pod", "one"], "").stderr, "NotFound")?;
    has_what_is_configured(&dry)?;
    let pod = ns.create(&manifest)?;
    same("the pod, after its dry run,", spec(&pod), spec(&dry))?;

    let other = text.replace("\"one\"", "\"two\"");
    quiet(&ns.kubectl(&["apply", "--server-side", "-f", "-"], &other))?;
    let applied_there = ns.stored("two");
    same("the pod, applied by the server,", spec(&applied_there), spec(&pod))?;

    let mut generated = manifest;
    generated["metadata"]["generateName"] = "one-".into();
    generated["metadata"].as_object_mut().and_then(|metadata| metadata.remove("name"));
    let mut generated = ns.create(&generated)?;
    generated["metadata"]["name"] = "one".into();
    same("the pod of a generated name", spec(&generated), spec(&pod))
}

/// Returns a pod without its names and without the token volume, which has a random name.
fn spec(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            without_token(&mut container["volumeMounts"]);
            let task = container["name"] == pod["metadata"]["name"];
            container["name"] = if task { "the task".into() } else { container["name"].clone() };
        }
    }
    without_token(&mut spec["volumes"]);
    json!([spec, pod["metadata"]["labels"], applied(pod)])
}

fn without_token(list: &mut Value) {
    let random = |item: &Value| item["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    if let Some(list) = list.as_array_mut() {
        list.retain(|item| !random(item));
    }
}

pub(crate) fn non_task_pods_are_never_sent(installation: &Installation) -> Outcome {
    let ns =
        installation.create_namespace("others", "queues: {others: {templateOverrides: {labels: {touched: 'yes'}}}}")?;
    ns.until_webhook_says("others", "queue/others")?;
    let task = ns.create_in("others", "a-task")?;
    same("a task pod's label", &task["metadata"]["labels"]["touched"], &json!("yes"))?;
    let calls = calls(installation, ns.name, "a-task")?;
    same("a task pod's calls", calls.len(), 1)?;

    let mut unlabelled = task_pod("unlabelled", "others");
    unlabelled["metadata"]["labels"] = json!({"app": "web"});
    is_never_sent(installation, ns.name, &unlabelled)?;
    unlabelled["metadata"] = json!({"name": "without-labels"});
    is_never_sent(installation, ns.name, &unlabelled)?;
    let mut mirror = task_pod("mirror", "others");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "digest"});
    mirror["spec"]["nodeName"] = "somewhere".into();
    is_never_sent(installation, ns.name, &mirror)?;
    for namespace in ["kube-system", "podgraft"] {
        is_never_sent(installation, namespace, &task_pod(&format!("in-{namespace}"), "others"))?;
    }
    Ok(())
}

/// Creates a pod as the administrator, with the service account `default`, and expects no call of a webhook.
fn is_never_sent(installation: &Installation, namespace: &str, pod: &Value) -> Outcome {
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = namespace.into();
    // required by Pod Security in podgraft's namespace
    pod["spec"] = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": false, "nodeName": pod["spec"]["nodeName"],
        "containers": [{
            "name": pod["metadata"]["name"], "image": "busybox",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    });
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let created = as_json(&installation.cluster.kubectl_stdin(&["create", "-o", "json", "-f", "-"], &pod.to_string()))?;
    same(name, applied(&created), "nothing")?;
    same(name, calls(installation, namespace, name)?, Vec::new())
}

/// Returns the entries of webhooks in the audit event of a pod's creation.
fn calls(installation: &Installation, namespace: &str, pod: &str) -> Outcome<Vec<String>> {
    let event = installation.audited(namespace, pod)?;
    let annotations = event["annotations"].as_object().into_iter().flatten();
    let keys = annotations.map(|(key, _)| key.clone());
    Ok(keys.filter(|key| key.starts_with("mutation.webhook.admission.k8s.io/")).collect())
}
