//! `podgraft check`: errors, notices, tables and exit codes.

use std::fs;

use super::{folder, podgraft, podgraft_in, policies, words};

const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";

/// Makes a module that sets a label to the length of its template. The label changes the length, so every call changes it
/// again.
pub(crate) fn unstable_module() -> Vec<u8> {
    let text = fs::read_to_string(podgraft_testkit::root().join("policies/misbehaving/counter.wat")).unwrap();
    let start = text.find("(global.set $calls").unwrap();
    let end = text[start..].find("(i32.const 0)))").unwrap() + start;
    let fragment = r#"{\"metadata\":{\"labels\":{\"n\":\"0\"}}}"#;
    let body =
        "(i32.store8 (i32.const 1052) (i32.add (i32.const 48) (i32.rem_u (local.get $template-size) (i32.const 7))))
      (i32.store8 (i32.const 4) (i32.const 2))
      (i32.store (i32.const 8) (i32.const 1024))
      (i32.store (i32.const 12) (i32.const 33))
      ";
    let data = format!("(memory (export \"memory\") 2) (data (i32.const 1024) \"{fragment}\")");
    let text = format!("{}{body}{}", &text[..start], &text[end..]).replace("(memory (export \"memory\") 2)", &data);
    wat::parse_str(text).unwrap()
}

#[test]
fn a_valid_configuration_is_summarized() {
    let ran = podgraft(
        &words("check --config tests/cases/readme/config.yaml --policies policies -f tests/cases/readme/pod.yaml"),
        "",
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (first, tables) = ran.stdout.split_once('\n').unwrap();
    assert!(first.starts_with("configuration ") && first.len() == "configuration ".len() + 12, "{first}");
    let digest = &fs::read_to_string(podgraft_testkit::root().join("policies/SHA256SUMS")).unwrap();
    let digest = &digest.lines().find(|line| line.ends_with("inject-nfs.wasm")).unwrap()[..12];
    let size = fs::metadata(podgraft_testkit::root().join("policies/inject-nfs.wasm")).unwrap().len().div_ceil(1024);
    assert_eq!(
        tables,
        format!(
            "
  UNIT             FOR             GIVES                       SAMPLE POD
  base             every task pod  1 layer                     patched
  queue/GPU Queue  any namespace   1 layer, modules nfs-mount  patched

  MODULE     DIGEST        SIZE    IMPORTS                       USED BY
  nfs-mount  {digest}  {size} KiB  podgraft:template/host@0.1.0  queue/GPU Queue

  MANIFEST                     OUTCOME
  tests/cases/readme/pod.yaml  patched
"
        )
    );
}

#[test]
fn all_errors_are_listed_at_once_with_place_and_correct_form() {
    let one = format!(
        "{HEAD}queues:\n  gpu:\n    templateOverrides: {{nodeSelectr: {{a: b}}}}\n    modules: [nfs-mout]\nmodules:\n  nfs-mount: {{wasm: inject-nsf.wasm}}\n"
    );
    let two = format!("{HEAD}unknownQueue: Denny\n");
    let folder = folder(&[("config/a.yaml", &one), ("config/b.yaml", &two)]);
    let ran = podgraft_in(folder.path(), &["check", "--config", "config", "--policies", &policies()], "");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            1,
            "\
errors:
  a.yaml:5:25: queues.gpu.templateOverrides.nodeSelectr: unknown key; did you mean nodeSelector?
  a.yaml:6:15: queues.gpu.modules[0]: module `nfs-mout` is not defined; did you mean nfs-mount?
  a.yaml:8:21: modules.nfs-mount.wasm: there is no file `inject-nsf.wasm`; did you mean inject-nfs.wasm?
  b.yaml:3:15: unknownQueue: must be Base or Ignore or Deny; did you mean Deny?
4 errors
"
        )
    );
    assert!(
        ran.stdout.ends_with("\n  UNIT       FOR  GIVES  SAMPLE POD\n  queue/gpu              invalid\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_file_of_the_folder_that_cannot_be_read_is_named() {
    let folder = folder(&[("config/good.yaml", HEAD)]);
    std::os::unix::fs::symlink("/proc/self/mem", folder.path().join("config/odd.yaml")).unwrap();
    let ran = podgraft_in(folder.path(), &["check", "--config", "config"], "");
    let error = "podgraft: cannot read config: odd.yaml: Input/output error (os error 5)\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (2, error));
}

#[test]
fn notices_are_errors_only_with_strict() {
    let config = format!(
        "{HEAD}basePodTemplate:\n  tolerations: [{{key: gpu, operator: Exists}}]\nqueues:\n  gpu: {{templateOverrides: {{nodeSelector: {{accelerator: a100}}}}}}\n"
    );
    let pod = "kind: Pod\nmetadata: {name: train, labels: {podgraft.io/queue: gpu}}\nspec: {nodeSelector: {accelerator: t4}, containers: [{name: a, image: b}]}\n";
    let folder = folder(&[("podgraft.yaml", &config), ("pod.yaml", pod)]);
    let run = |line: &str| podgraft_in(folder.path(), &words(line), "");
    let ran = run("check --config podgraft.yaml -f pod.yaml");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            0,
            "\
notices:
  podgraft.yaml:4: base: adds a toleration: a second `kubectl apply` of a manifest that sets any toleration fails (422)
  podgraft.yaml:6: queue/gpu: overrides spec.nodeSelector.accelerator: a second `kubectl apply` of a manifest with another value fails (422)
  pod.yaml: a second `kubectl apply` of this manifest fails (422): podgraft overrides spec.nodeSelector.accelerator
3 notices
"
        )
    );
    assert_eq!(run("check --config podgraft.yaml -f pod.yaml --strict").code, 1);
    let quiet = folder.path().join("quiet.yaml");
    fs::write(quiet, format!("{HEAD}basePodTemplate: {{labels: {{team: ml}}}}\n")).unwrap();
    let ran = run("check --config quiet.yaml --strict");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "no errors or notices\n"));
}

