//! Configurations, modules, manifests and reviews that tests are given.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::{Outcome, root};

/// The first two lines of every configuration.
pub const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";

/// The sections as a whole GraftConfig.
pub fn graft_config(sections: &str) -> String {
    format!("{HEAD}{sections}\n")
}

// === modules ===

/// A module of the repository.
pub fn committed(name: &str) -> Outcome<Vec<u8>> {
    fs::read(root().join("policies").join(name)).map_err(|error| format!("{name}: {error}"))
}

/// A module of `policies/misbehaving`.
pub fn misbehaving(name: &str) -> Outcome<Vec<u8>> {
    let path = root().join("policies/misbehaving").join(name).with_extension("wat");
    wat::parse_file(path).map_err(|error| error.to_string())
}

/// A module that returns this fragment, whatever it is asked.
pub fn returning(fragment: &Value) -> Outcome<Vec<u8>> {
    let path = root().join("policies/misbehaving/not-json.wat");
    let wat = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let text = fragment.to_string();
    let data = text.bytes().fold(String::new(), |mut data, byte| {
        let _ = write!(data, "\\{byte:02x}");
        data
    });
    let wat = wat
        .replace("\"not json\"", &format!("\"{data}\""))
        .replace("(i32.const 12) (i32.const 8)", &format!("(i32.const 12) (i32.const {})", text.len()));
    wat::parse_str(wat).map_err(|error| error.to_string())
}

// === manifests and reviews ===

/// A manifest of the real agent, in another namespace and queue than the one that it was recorded in.
pub fn clearml_manifest(file: &str, namespace: &str) -> Outcome<String> {
    let path = root().join("tests/fixtures/clearml").join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.replace("\n  namespace: clearml\n", &format!("\n  namespace: {namespace}\n")))
}

/// A review of a pod that is no task's, in this version of the API.
pub fn review(version: &str) -> String {
    json!({
        "apiVersion": version,
        "kind": "AdmissionReview",
        "request": {
            "uid": "a-\"uid\"",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "ns",
            "name": "pod",
            "userInfo": {"username": "u"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "pod", "labels": {"a": "CANARY"}},
                "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "CANARY"}]}]},
            },
        },
    })
    .to_string()
}

/// A review of a task pod in this queue.
pub fn task_review(queue: &str) -> String {
    let mut review: Value = serde_json::from_str(&review("admission.k8s.io/v1")).expect("the review is JSON");
    review["request"]["uid"] = "uid".into();
    review["request"]["object"]["metadata"]["labels"] = json!({"podgraft.io/queue": queue});
    review.to_string()
}
