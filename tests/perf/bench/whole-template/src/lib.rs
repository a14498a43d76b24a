//! The dearer way to write a module: parses the whole template into a `Value`, changes it, and gives all of it back.

use podgraft_sdk::serde_json::{self, Value, json};
use podgraft_sdk::{Input, Outcome, Result};

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let mut template: Value = input.template()?;
    template["metadata"]["labels"]["bench/module"] = json!("whole-template");
    let nfs = json!({"name": "custom-mount", "nfs": {"server": "10.0.0.7", "path": "/export/data"}});
    list(&mut template["spec"]["volumes"]).push(nfs);
    for container in list(&mut template["spec"]["containers"]) {
        list(&mut container["volumeMounts"]).push(json!({"name": "custom-mount", "mountPath": "/mnt/nfs"}));
    }
    serde_json::to_string(&template).map(Outcome::Template).map_err(|error| error.to_string().into())
}

/// The list that `value` is, or becomes.
fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    let Value::Array(items) = value else { unreachable!() };
    items
}

podgraft_sdk::hook!(update_template);
