//! `podgraft explain`.

use super::{Ran, folder, podgraft_in, policies};

const CONFIG: &str = "\
apiVersion: podgraft.io/v1alpha1
kind: GraftConfig
basePodTemplate:
  env: [{name: HF_HOME, value: /cache/hf}]
  labels: {team: ml}
environments:
  production:
    match: {namespaces: [ml-prod]}
    podTemplate: {spec: {nodeSelector: {tier: prod}}}
  gold:
    priority: 5
    match: {podLabels: {tier: gold}}
    podTemplate: {spec: {nodeSelector: {tier: gold}}}
queues:
  GPU Queue:
    templateOverrides:
      env: [{name: NCCL_DEBUG, value: WARN}]
      nodeSelector: {accelerator: a100}
    modules: [nfs]
  team-b:
    match: {namespaces: [b]}
modules:
  nfs: {wasm: inject-nfs.wasm, when: has(task_config.nfs)}
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: clearml-id-0123
  namespace: clearml
  labels: {clearml-agent-queue-name: gpu-queue, team: vision}
  annotations: {podgraft.io/user: ada}
spec:
  containers:
  - name: clearml-id-0123
    image: python:3.12
    env: [{name: NCCL_DEBUG, value: INFO}]
";

fn explain(config: &str, pod: &str, extra: &[&str]) -> Ran {
    let folder = folder(&[("podgraft.yaml", config), ("pod.yaml", pod)]);
    let policies = policies();
    let arguments = ["explain", "-f", "pod.yaml", "--config", "podgraft.yaml", "--policies", &policies];
    podgraft_in(folder.path(), &[&arguments, extra].concat(), "")
}

#[test]
fn each_field_has_its_layer_file_and_line_and_each_setting_not_applied_its_reason() {
    let ran = explain(CONFIG, POD, &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        "\
clearml/clearml-id-0123 (pod.yaml): patched
  system             clearml
  queue              gpu-queue, which is queues.GPU Queue
  task               0123
  user               ada
  primary container  clearml-id-0123
  sent by            system:serviceaccount:clearml:clearml-agent-sa, a submitter of systems.clearml: believed

Order in which it was laid
  1  base             podgraft.yaml:4   Keep
  2  queue/GPU Queue  podgraft.yaml:17  Override

Set (+) and removed (-)
  +  podgraft                           metadata.annotations[podgraft.io/applied]
  +  queue/GPU Queue  podgraft.yaml:17  spec.nodeSelector.accelerator

Asked for, and not there
  base             podgraft.yaml:4   metadata.labels.team: the pod's own value stays (conflict: Keep)
  queue/GPU Queue  podgraft.yaml:17  spec.containers[clearml-id-0123].env[NCCL_DEBUG]: the task's own env stays; `conflict: Override`, written out, would win

Did not apply
  base                    does not set env: replaced by queue/GPU Queue
  environment/production  matches the namespaces ml-prod, not clearml
  environment/gold        matches pods with the label tier=gold
  module/nfs              is skipped: its condition is false (when: has(task_config.nfs))
"
    );
}

#[test]
fn a_note_says_that_the_creator_is_no_submitter() {
    let told = explain(CONFIG, POD, &["--as", "eve"]).stdout;
    let sender = "sent by            eve, who is none of systems.clearml.submitters \
        (system:serviceaccount:clearml:clearml-agent-sa): task id and user are not believed, and nothing applies that needs them\n";
    assert!(told.contains(sender), "{told}");
    assert!(told.contains("  user               not known\n"), "{told}");
    let nobodys = format!("{CONFIG}systems: {{clearml: {{type: ClearML, submitters: []}}}}\n");
    let told = explain(&nobodys, POD, &["--as", "eve"]).stdout;
    assert!(told.contains("eve, and systems.clearml names no submitters: task id and user are not believed"), "{told}");
}

#[test]
fn a_queue_without_effect_has_its_reason() {
    let named = |queue: &str| explain(CONFIG, &POD.replace("gpu-queue", queue), &[]).stdout;
    let told = named("gpu-quue");
    assert!(told.contains("queue              gpu-quue, which gives nothing\n"), "{told}");
    assert!(told.contains("  queue/gpu-quue          is not configured; the nearest is 'gpu-queue'\n"), "{told}");
    let told = named("team-b");
    assert!(told.contains("  queue/team-b            matches the namespaces b, not clearml\n"), "{told}");
}

