//! `podgraft test`: results, differences, updates and errors of case folders.

use std::fs;

use super::{folder, podgraft_in, policies, words};

const CONFIG: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues:\n  gpu: {templateOverrides: {nodeSelector: {accelerator: a100}}}\nunknownQueue: Deny\n";
const POD: &str =
    "kind: Pod\nmetadata: {name: train, labels: {podgraft.io/queue: gpu}}\nspec: {containers: [{name: a, image: b}]}\n";
/// Written by hand, with another order of keys.
const EXPECTED: &str = "\
# the a100 is what the queue is for
spec: {nodeSelector: {accelerator: a100}, containers: [{image: b, name: a}]}
kind: Pod
metadata:
  name: train
  labels: {podgraft.io/queue: gpu}
  annotations: {podgraft.io/applied: queue/gpu}
";
const DENIED: &str = "422 UnknownQueue: queue 'cpu' is not configured, and unknownQueue is Deny\n";

#[test]
fn cases_pass_with_their_own_configuration_or_the_shared_one() {
    let denied = POD.replace("gpu", "cpu");
    let folder = folder(&[
        ("podgraft.yaml", CONFIG),
        ("cases/a/pod.yaml", POD),
        ("cases/a/expected.yaml", EXPECTED),
        ("cases/deeper/b/pod.yaml", POD),
        ("cases/deeper/b/config/podgraft.yaml", CONFIG),
        ("cases/deeper/b/expected.yaml", EXPECTED),
        ("cases/deeper/c/pod.yaml", &denied),
        ("cases/deeper/c/config.yaml", CONFIG),
        ("cases/deeper/c/denial.txt", DENIED),
    ]);
    let run = |line: &str| podgraft_in(folder.path(), &words(line), "");
    let ran = run("test cases --config podgraft.yaml");
    let all = "ok      a\nok      deeper/b\nok      deeper/c\n3 cases: 3 passed\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, all, ""));
    let ran = run("test cases --config podgraft.yaml --only /c --only /b");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ok      deeper/b\nok      deeper/c\n2 cases: 2 passed\n"));
    let ran = run("test cases/deeper/c");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ok      c\n1 case: 1 passed\n"));
    let ran = run("test cases");
    let shown = "FAILED  a\n        the case has neither config.yaml nor a folder config, and --config is not given\n";
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.starts_with(shown), "{}", ran.stdout);
}

#[test]
fn a_failure_shows_each_difference_with_its_layer_also_in_junit() {
    let wrong = EXPECTED.replace("a100}", "h100}").replace("  name: train\n", "  name: train\n  namespace: ml\n");
    let folder = folder(&[
        ("cases/wrong/pod.yaml", POD),
        ("cases/wrong/config.yaml", CONFIG),
        ("cases/wrong/expected.yaml", &wrong),
        ("cases/denied/pod.yaml", &POD.replace("gpu", "cpu")),
        ("cases/denied/config.yaml", CONFIG),
        ("cases/denied/expected.yaml", EXPECTED),
        ("cases/passes/pod.yaml", POD),
        ("cases/passes/config.yaml", CONFIG),
        ("cases/passes/denial.txt", DENIED),
    ]);
    let ran = podgraft_in(folder.path(), &words("test cases --junit junit.xml"), "");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert_eq!(
        ran.stdout,
        "\
FAILED  denied
        expected.yaml holds a pod, but the pod is denied:
        422 UnknownQueue: queue 'cpu' is not configured, and unknownQueue is Deny
FAILED  passes
        the pod should be denied (422 UnknownQueue: queue 'cpu' is not configured, and unknownQueue is Deny), but it is created with these changes:
          kind: Pod
          metadata:
        +   annotations:                       # podgraft
        +     podgraft.io/applied: queue/gpu   # podgraft
            labels:
              podgraft.io/queue: gpu
            name: train
          ...
            containers:
            - image: b
              name: a
        +   nodeSelector:                      # queue/gpu
        +     accelerator: a100                # queue/gpu
FAILED  wrong
        expected.yaml (-) and the result (+) differ:
            labels:
              podgraft.io/queue: gpu
            name: train
        -   namespace: ml
          spec:
            containers:
            - image: b
              name: a
            nodeSelector:
        -     accelerator: h100        # queue/gpu
        +     accelerator: a100        # queue/gpu
3 cases: 0 passed, 3 failed
"
    );
    let junit = fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    let junit = roxmltree::Document::parse(&junit).unwrap();
    let suite = junit.root_element().first_element_child().unwrap();
    assert_eq!(
        (suite.attribute("name"), suite.attribute("tests"), suite.attribute("failures")),
        (Some("cases"), Some("3"), Some("3"))
    );
    let cases: Vec<_> = suite.children().filter(roxmltree::Node::is_element).collect();
    let failure = cases[2].first_element_child().unwrap();
    assert_eq!(failure.attribute("message"), Some("expected.yaml (-) and the result (+) differ:"));
    assert!(failure.text().unwrap().contains("\n-     accelerator: h100"), "{:?}", failure.text());
}

