//! Each sentence of the merge's rules, and that laying a stack twice changes nothing.

use super::*;
use serde_json::{Value, json};

mod conflict;
mod directives;
mod stacks;
mod table;

const KEEP: MergeRule = MergeRule { conflict: Conflict::Keep, keeps_env: false, may_remove: false, alias: true };
const OVERRIDE: MergeRule = MergeRule { conflict: Conflict::Override, ..KEEP };
const DENY: MergeRule = MergeRule { conflict: Conflict::Deny, ..KEEP };

/// Lays fragments over a pod whose primary container is `main`.
fn lay(pod: &Value, fragments: &[(MergeRule, Value)]) -> Result<Value, MergeError> {
    let arena = Bump::new();
    let original = Json::borrowed(pod, &arena);
    let owners = ManagedFields::from_pod(original, &arena);
    let mut merger = Merger::new(original, &owners, Some("main"), &arena);
    let mut result = original;
    for (rule, fragment) in fragments {
        result = merger.apply(result, Json::borrowed(fragment, &arena), *rule)?;
    }
    Ok(result.to_value())
}

fn main_with(extra: &Value) -> Value {
    let mut container = json!({"name": "main"});
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"spec": {"containers": [container]}})
}

fn primary(extra: &Value) -> Value {
    let mut fragment = main_with(extra);
    fragment["spec"]["containers"][0]["name"] = json!("primary");
    fragment
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}
