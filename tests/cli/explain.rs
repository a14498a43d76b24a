//! `podgraft explain`: text and JSON of patched, skipped and denied pods.

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
  sent by            system:serviceaccount:clearml:clearml-agent-sa, a submitter of systems.clearml: trusted

Applied, in this order
  1  base             podgraft.yaml:4   Keep
  2  queue/GPU Queue  podgraft.yaml:17  Override

Set (+) and removed (-)
  +  podgraft                           metadata.annotations[podgraft.io/applied]
  +  queue/GPU Queue  podgraft.yaml:17  spec.nodeSelector.accelerator

Overridden
  base             podgraft.yaml:4   metadata.labels.team: the pod's own value is kept (conflict: Keep)
  queue/GPU Queue  podgraft.yaml:17  spec.containers[clearml-id-0123].env[NCCL_DEBUG]: the task's own env is kept; an explicit `conflict: Override` would replace it

Not applied
  base                    does not set env: replaced by queue/GPU Queue
  environment/production  matches the namespaces ml-prod, not clearml
  environment/gold        matches pods with the label tier=gold
  module/nfs              is skipped: its condition is false (when: has(task_config.nfs))
"
    );
}

#[test]
fn a_note_says_that_the_creator_is_no_submitter() {
    let shown = explain(CONFIG, POD, &["--as", "eve"]).stdout;
    let sender = "sent by            eve, who is not one of systems.clearml.submitters \
        (system:serviceaccount:clearml:clearml-agent-sa): task id and user are not trusted, so layers and modules that need them do not apply\n";
    assert!(shown.contains(sender), "{shown}");
    assert!(shown.contains("  user               unknown\n"), "{shown}");
    let without_submitters = format!("{CONFIG}systems: {{clearml: {{type: ClearML, submitters: []}}}}\n");
    let shown = explain(&without_submitters, POD, &["--as", "eve"]).stdout;
    assert!(shown.contains("eve, but systems.clearml has no submitters: task id and user are not trusted"), "{shown}");
}

#[test]
fn a_queue_without_effect_has_its_reason() {
    let named = |queue: &str| explain(CONFIG, &POD.replace("gpu-queue", queue), &[]).stdout;
    let shown = named("gpu-quue");
    assert!(shown.contains("queue              gpu-quue, which does not apply\n"), "{shown}");
    assert!(shown.contains("  queue/gpu-quue          is not configured; did you mean gpu-queue?\n"), "{shown}");
    let shown = named("team-b");
    assert!(shown.contains("  queue/team-b            matches the namespaces b, not clearml\n"), "{shown}");
}