#[test]
fn update_writes_the_result_once_and_keeps_correct_files() {
    let folder = folder(&[
        ("cases/new/pod.yaml", POD),
        ("cases/new/config.yaml", CONFIG),
        ("cases/turned/pod.yaml", &POD.replace("gpu", "cpu")),
        ("cases/turned/config.yaml", CONFIG),
        ("cases/turned/expected.yaml", EXPECTED),
        ("cases/right/pod.yaml", POD),
        ("cases/right/config.yaml", CONFIG),
        ("cases/right/expected.yaml", EXPECTED),
    ]);
    let run = |line: &str| podgraft_in(folder.path(), &words(line), "");
    let before = run("test cases");
    let shown = "FAILED  new\n        neither expected.yaml nor denial.txt exists; --update writes the result: a pod\n";
    assert!(before.code == 1 && before.stdout.starts_with(shown), "{}", before.stdout);
    let updated = run("test cases --update");
    let shown = "updated new\nok      right\nupdated turned\n3 cases: 1 passed, 2 updated\n";
    assert_eq!((updated.code, updated.stdout.as_str()), (0, shown));
    let read = |name: &str| fs::read_to_string(folder.path().join("cases").join(name));
    assert_eq!(read("turned/denial.txt").unwrap(), DENIED);
    assert!(read("turned/expected.yaml").is_err(), "the file of the other outcome is removed");
    assert_eq!(read("right/expected.yaml").unwrap(), EXPECTED, "the file keeps its comment");
    assert!(read("new/expected.yaml").unwrap().starts_with("kind: Pod\nmetadata:\n  annotations:\n"));
    assert_eq!(run("test cases").stdout, "ok      new\nok      right\nok      turned\n3 cases: 3 passed\n");
}

#[test]
fn update_writes_into_empty_files() {
    let denied = POD.replace("gpu", "cpu");
    let folder = folder(&[
        ("cases/new/pod.yaml", POD),
        ("cases/new/config.yaml", CONFIG),
        ("cases/new/expected.yaml", ""),
        ("cases/noted/pod.yaml", POD),
        ("cases/noted/config.yaml", CONFIG),
        ("cases/noted/expected.yaml", "# the result\n---\n"),
        ("cases/denied/pod.yaml", &denied),
        ("cases/denied/config.yaml", CONFIG),
        ("cases/denied/denial.txt", ""),
        ("cases/turned/pod.yaml", &denied),
        ("cases/turned/config.yaml", CONFIG),
        ("cases/turned/expected.yaml", ""),
    ]);
    let run = |line: &str| podgraft_in(folder.path(), &words(line), "").stdout;
    let before = run("test cases");
    assert!(before.contains("FAILED  new\n        expected.yaml is empty; --update writes the result\n"), "{before}");
    let updated = "updated denied\nupdated new\nupdated noted\nupdated turned\n4 cases: 0 passed, 4 updated\n";
    assert_eq!(run("test cases --update"), updated);
    let shown = "ok      denied\nok      new\nok      noted\nok      turned\n4 cases: 4 passed\n";
    assert_eq!(run("test cases"), shown);
    assert!(!folder.path().join("cases/turned/expected.yaml").exists());
}

