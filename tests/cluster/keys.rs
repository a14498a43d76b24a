//! A layer with every key of the flat form, and the pod that the API server stores.

use serde_json::{Value, json};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{expect, quiet, same};
use podgraft_testkit::fixtures::clearml_manifest;
use podgraft_testkit::installation::Installation;
use podgraft_testkit::pod::{applied, named, primary};

/// The configuration with every key, which unit tests also read.
const ALL: &str = include_str!("../../src/config/tests/all-keys.yaml");

/// Returns the configuration without the file's head, with a queue of this name.
fn sections(queue: &str) -> String {
    let (_, sections) = ALL.split_once("kind: GraftConfig\n").unwrap_or_default();
    sections.replace("\n  all:\n", &format!("\n  {queue}:\n")).replace("[the-namespace]", "[NAMESPACE]")
}

pub(crate) fn every_flat_key_comes_back(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("keys", &sections("every-key"))?;
    installation.cluster.apply(
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: training}, value: 1000}\n---\n\
         {apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: nvidia}, handler: nvidia}\n---\n\
         {apiVersion: v1, kind: ServiceAccount, metadata: {name: tasks, namespace: keys}}\n",
    );
    ns.until_webhook_says("every-key", "queue/every-key")?;
    // kubectl cannot apply twice what a layer overrides, and null counts as set: these are left to the queue
    let manifest = clearml_manifest("pod-small.yaml", ns.name)?
        .replace("gpu-queue-for-team-a", "every-key")
        .replace("  serviceAccountName: clearml-agent-sa\n", "")
        .replace("  priorityClassName: null\n", "")
        .replace("  runtimeClassName: null\n", "");
    quiet(&ns.kubectl(&["apply", "-f", "-"], &manifest))?;
    let pod = ns.stored("clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60");
    same("the applied layers", applied(&pod), "queue/every-key")?;
    has_every_key(&pod)?;
    quiet(&ns.kubectl(&["apply", "-f", "-"], &manifest))?;
    same("the pod, applied again,", &ns.stored("clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60"), &pod)
}

fn has_every_key(pod: &Value) -> Outcome {
    let (metadata, spec, task) = (&pod["metadata"], &pod["spec"], primary(pod));
    let (sidecar, file) = (named(&spec["initContainers"], "metrics"), named(&spec["volumes"], "file-5ef6925ea5c3cbc6"));
    let zone = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/key";
    let spread = &spec["topologySpreadConstraints"][0];
    for (what, found, expected) in [
        ("labels", &metadata["labels"]["squad"], json!("blue")),
        ("annotations", &metadata["annotations"]["example.com/owner"], json!("blue")),
        ("volumes", &named(&spec["volumes"], "scratch")["emptyDir"]["sizeLimit"], json!("1Gi")),
        ("volumeMounts", &named(&task["volumeMounts"], "scratch")["mountPath"], json!("/scratch")),
        ("extraVolumes", &named(&spec["volumes"], "more")["emptyDir"], json!({})),
        ("extraVolumeMounts", &named(&task["volumeMounts"], "more")["mountPath"], json!("/more")),
        ("env", &named(&task["env"], "NCCL_SOCKET_IFNAME")["value"], json!("eth0")),
        ("envFrom", &task["envFrom"], json!([{"configMapRef": {"name": "task-env", "optional": true}}])),
        ("limits", &task["resources"]["limits"], json!({"example.com/fpga": "1", "memory": "2Gi"})),
        ("requests", &task["resources"]["requests"]["cpu"], json!("500m")),
        ("nodeSelector", &spec["nodeSelector"]["pool"], json!("fast")),
        ("tolerations", &spec["tolerations"][2]["key"], json!("gpu")),
        ("affinity", spec.pointer(zone).unwrap_or(&Value::Null), json!("topology.kubernetes.io/zone")),
        ("topologySpreadConstraints", &spread["whenUnsatisfiable"], json!("ScheduleAnyway")),
        ("schedulerName", &spec["schedulerName"], json!("gang-scheduler")),
        ("priorityClassName", &spec["priorityClassName"], json!("training")),
        ("the class's priority", &spec["priority"], json!(1000)),
        ("runtimeClassName", &spec["runtimeClassName"], json!("nvidia")),
        ("serviceAccountName", &spec["serviceAccountName"], json!("tasks")),
        ("imagePullSecrets", &spec["imagePullSecrets"], json!([{"name": "registry"}])),
        ("hostAliases", &spec["hostAliases"], json!([{"ip": "10.0.0.7", "hostnames": ["data.internal"]}])),
        ("podSecurityContext", &spec["securityContext"], json!({"fsGroup": 1000, "runAsNonRoot": true})),
        ("containerSecurityContext", &task["securityContext"], json!({"allowPrivilegeEscalation": false})),
        ("initContainers", &named(&spec["initContainers"], "fetch")["command"], json!(["true"])),
        ("sidecars", &sidecar["restartPolicy"], json!("Always")),
        ("a sidecar's port", &sidecar["ports"][0]["containerPort"], json!(9100)),
        ("the sidecar, first", &spec["initContainers"][0]["name"], json!("metrics")),
        ("fileMounts", &file["downwardAPI"]["items"][0]["path"], json!("file")),
    ] {
        same(what, found, &expected)?;
    }
    Ok(())
}

pub(crate) fn file_mounts_come_back(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace(
        "files",
        "queues:\n  files:\n    match: {namespaces: [NAMESPACE]}\n    templateOverrides:\n      fileMounts:\n      \
         - name: \"custom_code.py\"\n        folderPath: \"/root\"\n        fileContent: |-\n          import json\n          \
         print(json.dumps({}), '${pod.namespace} $${x}')\n      - {name: ca.crt, folderPath: '/etc/${queue.name}', \
         configMapRef: {name: 'ca-${queue.name}'}}\n",
    )?;
    ns.until_webhook_says("files", "queue/files")?;
    let pod = ns.create_in("files", "task")?;
    let mounts = primary(&pod)["volumeMounts"].as_array().cloned().unwrap_or_default();
    let mount = |path: &str| mounts.iter().find(|mount| mount["mountPath"] == path).cloned().unwrap_or_default();
    let code = mount("/root/custom_code.py");
    same("the file's mount", &code["subPath"], &json!("file"))?;
    same("its mode", &code["readOnly"], &json!(true))?;
    let volume = named(&pod["spec"]["volumes"], code["name"].as_str().unwrap_or_default());
    let field = volume["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"].as_str().unwrap_or_default();
    let key = field.trim_start_matches("metadata.annotations['").trim_end_matches("']");
    expect(key.starts_with("file.podgraft.io/custom_code.py-"), || format!("fieldPath: {field}"))?;
    let text = format!("import json\nprint(json.dumps({{}}), '{} ${{x}}')", ns.name);
    same("the file's text", &pod["metadata"]["annotations"][key], &json!(text))?;
    let ca = mount("/etc/files/ca.crt");
    let volume = named(&pod["spec"]["volumes"], ca["name"].as_str().unwrap_or_default());
    same("the ConfigMap", &volume["configMap"]["name"], &json!("ca-files"))
}