#[test]
fn a_non_task_pod_is_explained_with_the_labels_of_task_pods() {
    let pod = "kind: Pod\nmetadata: {name: web, labels: {podgraft.io/quueue: gpu}}\nspec: {containers: [{name: a, image: b}]}\n";
    let ran = explain(CONFIG, pod, &[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (
            0,
            "default/web (pod.yaml): skipped: it is no task pod: it has none of the labels clearml-agent-queue, \
             clearml-agent-queue-name, clearml-task-id, CLEARML, podgraft.io/queue, podgraft.io/environment; \
             its label is podgraft.io/quueue, did you mean podgraft.io/queue?\n"
        )
    );
    let bare = explain(CONFIG, "kind: Pod\nmetadata: {name: web}\n", &[]).stdout;
    assert!(bare.contains("it has none of the labels clearml-agent-queue,"), "{bare}");
    let elsewhere = format!(
        "{CONFIG}systems: {{clearml: {{type: ClearML, namespaces: [x]}}, generic: {{type: Generic, namespaces: [u, v]}}}}\n"
    );
    let shown = explain(&elsewhere, POD, &[]).stdout;
    let expected = "skipped: it has the label clearml-agent-queue-name, but is in namespace clearml, \
        and systems.clearml is for x; systems.generic is for u, v\n";
    assert!(shown.ends_with(expected), "{shown}");
}

#[test]
fn a_denied_pod_has_the_fields_applied_so_far_and_the_layers_not_reached() {
    let vault = CONFIG.to_owned() + "taskConfig: [{config: {nfs: {server: {}}}}]\n";
    let ran = explain(&vault, POD, &[]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let head = "clearml/clearml-id-0123 (pod.yaml): denied (422, ModuleFailed): module nfs denied the pod: ";
    assert!(ran.stdout.starts_with(head), "{}", ran.stdout);
    let applied = "
Applied before the denial, in this order
  1  base             podgraft.yaml:4   Keep
  2  queue/GPU Queue  podgraft.yaml:17  Override

Not applied because of the denial (modules only if their condition is true)
  3  module/nfs

Set (+) and removed (-) before the denial
  +  queue/GPU Queue  podgraft.yaml:17  spec.nodeSelector.accelerator

Overridden
  base             podgraft.yaml:4   metadata.labels.team: the pod's own value is kept (conflict: Keep)
  queue/GPU Queue  podgraft.yaml:17  spec.containers[clearml-id-0123].env[NCCL_DEBUG]: the task's own env is kept; an explicit `conflict: Override` would replace it

Not applied
  base                    does not set env: replaced by queue/GPU Queue
  environment/production  matches the namespaces ml-prod, not clearml
  environment/gold        matches pods with the label tier=gold
";
    assert!(ran.stdout.ends_with(applied), "{}", ran.stdout);
    let json = explain(&vault, POD, &["-o", "json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["outcome"], report["applied"].as_array().map(Vec::len)), (&"denied".into(), Some(2)));
    assert_eq!(report["remaining"], serde_json::json!([{"source": "module/nfs", "at": null, "conflict": null}]));
}

#[test]
fn a_layer_that_denies_the_pod_is_the_first_not_applied() {
    let denies = "conflict: Deny\n    templateOverrides:\n      labels: {team: nlp}\n";
    let config = CONFIG
        .replace("templateOverrides:\n", denies)
        .replace("{team: ml}", "{team: ml}\n  tolerations: [{operator: Exists}]");
    let shown = explain(&config, POD, &[]);
    assert_eq!(shown.code, 1, "{}{}", shown.stdout, shown.stderr);
    let applied = "
Applied before the denial, in this order
  1  base  podgraft.yaml:4  Keep

Not applied because of the denial (modules only if their condition is true)
  2  queue/GPU Queue  podgraft.yaml:19  Deny
  3  module/nfs

Set (+) and removed (-) before the denial
  +  base  podgraft.yaml:4  spec.tolerations[0]
";
    assert!(shown.stdout.contains(applied), "{}", shown.stdout);
    let field = explain(&config, POD, &["--field", "spec.nodeSelector"]).stdout;
    assert!(
        field.ends_with("\nNo layer or module that was applied before the denial sets spec.nodeSelector.\n"),
        "{field}"
    );
}

#[test]
fn a_denied_result_has_all_its_fields_and_the_modules_not_applied() {
    let config = CONFIG.replace("{accelerator: a100}", "{accelerator: a100}\n      resources: {limits: {memory: 1Gi}}");
    let pod = POD.replace("    env:", "    resources: {requests: {memory: 2Gi}}\n    env:");
    let shown = explain(&config, &pod, &[]);
    assert_eq!(shown.code, 1, "{}{}", shown.stdout, shown.stderr);
    let head =
        "denied (422, InvalidResult): queue/GPU Queue: spec.containers[clearml-id-0123].resources.requests.memory";
    assert!(shown.stdout.contains(head), "{}", shown.stdout);
    let limit = "  +  queue/GPU Queue  podgraft.yaml:17  spec.containers[clearml-id-0123].resources.limits.memory\n";
    assert!(shown.stdout.contains(limit), "{}", shown.stdout);
    assert!(!shown.stdout.contains("Not reached"), "{}", shown.stdout);
    let skipped = "  module/nfs              is skipped: its condition is false (when: has(task_config.nfs))\n";
    assert!(shown.stdout.contains(skipped), "{}", shown.stdout);
}

#[test]
fn a_denied_pod_is_exit_code_1_with_the_reason() {
    let config = format!("{CONFIG}unknownQueue: Deny\n");
    let ran = explain(&config, &POD.replace("gpu-queue", "cpu"), &[]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let head = "clearml/clearml-id-0123 (pod.yaml): denied (422, UnknownQueue): queue 'cpu' is not configured, and unknownQueue is Deny\n";
    assert!(ran.stdout.starts_with(head), "{}", ran.stdout);
    assert!(ran.stdout.contains("  queue/cpu               is not configured\n"), "{}", ran.stdout);
}

#[test]
fn a_module_without_effect_or_with_a_tolerated_failure_is_listed() {
    let config = |extra: &str, vault: &str| {
        CONFIG.replace("when: has(task_config.nfs)", extra) + &format!("taskConfig: [{{config: {{{vault}}}}}]\n")
    };
    let unchanged = explain(&config("onError: Fail", ""), POD, &[]);
    assert!(unchanged.stdout.contains("module/nfs              ran and changed nothing\n"), "{}", unchanged.stdout);
    let failed = explain(&config("onError: Ignore", "nfs: {}"), POD, &[]);
    let ignored = "module/nfs              failed, and its onError is Ignore: module nfs denied the pod: task_config nfs.server.ip is missing\n";
    assert!(failed.stdout.contains(ignored), "{}{}", failed.stdout, failed.stderr);
    let applied =
        explain(&config("onError: Fail", "nfs: {mountPath: /mnt/x, server: {ip: 10.0.0.7, path: /x}}"), POD, &[])
            .stdout;
    assert!(applied.contains("\n  3  module/nfs\n"), "{applied}");
    assert!(applied.contains("  +  module/nfs                         spec.volumes[custom-mount]\n"), "{applied}");
}

#[test]
fn an_explanation_can_be_limited_to_one_field() {
    let limited = |field: &str| explain(CONFIG, POD, &["--field", field]).stdout;
    let env = limited("spec.containers[clearml-id-0123].env");
    assert!(env.contains("env[NCCL_DEBUG]: the task's own env is kept"), "{env}");
    assert!(!env.contains("spec.nodeSelector") && !env.contains("metadata.labels.team"), "{env}");
    assert!(limited("spec").contains("spec.nodeSelector.accelerator"));
    assert!(limited("spec.hostname").ends_with("\nNo layer or module that was applied sets spec.hostname.\n"));
}

#[test]
fn the_manager_of_a_kept_value_is_named() {
    let managed = "  managedFields:\n  - {manager: kubectl-create, operation: Update, fieldsV1: {'f:metadata': {'f:labels': {'f:team': {}}}}}\nspec:\n";
    let shown = explain(CONFIG, &POD.replace("spec:\n", managed), &[]).stdout;
    let kept = "metadata.labels.team: the pod's own value, set by kubectl-create, is kept (conflict: Keep)\n";
    assert!(shown.contains(kept), "{shown}");
}

#[test]
fn the_explanation_is_available_as_json() {
    let ran = explain(CONFIG, POD, &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["outcome"], "patched");
    assert_eq!(report["task"]["configuredQueue"], "GPU Queue");
    assert_eq!(
        report["applied"][0],
        serde_json::json!({"source": "base", "at": {"file": "podgraft.yaml", "line": 4}, "conflict": "Keep"})
    );
    let field = serde_json::json!({"path": "spec.nodeSelector.accelerator", "source": "queue/GPU Queue",
        "at": {"file": "podgraft.yaml", "line": 17}, "removed": false, "replaced": []});
    assert!(report["fields"].as_array().unwrap().contains(&field), "{}", ran.stdout);
    assert_eq!(report["overridden"].as_array().unwrap().len(), 2);
    assert_eq!(report["notApplied"].as_array().unwrap().len(), 4);
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