#[test]
fn a_non_task_pod_is_explained_with_the_labels_of_task_pods() {
    let pod = "kind: Pod\nmetadata: {name: web, labels: {podgraft.io/quueue: gpu}}\nspec: {containers: [{name: a, image: b}]}\n";
    let ran = explain(CONFIG, pod, &[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (
            0,
            "default/web (pod.yaml): left alone: it is no task pod: it has none of the labels clearml-agent-queue, \
             clearml-agent-queue-name, clearml-task-id, CLEARML, podgraft.io/queue, podgraft.io/environment; \
             its label podgraft.io/quueue is nearly podgraft.io/queue\n"
        )
    );
    let bare = explain(CONFIG, "kind: Pod\nmetadata: {name: web}\n", &[]).stdout;
    assert!(bare.contains("it has none of the labels clearml-agent-queue,"), "{bare}");
    let elsewhere = format!(
        "{CONFIG}systems: {{clearml: {{type: ClearML, namespaces: [x]}}, generic: {{type: Generic, namespaces: [u, v]}}}}\n"
    );
    let told = explain(&elsewhere, POD, &[]).stdout;
    let expected = "left alone: it has the label clearml-agent-queue-name, but is in namespace clearml, \
        and systems.clearml is for x; systems.generic is for u, v\n";
    assert!(told.ends_with(expected), "{told}");
}

#[test]
fn a_denied_pod_has_the_fields_applied_so_far_and_the_layers_not_reached() {
    let vault = CONFIG.to_owned() + "taskConfig: [{config: {nfs: {server: {}}}}]\n";
    let ran = explain(&vault, POD, &[]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let head = "clearml/clearml-id-0123 (pod.yaml): rejected (422, ModuleFailed): module nfs denied the pod: ";
    assert!(ran.stdout.starts_with(head), "{}", ran.stdout);
    let laid = "
Order in which it was laid, until the refusal
  1  base             podgraft.yaml:4   Keep
  2  queue/GPU Queue  podgraft.yaml:17  Override

Was still to be laid (modules where their condition holds)
  3  module/nfs

Set (+) and removed (-) until the refusal
  +  queue/GPU Queue  podgraft.yaml:17  spec.nodeSelector.accelerator

Asked for, and not there
  base             podgraft.yaml:4   metadata.labels.team: the pod's own value stays (conflict: Keep)
  queue/GPU Queue  podgraft.yaml:17  spec.containers[clearml-id-0123].env[NCCL_DEBUG]: the task's own env stays; `conflict: Override`, written out, would win

Did not apply
  base                    does not set env: replaced by queue/GPU Queue
  environment/production  matches the namespaces ml-prod, not clearml
  environment/gold        matches pods with the label tier=gold
";
    assert!(ran.stdout.ends_with(laid), "{}", ran.stdout);
    let json = explain(&vault, POD, &["-o", "json"]).stdout;
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&told["outcome"], told["order"].as_array().map(Vec::len)), (&"rejected".into(), Some(2)));
    assert_eq!(told["rest"], serde_json::json!([{"source": "module/nfs", "at": null, "conflict": null}]));
}

#[test]
fn a_layer_that_denies_the_pod_is_the_first_not_applied() {
    let denies = "conflict: Deny\n    templateOverrides:\n      labels: {team: nlp}\n";
    let config = CONFIG
        .replace("templateOverrides:\n", denies)
        .replace("{team: ml}", "{team: ml}\n  tolerations: [{operator: Exists}]");
    let told = explain(&config, POD, &[]);
    assert_eq!(told.code, 1, "{}{}", told.stdout, told.stderr);
    let laid = "
Order in which it was laid, until the refusal
  1  base  podgraft.yaml:4  Keep

Was still to be laid (modules where their condition holds)
  2  queue/GPU Queue  podgraft.yaml:19  Deny
  3  module/nfs

Set (+) and removed (-) until the refusal
  +  base  podgraft.yaml:4  spec.tolerations[0]
";
    assert!(told.stdout.contains(laid), "{}", told.stdout);
    let field = explain(&config, POD, &["--field", "spec.nodeSelector"]).stdout;
    assert!(
        field.ends_with(
            "\nNo layer and no module that was laid until the refusal has anything for spec.nodeSelector.\n"
        ),
        "{field}"
    );
}

#[test]
fn a_denied_result_has_all_its_fields_and_the_modules_not_applied() {
    let config = CONFIG.replace("{accelerator: a100}", "{accelerator: a100}\n      resources: {limits: {memory: 1Gi}}");
    let pod = POD.replace("    env:", "    resources: {requests: {memory: 2Gi}}\n    env:");
    let told = explain(&config, &pod, &[]);
    assert_eq!(told.code, 1, "{}{}", told.stdout, told.stderr);
    let head =
        "rejected (422, InvalidResult): queue/GPU Queue: spec.containers[clearml-id-0123].resources.requests.memory";
    assert!(told.stdout.contains(head), "{}", told.stdout);
    let limit = "  +  queue/GPU Queue  podgraft.yaml:17  spec.containers[clearml-id-0123].resources.limits.memory\n";
    assert!(told.stdout.contains(limit), "{}", told.stdout);
    assert!(!told.stdout.contains("still to be laid"), "{}", told.stdout);
    let idle = "  module/nfs              is skipped: its condition is false (when: has(task_config.nfs))\n";
    assert!(told.stdout.contains(idle), "{}", told.stdout);
}

