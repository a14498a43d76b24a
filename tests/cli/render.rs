//! `podgraft render`: all output formats, notes, errors and exit codes.

use std::fs;

use super::{Ran, config, folder, podgraft, podgraft_in, policies, root};

const POD: &str = "tests/cases/readme/pod.yaml";
const CONFIG: &str = "tests/cases/readme/config.yaml";

fn render(arguments: &[&str]) -> Ran {
    podgraft(&[&["render", "-f", POD, "--config", CONFIG, "--policies", "policies"], arguments].concat(), "")
}

/// Returns the error of an invalid configuration.
fn configuration_error(text: &str) -> String {
    let folder = config(text);
    let ran =
        podgraft(&["render", "-f", POD, "--policies", "policies", "--config", folder.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    ran.stderr
}

#[test]
fn every_output_format_gives_the_same_pod() {
    let yaml: serde_json::Value = serde_saphyr::from_str(&render(&["-o", "yaml"]).stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&render(&["-o", "json"]).stdout).unwrap();
    assert_eq!(yaml, json);
    let patch: json_patch::Patch = serde_json::from_str(&render(&["-o", "patch"]).stdout).unwrap();
    let mut pod: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(root().join(POD)).unwrap()).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(pod, json);
    let provenance = render(&["-o", "provenance"]).stdout;
    assert!(provenance.contains("spec.volumes[custom-mount] by module/nfs-mount\n"), "{provenance}");
}

#[test]
fn a_pod_can_come_from_standard_input() {
    let pod = fs::read_to_string(root().join(POD)).unwrap();
    let ran = podgraft(&["render", "-f", "-", "--config", CONFIG, "--policies", "policies"], &pod);
    assert_eq!((ran.code, ran.stdout), (0, render(&[]).stdout));
}

#[test]
fn a_denied_pod_is_exit_code_1_and_names_reason_and_module() {
    let folder = config(
        "modules: {nfs: {wasm: inject-nfs.wasm}}\nqueues: {GPU Queue: {modules: [nfs]}}\ntaskConfig: [{config: {nfs: {}}}]\n",
    );
    let ran =
        podgraft(&["render", "-f", POD, "--policies", "policies", "--config", folder.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "denied (422, ModuleFailed): module nfs denied the pod: task_config nfs.server.ip is missing\n"
    );
}

#[test]
fn a_pod_security_level_can_be_given_without_a_cluster() {
    let case = "tests/cases/pod-security-a-layer-that-violates-the-namespaces-level";
    let run = |verb: &str, level: &[&str]| {
        let (pod, config) = (format!("{case}/pod.yaml"), format!("{case}/config.yaml"));
        podgraft(&[&[verb, "-f", &pod, "--config", &config], level].concat(), "")
    };
    let denial = fs::read_to_string(root().join(case).join("denial.txt")).unwrap();
    let (_, message) = denial.trim().split_once(": ").unwrap();
    assert_eq!(run("render", &[]).code, 0);
    assert_eq!(run("render", &["--pod-security", "baseline:v1.30"]).code, 0);
    let denied = run("render", &["--pod-security", "restricted"]);
    assert_eq!((denied.code, denied.stderr), (1, format!("denied (422, InvalidResult): {message}\n")));
    let explained = run("explain", &["--pod-security", "restricted"]);
    assert!(explained.code == 1 && explained.stdout.contains(message), "{}", explained.stdout);
    let wrong = run("render", &["--pod-security", "strict"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("must be privileged, baseline or restricted"), "{}", wrong.stderr);
}

#[test]
fn non_task_pod_is_printed_unchanged_with_a_note() {
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - image: nginx\n    name: web\n";
    let ran = podgraft(&["render", "-f", "-", "--config", CONFIG, "--policies", "policies"], pod);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, pod));
    assert_eq!(ran.stderr, "skipped: not a task pod of this configuration\n");
}

#[test]
fn wrong_input_is_exit_code_2_with_the_correct_form() {
    let stdin = |text: &str| podgraft(&["render", "-f", "-", "--config", CONFIG, "--policies", "policies"], text);
    let cases = [
        (
            stdin("kind: Deployment\n"),
            "podgraft: -: it is a Deployment; a Pod, a Job or an AdmissionReview is expected\n",
        ),
        (stdin("kind: Job\n"), "podgraft: -: the Job has no spec.template.spec\n"),
        (stdin("a: 1\n"), "podgraft: -: it has no kind; a Pod, a Job or an AdmissionReview is expected\n"),
        (
            stdin(r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#),
            "podgraft: -: the AdmissionReview has no request\n",
        ),
        (
            podgraft(&["render", "-f", "nowhere.yaml", "--config", CONFIG, "--policies", "policies"], ""),
            "podgraft: nowhere.yaml cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            podgraft(&["render", "-f", POD, "--config", "nowhere.yaml"], ""),
            "podgraft: cannot read nowhere.yaml: No such file or directory (os error 2)\n",
        ),
        (
            podgraft(&["render", "-f", POD, "--config", POD], ""),
            "podgraft: 1 error in the configuration\n  tests/cases/readme/pod.yaml: holds no configuration: a configuration is YAML that begins with `apiVersion: podgraft.io/v1alpha1` and `kind: GraftConfig`\n",
        ),
    ];
    for (ran, expected) in cases {
        assert_eq!((ran.code, ran.stderr.as_str()), (2, expected));
    }
    let usage = podgraft(&["render", "-f", POD], "");
    assert_eq!(usage.code, 2);
    assert!(usage.stderr.contains("--config <FILE|DIR>"), "{}", usage.stderr);
}

#[test]
fn a_typo_in_the_configuration_is_reported_with_its_place_and_the_right_spelling() {
    let text = "queues:\n  pvc-test:\n    templateOverrides:\n      volumeMount: []\n    claims: [{volume: v, type: Managed}]\n";
    assert_eq!(
        configuration_error(text),
        "podgraft: 2 errors in the configuration\n  \
         podgraft.yaml:6:7: queues.pvc-test.templateOverrides.volumeMount: unknown key; did you mean volumeMounts?\n  \
         podgraft.yaml:7:32: queues.pvc-test.claims[0].type: Managed is not supported yet\n"
    );
}

#[test]
fn an_invalid_module_is_named_with_its_error() {
    let folder = config("modules: {bad: {wasm: bad.wasm}}\nqueues: {GPU Queue: {modules: [bad]}}\n");
    let module_error = |bytes: &[u8]| {
        fs::write(folder.path().join("bad.wasm"), bytes).unwrap();
        let config = folder.path().to_str().unwrap();
        podgraft(&["render", "-f", POD, "--config", config], "").stderr
    };
    let text = module_error(b"not wasm");
    assert!(text.contains("podgraft.yaml:3:") && text.contains("modules.bad") && text.contains("component"), "{text}");
    let text = module_error(&wat::parse_file(root().join("policies/misbehaving/imports.wat")).unwrap());
    assert!(text.contains("podgraft:template/host@0.1.0"), "{text}");
    let text = module_error(&wat::parse_file(root().join("policies/misbehaving/core-module.wat")).unwrap());
    assert!(text.contains("core module"), "{text}");
}

#[test]
fn an_unconfigured_queue_is_named_and_so_is_an_unchanged_pod() {
    let folder = config("queues: {other: {}}\n");
    let ran = podgraft(&["render", "-f", POD, "-o", "patch", "--config", folder.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "[]\n"));
    assert_eq!(ran.stderr, "queue 'gpu-queue' is not configured (unknownQueue: Base)\nunchanged\n");
}

const STREAM: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: ml}
spec:
  template:
    metadata: {labels: {podgraft.io/queue: gpu-queue}}
    spec: {containers: [{name: main, image: python}]}
---
kind: Pod
apiVersion: v1
metadata: {name: web}
spec: {containers: [{name: web, image: nginx}]}
";

const LABELS: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nbasePodTemplate: {labels: {team: ml}}\n";

#[test]
fn a_stream_renders_pods_and_jobs_and_names_the_objects_left_out() {
    let folder = folder(&[("stream.yaml", STREAM), ("podgraft.yaml", LABELS)]);
    let run = |output| {
        podgraft_in(folder.path(), &["render", "-f", "stream.yaml", "--config", "podgraft.yaml", "-o", output], "")
    };
    let patch = run("patch");
    assert_eq!(patch.code, 0, "{}", patch.stderr);
    assert_eq!(
        patch.stderr,
        "stream.yaml:1 (document 1): it is a Service; a Pod, a Job or an AdmissionReview is expected; ignored\n\
         stream.yaml:5 (document 2): queue 'gpu-queue' is not configured (unknownQueue: Base)\n\
         stream.yaml:13 (document 3): skipped: not a task pod of this configuration\n"
    );
    assert_eq!(
        patch.stdout,
        "[{\"op\":\"add\",\"path\":\"/metadata/labels/team\",\"value\":\"ml\"},\
         {\"op\":\"add\",\"path\":\"/metadata/annotations\",\"value\":{\"podgraft.io/applied\":\"base\"}}]\n[]\n"
    );
    let yaml = run("yaml").stdout;
    let (job, web) = yaml.split_once("---\n").unwrap();
    assert!(job.contains("  generateName: train-\n") && job.contains("    job-name: train\n"), "{job}");
    assert_eq!(
        web,
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - image: nginx\n    name: web\n"
    );
    let diff = run("diff").stdout;
    assert!(diff.starts_with("# stream.yaml:5 (document 2)\n"), "{diff}");
}

#[test]
fn a_jobs_pod_comes_from_the_job_controller_which_is_no_submitter() {
    let job = STREAM.split("---\n").nth(1).unwrap().replace("podgraft.io/queue", "clearml-agent-queue-name");
    let vault = "queues: {GPU Queue: {modules: [nfs]}}\nmodules: {nfs: {wasm: inject-nfs.wasm, when: \"user == 'ada'\"}}\n\
        taskConfig: [{config: {nfs: {mountPath: /mnt/x, server: {ip: 10.0.0.7, path: /x}}}}]\n";
    let config = config(vault);
    let config = config.path().display().to_string();
    let annotated = job.replace("metadata: {labels:", "metadata: {annotations: {podgraft.io/user: ada}, labels:");
    let run = |extra: &[&str]| {
        let policies = policies();
        let arguments = ["render", "-f", "-", "--config", &config, "--policies", &policies, "-o", "provenance"];
        podgraft(&[&arguments, extra].concat(), &annotated)
    };
    let (controller, agent) = (run(&[]), run(&["--as", "system:serviceaccount:clearml:clearml-agent-sa"]));
    assert_eq!((controller.code, controller.stdout.as_str()), (0, ""), "{}", controller.stderr);
    assert!(agent.stdout.contains("by module/nfs"), "{}{}", agent.stdout, agent.stderr);
}

#[test]
fn unreadable_input_is_one_sentence_with_its_place() {
    let folder = folder(&[("podgraft.yaml", LABELS), ("pods/a.yaml", "kind: Pod\n")]);
    let run = |file: &str, stdin: &str| {
        let ran = podgraft_in(folder.path(), &["render", "-f", file, "--config", "podgraft.yaml"], stdin);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        ran.stderr
    };
    assert_eq!(run("pods", ""), "podgraft: pods is a folder; a file is expected\n");
    assert_eq!(run("-", ""), "podgraft: -: it holds no document; a Pod, a Job or an AdmissionReview is expected\n");
    let error = run("-", "kind: Pod\nspec: [\n");
    assert!(error.starts_with("podgraft: -:2:7: ") && error.contains("bracket"), "{error}");
    let two = "kind: Service\n---\nkind: Secret\n";
    let error = run("-", two);
    assert!(
        error.ends_with("podgraft: -: it holds none of these; a Pod, a Job or an AdmissionReview is expected\n"),
        "{error}"
    );
    let error = run("-", "kind: Pod\n---\nkind: Job\n");
    assert_eq!(error, "podgraft: -:3 (document 2): the Job has no spec.template.spec\n");
}
