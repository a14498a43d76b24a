//! `deploy/graftconfig.schema.json`, the JSON schema of a GraftConfig for editors: it is generated from podgraft's own
//! tables and accepts every configuration of this repository. `UPDATE=1 cargo test --test schema` writes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot read fails")]

use std::fs;
use std::path::PathBuf;

use jsonschema::Validator;
use podgraft_testkit::root;
use serde_json::Value;

fn committed() -> PathBuf {
    root().join("deploy/graftconfig.schema.json")
}

fn validator() -> Validator {
    jsonschema::validator_for(&podgraft::config::json_schema()).unwrap()
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let fresh = format!("{:#}\n", podgraft::config::json_schema());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(committed(), &fresh).unwrap();
    }
    let current = fs::read_to_string(committed()).unwrap_or_default();
    assert!(current == fresh, "{} is out of date: UPDATE=1 cargo test --test schema", committed().display());
}

/// Configurations with the name of their file.
fn configurations() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("tests/cases")).unwrap() {
        let path = entry.unwrap().path().join("config.yaml");
        found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
    }
    for path in ["src/config/tests/sample.yaml", "src/config/tests/all-keys.yaml", "tests/demo/podgraft.yaml"] {
        found.push((path.to_owned(), fs::read_to_string(root().join(path)).unwrap()));
    }
    found.retain(|(_, text)| text.contains("kind: GraftConfig"));
    found
}

/// The file itself, or what a ConfigMap's manifest holds.
fn documents(text: &str) -> Vec<Value> {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    if value["kind"] == "GraftConfig" {
        return vec![value];
    }
    let data = value["data"].as_object().into_iter().flatten();
    data.filter_map(|(_, text)| text.as_str()).flat_map(documents).collect()
}

#[test]
fn every_configuration_of_the_repository_fits_the_schema() {
    let validator = validator();
    let mut seen = 0;
    for (name, text) in configurations() {
        for document in documents(&text) {
            let errors: Vec<_> =
                validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}");
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} configurations were found");
}

#[test]
fn wrong_types_words_and_ranges_do_not_fit_the_schema() {
    let validator = validator();
    let head = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
    for text in [
        "queues: []",
        "queues: {q: {mode: enforce}}",
        "queues: {q: {conflict: keep}}",
        "queues: {q: {templateOverrides: {env: [{value: a}]}}}",
        "queues: {q: {templateOverrides: {env: [{name: A, value: 1}]}}}",
        "queues: {q: {templateOverrides: {resources: {limits: {cpu: 1gb}}}}}",
        "queues: {q: {templateOverrides: {tolerations: [{operator: Exist}]}}}",
        "queues: {q: {templateOverrides: {sidecars: [{name: s, image: i, ports: [{containerPort: 0}]}]}}}",
        "queues: {q: {templateOverrides: {fileMounts: [{name: s}]}}}",
        "queues: {q: {podTemplate: {spec: {nodeName: a}}}}",
        "queues: {q: {podTemplate: {spec: {priority: 1}}}}",
        "modules: {m: {}}",
        "unknownQueue: base",
        "guards: {}",
    ] {
        let document: Value = serde_saphyr::from_str(&format!("{head}{text}")).unwrap();
        assert!(!validator.is_valid(&document), "{text}");
    }
    assert!(!validator.is_valid(&serde_json::json!({"kind": "GraftConfig"})));
}
