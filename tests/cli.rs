//! The command line as a person meets it: the README's examples, exit codes, and what is said of mistakes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn podgraft(arguments: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podgraft"))
        .args(arguments)
        .current_dir(root())
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

const POD: &str = "tests/cases/readme/pod.yaml";
const CONFIG: &str = "tests/cases/readme/config.yaml";

fn render(arguments: &[&str]) -> Ran {
    podgraft(&[&["render", "-f", POD, "--config", CONFIG, "--policies", "policies"], arguments].concat(), "")
}

/// A configuration of one file, with the head lines.
fn config(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
    fs::write(folder.path().join("podgraft.yaml"), format!("{head}{text}")).unwrap();
    folder
}

/// What render says of a configuration on stderr.
fn complaint(text: &str) -> String {
    let folder = config(text);
    let ran =
        podgraft(&["render", "-f", POD, "--policies", "policies", "--config", folder.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    ran.stderr
}

#[test]
fn the_readmes_commands_print_what_it_shows() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap();
        let arguments: Vec<&str> = command.strip_prefix("$ podgraft ").unwrap().split(' ').collect();
        let ran = podgraft(&arguments, "");
        assert_eq!(ran.stdout, shown, "{command}\n{}", ran.stderr);
    }
}

#[test]
fn the_readmes_configuration_is_the_one_that_it_names() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&fs::read_to_string(root().join(CONFIG)).unwrap()));
}

#[test]
fn every_form_of_the_result_tells_the_same_pod() {
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
fn a_rejected_pod_is_exit_code_1_and_names_reason_and_module() {
    let folder = config(
        "modules: {nfs: {wasm: inject-nfs.wasm}}\nqueues: {GPU Queue: {modules: [nfs]}}\ntaskConfig: [{config: {nfs: {}}}]\n",
    );
    let ran =
        podgraft(&["render", "-f", POD, "--policies", "policies", "--config", folder.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(ran.stderr, "rejected (422, ModuleFailed): module nfs refused: task_config nfs.server.ip is missing\n");
}

#[test]
fn a_pod_of_nobodys_is_printed_as_it_is_and_said_so() {
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - image: nginx\n    name: web\n";
    let ran = podgraft(&["render", "-f", "-", "--config", CONFIG, "--policies", "policies"], pod);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, pod));
    assert_eq!(ran.stderr, "not a task pod of this configuration: left as it is\n");
}

#[test]
fn wrong_input_is_exit_code_2_and_says_what_would_be_right() {
    let stdin = |text: &str| podgraft(&["render", "-f", "-", "--config", CONFIG, "--policies", "policies"], text);
    let cases = [
        (stdin("kind: Job\n"), "podgraft: -: it is a Job; a Pod or an AdmissionReview is expected\n"),
        (stdin("a: 1\n"), "podgraft: -: it has no kind; a Pod or an AdmissionReview is expected\n"),
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
            "podgraft: 1 problem in the configuration\n  tests/cases/readme/pod.yaml: holds no `apiVersion: podgraft.io/v1alpha1, kind: GraftConfig`\n",
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
fn a_typo_in_the_configuration_is_named_with_its_place_and_the_right_spelling() {
    let text = "queues:\n  pvc-test:\n    templateOverrides:\n      volumeMount: []\n    claims: [{volume: v, type: Managed}]\n";
    assert_eq!(
        complaint(text),
        "podgraft: 2 problems in the configuration\n  \
         podgraft.yaml:6:7: queues.pvc-test.templateOverrides.volumeMount: unknown key; did you mean volumeMounts?\n  \
         podgraft.yaml:7:32: queues.pvc-test.claims[0].type: Managed is not supported yet\n"
    );
}

#[test]
fn a_broken_module_is_named_with_what_is_wrong_with_it() {
    let folder = config("modules: {bad: {wasm: bad.wasm}}\nqueues: {GPU Queue: {modules: [bad]}}\n");
    let complaint = |bytes: &[u8]| {
        fs::write(folder.path().join("bad.wasm"), bytes).unwrap();
        let config = folder.path().to_str().unwrap();
        podgraft(&["render", "-f", POD, "--config", config], "").stderr
    };
    let text = complaint(b"not wasm");
    assert!(text.contains("podgraft.yaml:3:") && text.contains("modules.bad") && text.contains("component"), "{text}");
    let text = complaint(&wat::parse_file(root().join("policies/misbehaving/imports.wat")).unwrap());
    assert!(text.contains("podgraft:template/host@0.1.0"), "{text}");
    let text = complaint(&wat::parse_file(root().join("policies/misbehaving/core-module.wat")).unwrap());
    assert!(text.contains("core module"), "{text}");
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    for level in ["loud", "info,=x=y", ""] {
        let ran =
            podgraft(&["serve", "--config", CONFIG, "--tls-cert", "x", "--tls-key", "x", "--log-level", level], "");
        assert_eq!(ran.code, 2, "{level}: {}", ran.stderr);
        assert!(ran.stderr.contains("must be error, warn, info, debug or trace"), "{level}: {}", ran.stderr);
    }
}

#[test]
fn a_path_that_does_not_exist_ends_serve_at_once() {
    for (flag, arguments) in [
        ("--config", ["--config", "confg", "--policies", "policies"]),
        ("--policies", ["--config", CONFIG, "--policies", "polices"]),
    ] {
        let ran = podgraft(&[&["serve", "--tls-cert", "x", "--tls-key", "x"][..], &arguments].concat(), "");
        assert_eq!(ran.code, 2, "{flag}: {}", ran.stderr);
        let expected = format!("podgraft: {flag} ");
        assert!(
            ran.stderr.contains(&expected) && ran.stderr.contains("cannot be read: No such file"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_queue_that_nobody_configured_is_named_and_so_is_a_pod_that_needs_nothing() {
    let folder = config("queues: {other: {}}\n");
    let ran = podgraft(&["render", "-f", POD, "-o", "patch", "--config", folder.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "[]\n"));
    assert_eq!(ran.stderr, "queue 'gpu-queue' is not configured (unknownQueue: Base)\nnothing to change\n");
}