#[test]
fn a_denied_pod_is_exit_code_1_with_the_reason() {
    let config = format!("{CONFIG}unknownQueue: Deny\n");
    let ran = explain(&config, &POD.replace("gpu-queue", "cpu"), &[]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let head = "clearml/clearml-id-0123 (pod.yaml): rejected (422, UnknownQueue): queue 'cpu' is not configured, and unknownQueue is Deny\n";
    assert!(ran.stdout.starts_with(head), "{}", ran.stdout);
    assert!(ran.stdout.contains("  queue/cpu               is not configured\n"), "{}", ran.stdout);
}

#[test]
fn a_module_without_effect_or_with_a_tolerated_failure_is_listed() {
    let config = |extra: &str, vault: &str| {
        CONFIG.replace("when: has(task_config.nfs)", extra) + &format!("taskConfig: [{{config: {{{vault}}}}}]\n")
    };
    let idle = explain(&config("onError: Fail", ""), POD, &[]);
    assert!(idle.stdout.contains("module/nfs              ran, and had nothing to change\n"), "{}", idle.stdout);
    let failed = explain(&config("onError: Ignore", "nfs: {}"), POD, &[]);
    let told = "module/nfs              failed, and its onError is Ignore: module nfs denied the pod: task_config nfs.server.ip is missing\n";
    assert!(failed.stdout.contains(told), "{}{}", failed.stdout, failed.stderr);
    let laid =
        explain(&config("onError: Fail", "nfs: {mountPath: /mnt/x, server: {ip: 10.0.0.7, path: /x}}"), POD, &[])
            .stdout;
    assert!(laid.contains("\n  3  module/nfs\n"), "{laid}");
    assert!(laid.contains("  +  module/nfs                         spec.volumes[custom-mount]\n"), "{laid}");
}

#[test]
fn one_field_alone_can_be_asked_for() {
    let of = |field: &str| explain(CONFIG, POD, &["--field", field]).stdout;
    let env = of("spec.containers[clearml-id-0123].env");
    assert!(env.contains("env[NCCL_DEBUG]: the task's own env stays"), "{env}");
    assert!(!env.contains("spec.nodeSelector") && !env.contains("metadata.labels.team"), "{env}");
    assert!(of("spec").contains("spec.nodeSelector.accelerator"));
    assert!(of("spec.hostname").ends_with("\nNo layer and no module that applies has anything for spec.hostname.\n"));
}

#[test]
fn the_manager_of_the_value_that_stayed_is_named() {
    let managed = "  managedFields:\n  - {manager: kubectl-create, operation: Update, fieldsV1: {'f:metadata': {'f:labels': {'f:team': {}}}}}\nspec:\n";
    let told = explain(CONFIG, &POD.replace("spec:\n", managed), &[]).stdout;
    let stays = "metadata.labels.team: the pod's own value, written by kubectl-create, stays (conflict: Keep)\n";
    assert!(told.contains(stays), "{told}");
}

#[test]
fn the_explanation_is_available_as_json() {
    let ran = explain(CONFIG, POD, &["-o", "json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["outcome"], "patched");
    assert_eq!(told["task"]["configuredQueue"], "GPU Queue");
    assert_eq!(
        told["order"][0],
        serde_json::json!({"source": "base", "at": {"file": "podgraft.yaml", "line": 4}, "conflict": "Keep"})
    );
    let field = serde_json::json!({"path": "spec.nodeSelector.accelerator", "source": "queue/GPU Queue",
        "at": {"file": "podgraft.yaml", "line": 17}, "removed": false, "over": []});
    assert!(told["fields"].as_array().unwrap().contains(&field), "{}", ran.stdout);
    assert_eq!(told["lost"].as_array().unwrap().len(), 2);
    assert_eq!(told["passed"].as_array().unwrap().len(), 4);
}

#[test]
fn files_that_a_queue_replaces_are_named_by_their_key() {
    let config = "\
apiVersion: podgraft.io/v1alpha1
kind: GraftConfig
basePodTemplate:
  env: [{name: A, value: base}]
  fileMounts: [{name: x, folderPath: /etc, fileContent: base}]
queues:
  gpu-queue:
    templateOverrides:
      env: [{name: B, value: queue}]
      fileMounts: [{name: x, folderPath: /etc, fileContent: queue}]
";
    let ran = explain(config, POD, &[]);
    assert!(
        ran.stdout.contains("  base  does not set fileMounts, env: replaced by queue/gpu-queue\n"),
        "{}",
        ran.stdout
    );
}
