//! Tests of the merge rules, and that applying a stack of layers twice changes nothing.

use serde_json::{Value, json};

use super::*;

mod conflict;
mod directives;
mod lists;
mod stacks;

const KEEP: MergeRule = MergeRule { conflict: Conflict::Keep, keeps_env: false, may_remove: false, alias: true };
const OVERRIDE: MergeRule = MergeRule { conflict: Conflict::Override, ..KEEP };
const DENY: MergeRule = MergeRule { conflict: Conflict::Deny, ..KEEP };

/// Merges fragments into a pod whose primary container is `main`.
fn merge(pod: &Value, fragments: &[(MergeRule, Value)]) -> Result<Value, MergeError> {
    let arena = Bump::new();
    let original = Json::borrowed(pod, &arena);
    let managed_fields = ManagedFields::from_pod(original, &arena);
    let mut merger = Merger::new(original, &managed_fields, Some("main"), &arena);
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