#[test]
fn notices_name_the_agents_own_keys_and_a_defaulted_security_boolean() {
    let config = "createQueues: true\nbasePodTemplate:\n  podSecurityContext: {runAsNonRoot: true}\n";
    let folder = folder(&[("podgraft.yaml", &format!("{HEAD}{config}"))]);
    let ran = podgraft_in(folder.path(), &words("check --config podgraft.yaml --strict"), "");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            1,
            "\
notices:
  podgraft.yaml:3:1: createQueues: is a key of the ClearML agent: podgraft ignores it
  podgraft.yaml:5: base: spec.securityContext.runAsNonRoot is only a default: a pod that sets it keeps its value; `conflict: Override` would replace it
2 notices
"
        )
    );
}

#[test]
fn a_module_that_never_settles_is_named() {
    let config = format!("{HEAD}queues: {{gpu: {{modules: [again]}}}}\nmodules: {{again: {{wasm: again.wasm}}}}\n");
    let folder = folder(&[("podgraft.yaml", &config)]);
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/again.wasm"), unstable_module()).unwrap();
    let ran = podgraft_in(folder.path(), &words("check --config podgraft.yaml --policies policies"), "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let notice = "  queue/gpu: a sample pod, sent a second time, changes again: metadata.labels.n (module/again); keep reinvocationPolicy: Never\n";
    assert!(ran.stderr.contains(notice), "{}", ran.stderr);
    assert!(ran.stdout.contains("  queue/gpu  any namespace  0 layers, modules again  unstable\n"), "{}", ran.stdout);
}

#[test]
fn a_module_that_does_not_compile_and_an_unused_one_are_named() {
    let modules = "modules:\n  bad: {wasm: bad.wasm}\n  spare: {wasm: again.wasm}\n";
    let folder = folder(&[("podgraft.yaml", &format!("{HEAD}{modules}")), ("bad.wasm", "text")]);
    fs::write(folder.path().join("again.wasm"), unstable_module()).unwrap();
    let ran = podgraft_in(folder.path(), &words("check --config podgraft.yaml --policies ."), "");
    let errors = "errors:\n  podgraft.yaml:4:15: modules.bad.wasm: module 'bad' is not WebAssembly: a component's bytes begin with \\0asm\n1 error\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (1, errors));
    let rows: Vec<_> = ran.stdout.lines().filter(|line| line.contains(" KiB ")).collect();
    assert_eq!(rows.len(), 2, "{}", ran.stdout);
    assert!(
        rows[0].starts_with("  bad ") && rows[0].ends_with("1 KiB  none     none: it does not compile"),
        "{}",
        rows[0]
    );
    assert!(rows[1].starts_with("  spare ") && rows[1].ends_with("KiB  none     none"), "{}", rows[1]);
}

#[test]
fn a_denied_pod_is_an_error_and_a_denied_sample_is_not() {
    let config = format!(
        "{HEAD}queues: {{gpu: {{modules: [nfs]}}}}\nmodules: {{nfs: {{wasm: inject-nfs.wasm}}}}\ntaskConfig: [{{config: {{nfs: {{}}}}}}]\n"
    );
    let pod = "kind: Pod\nmetadata: {name: train, labels: {podgraft.io/queue: gpu}}\nspec: {containers: [{name: a, image: b}]}\n";
    let folder = folder(&[("podgraft.yaml", &config), ("pod.yaml", pod)]);
    let policies = policies();
    let run = |extra: &[&str]| {
        let arguments = ["check", "--config", "podgraft.yaml", "--policies", &policies];
        podgraft_in(folder.path(), &[&arguments, extra].concat(), "")
    };
    let alone = run(&["--strict"]);
    assert_eq!((alone.code, alone.stderr.as_str()), (0, "no errors or notices\n"));
    let denial = "\nA sample pod for queue/gpu is denied (422, ModuleFailed): module nfs denied the pod: task_config nfs.server.ip is missing\n";
    assert!(alone.stdout.ends_with(denial), "{}", alone.stdout);
    let with = run(&["-f", "pod.yaml"]);
    let errors = "errors:\n  pod.yaml: is denied (422, ModuleFailed): module nfs denied the pod: task_config nfs.server.ip is missing\n1 error\n";
    assert_eq!((with.code, with.stderr.as_str()), (1, errors));
}

#[test]
fn the_report_is_available_as_json_on_stdout() {
    let config = format!("{HEAD}queues: {{gpu: {{modules: [nsf]}}}}\n");
    let folder = folder(&[("podgraft.yaml", &config)]);
    let ran = podgraft_in(folder.path(), &words("check --config podgraft.yaml -o json"), "");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let error = serde_json::json!({"file": "podgraft.yaml", "line": 3, "column": 26, "path": "queues.gpu.modules[0]",
        "message": "module `nsf` is not defined"});
    assert_eq!(report["errors"], serde_json::json!([error]));
    assert_eq!((&report["units"][0]["unit"], &report["units"][0]["sample"]), (&"queue/gpu".into(), &"invalid".into()));
}

#[test]
fn a_wrong_path_is_wrong_usage_and_an_empty_folder_an_error() {
    let folder = folder(&[("empty/README.md", "")]);
    let run = |line: &str| podgraft_in(folder.path(), &words(line), "");
    let ran = run("check --config nowhere.yaml");
    let error = "podgraft: cannot read nowhere.yaml: No such file or directory (os error 2)\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "", error));
    let ran = run("check --config empty");
    let errors = "errors:\n  empty: contains no *.yaml: a configuration is YAML that begins with `apiVersion: podgraft.io/v1alpha1` and `kind: GraftConfig`\n1 error\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", errors));
    assert_eq!(run("check").code, 2);
}