#[test]
fn a_module_that_never_settles_fails_its_case_by_name() {
    let config = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues: {gpu: {modules: [again]}}\nmodules: {again: {wasm: again.wasm}}\n";
    let folder = folder(&[("cases/a/pod.yaml", POD), ("cases/a/config.yaml", config)]);
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/again.wasm"), super::check::unstable_module()).unwrap();
    let ran = podgraft_in(folder.path(), &words("test cases --policies policies --update"), "");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (
            1,
            "FAILED  a\n        sent a second time, the result changes again:\n          metadata.labels.n by module/again\n1 case: 0 passed, 1 failed\n"
        )
    );
}

#[test]
fn mistakes_are_errors_with_the_correct_form() {
    let folder = folder(&[
        ("empty/README.md", ""),
        ("cases/both/pod.yaml", POD),
        ("cases/both/config.yaml", CONFIG),
        ("cases/both/expected.yaml", EXPECTED),
        ("cases/both/denial.txt", DENIED),
        ("cases/no-pod/pods.yaml", POD),
        ("cases/no-pod/config.yaml", CONFIG),
        ("cases/no-pod/expected.yaml", EXPECTED),
        ("cases/two/pod.yaml", &format!("{POD}---\n{POD}")),
        ("cases/two/config.yaml", CONFIG),
        ("cases/typo/pod.yaml", POD),
        ("cases/typo/config.yaml", &CONFIG.replace("nodeSelector", "nodeSelectr")),
        ("cases/typo/expected.yaml", EXPECTED),
    ]);
    let run = |line: &str| podgraft_in(folder.path(), &words(line), "");
    let usage = [
        ("test nowhere", "podgraft: nowhere cannot be read: No such file or directory (os error 2)\n"),
        (
            "test empty",
            "podgraft: empty holds no case; a case is a folder with pod.yaml or review.json, and expected.yaml or denial.txt\n",
        ),
        ("test cases --only gpu", "podgraft: none of the 4 cases in cases has gpu in its name\n"),
    ];
    for (line, error) in usage {
        let ran = run(line);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "", error));
    }
    let ran = run("test cases");
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stdout,
        "\
FAILED  both
        expected.yaml and denial.txt both exist; a case has one expected result
FAILED  no-pod
        neither pod.yaml nor review.json exists; a case needs one of them
FAILED  two
        pod.yaml holds 2 documents; a case has one pod
FAILED  typo
        1 error in the configuration
          config.yaml:4:29: queues.gpu.templateOverrides.nodeSelectr: unknown key; did you mean nodeSelector?
4 cases: 0 passed, 4 failed
"
    );
}

#[test]
fn a_case_run_from_its_own_folder_has_the_folders_name() {
    let ran = podgraft_in(
        &podgraft_testkit::root().join("tests/cases/readme"),
        &["test", ".", "--policies", &policies()],
        "",
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ok      readme\n1 case: 1 passed\n"), "{}", ran.stderr);
}

#[test]
fn a_pod_security_level_applies_to_its_case_only() {
    let init = "{name: i, image: b, ports: [{containerPort: 1, hostPort: 1}]}";
    let config = CONFIG.replace("nodeSelector: {accelerator: a100}", &format!("initContainers: [{init}]"));
    let expected = EXPECTED.replace("nodeSelector: {accelerator: a100}", &format!("initContainers: [{init}]"));
    let denied = "422 InvalidResult: queue/gpu: spec.initContainers[i].ports may have no hostPort: the pod would violate its namespace's PodSecurity \"baseline:v1.30\" (hostPort), and the API server's warning fails a ClearML task";
    let folder = folder(&[
        ("podgraft.yaml", config.as_str()),
        ("cases/1-baseline/pod.yaml", POD),
        ("cases/1-baseline/pod-security.txt", "baseline:v1.30\n"),
        ("cases/1-baseline/denial.txt", denied),
        ("cases/2-without/pod.yaml", POD),
        ("cases/2-without/expected.yaml", &expected),
        ("cases/3-typo/pod.yaml", POD),
        ("cases/3-typo/pod-security.txt", "strict"),
        ("cases/3-typo/expected.yaml", &expected),
    ]);
    let ran = podgraft_in(folder.path(), &words("test cases --config podgraft.yaml"), "");
    assert_eq!(
        ran.stdout,
        "\
ok      1-baseline
ok      2-without
FAILED  3-typo
        pod-security.txt: must be privileged, baseline or restricted
3 cases: 2 passed, 1 failed
"
    );
}
