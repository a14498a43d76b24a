//! Output into a closed pipe, as with `| head`.

use std::process::{Command, Stdio};

use super::{folder, root, words};

/// Returns the exit code and stderr of a command line whose stdout is closed.
fn with_closed_stdout(line: &str, stderr_too: bool) -> (Option<i32>, String) {
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let mut command = Command::new(podgraft_testkit::program());
    command.args(words(line)).current_dir(root()).stdin(Stdio::null()).stdout(closed()).stderr(Stdio::piped());
    if stderr_too {
        command.stderr(closed());
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

const CONFIGURATION: &str = "--config tests/cases/readme/config.yaml --policies policies";

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let folder = folder(&[]);
    let made = folder.path().join("certs").display().to_string();
    for line in [
        format!("render -f tests/cases/readme/pod.yaml {CONFIGURATION}"),
        format!("explain -f tests/cases/readme/pod.yaml {CONFIGURATION}"),
        format!("check {CONFIGURATION}"),
        format!("check {CONFIGURATION} -o json"),
        "test tests/cases/readme --policies policies".to_owned(),
        "module inspect policies/inject-nfs.wasm".to_owned(),
        "completion bash".to_owned(),
        "schema".to_owned(),
        format!("certs make --dir {made}"),
        format!("certs check --dir {made}"),
    ] {
        assert_eq!(with_closed_stdout(&line, false), (Some(141), String::new()), "{line}");
    }
}

#[test]
fn files_are_written_when_the_pipe_is_closed() {
    let pod = "kind: Pod\nmetadata: {name: train}\nspec: {containers: [{name: a, image: b}]}\n";
    let config = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
    let folder = folder(&[
        ("a/pod.yaml", pod),
        ("a/config.yaml", config),
        ("b/pod.yaml", pod),
        ("b/config.yaml", config),
        ("b/expected.yaml", "kind: Pod\n"),
    ]);
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(
        with_closed_stdout(&format!("test {} --junit {}", at(""), at("results.xml")), false),
        (Some(141), String::new())
    );
    let results = std::fs::read_to_string(at("results.xml")).unwrap();
    assert!(results.contains(r#"tests="2" failures="2""#) && results.contains(r#"name="b""#), "{results}");
    assert_eq!(with_closed_stdout(&format!("test {} --update", at("")), false), (Some(141), String::new()));
    let written = ["a/expected.yaml", "b/expected.yaml"].map(|name| std::fs::read_to_string(at(name)).unwrap());
    assert!(written.iter().all(|text| text.contains("name: train")), "{written:?}");
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let line = "check --config tests/cases/readme/pod.yaml";
    assert_eq!(with_closed_stdout(line, true).0, Some(1), "{line}");
    let line = "render -f tests/cases/readme/pod.yaml --config tests/cases/readme/pod.yaml";
    assert_eq!(with_closed_stdout(line, true).0, Some(2), "{line}");
    let line = "module run policies/inject-nfs.wasm -f tests/cases/readme/pod.yaml";
    assert_eq!(with_closed_stdout(line, true).0, Some(0), "{line}");
}
