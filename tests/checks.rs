//! `checks.md`, the table of what a webhook is held to, names only what exists; and the manifests are what it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot read fails")]

use std::fs;
use std::path::Path;

use podgraft_testkit::root;
use serde_json::{Value, json};

/// All Rust text of the folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

/// The rows of the table: number, and what stands in the last column.
fn rows() -> Vec<(usize, String)> {
    let table = fs::read_to_string(root().join("tests/checks.md")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| C"));
    let cells = rows.map(|row| row.trim_end_matches(" |").split(" | ").collect::<Vec<_>>());
    cells.map(|cells| (cells[0].parse().unwrap(), cells[2].to_owned())).collect()
}

#[test]
fn every_check_has_its_row() {
    let numbers: Vec<usize> = rows().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=61).collect::<Vec<_>>());
    for (number, shown) in rows() {
        let said = ["`", "Later: ", "Not done: "].iter().any(|start| shown.starts_with(start));
        assert!(said, "C{number} is neither shown nor explained: {shown}");
    }
}

#[test]
fn every_name_in_the_table_exists() {
    let sources = sources(&root().join("src")) + &sources(&root().join("tests"));
    let targets = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    for (number, shown) in rows() {
        // what explains comes last and may name anything
        let explains = ["Later: ", "Not done: "].iter().filter_map(|start| shown.find(start)).min();
        for name in shown[..explains.unwrap_or(shown.len())].split('`').skip(1).step_by(2) {
            let found = match name.strip_prefix("fuzz:") {
                Some(target) => targets.contains(&format!("name = \"{target}\"")),
                None if name.contains(['/', '.']) => root().join(name).is_file(),
                None if name.contains('-') => root().join("tests/cases").join(name).is_dir(),
                None => sources.contains(&format!("fn {name}(")),
            };
            assert!(found, "C{number} names {name}, which is not there");
        }
    }
}

fn manifest(name: &str) -> Value {
    let text = fs::read_to_string(root().join("deploy/kustomize/base").join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn the_registration_asks_for_the_creation_of_pods_and_nothing_else() {
    let registration = manifest("mutatingwebhookconfiguration.yaml");
    let entries = registration["webhooks"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for (entry, (policy, operator)) in entries.iter().zip([("Ignore", "DoesNotExist"), ("Fail", "Exists")]) {
        let rule = json!({
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "Namespaced"
        });
        assert_eq!(entry["rules"], json!([rule]));
        assert_eq!(entry["failurePolicy"], policy);
        assert_eq!(entry["matchPolicy"], "Equivalent");
        assert_eq!(entry["admissionReviewVersions"], json!(["v1"]));
        assert_eq!(entry["sideEffects"], "None");
        assert_eq!(entry["reinvocationPolicy"], "Never");
        assert!((1..=3).contains(&entry["timeoutSeconds"].as_i64().unwrap()));
        assert!(entry["clientConfig"].get("caBundle").is_none(), "an empty one would overwrite the real one");
        let namespaces = json!([
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "kube-node-lease", "podgraft"]},
            {"key": "podgraft.io/required", "operator": operator},
        ]);
        assert_eq!(entry["namespaceSelector"]["matchExpressions"], namespaces);
    }
}

#[test]
fn the_deployment_is_restricted_spread_and_leaves_last() {
    let deployment = manifest("deployment.yaml");
    assert!(deployment["spec"]["replicas"].as_i64().unwrap() >= 2);
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], json!({"maxUnavailable": 0, "maxSurge": 1}));
    let pod = &deployment["spec"]["template"]["spec"];
    let spread = pod["topologySpreadConstraints"].as_array().unwrap().iter();
    let keys: Vec<_> = spread.map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    let restricted = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    for container in pod["containers"].as_array().unwrap() {
        assert_eq!(container["securityContext"], restricted);
    }
    let budget = manifest("poddisruptionbudget.yaml");
    let labels = &budget["spec"]["selector"]["matchLabels"];
    assert_eq!(labels, &deployment["spec"]["selector"]["matchLabels"]);
}
