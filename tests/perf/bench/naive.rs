//! The webhook that one would write first: `serde_json::Value`, a copy, a merge in place, `json_patch::diff`.
//!
//! It knows just enough to give the same pod as podgraft for the fixtures' layers. What podgraft does beside (the
//! schema, guards, applying the patch to itself) is left out: this is the cheapest form of the obvious way.

use base64::Engine as _;
use podgraft::merge::layer::{Conflict, Layer};
use serde_json::{Value, json};

/// Answers a review with these layers.
pub(crate) fn answer(body: &[u8], layers: &[Layer]) -> Vec<u8> {
    let review: Value = serde_json::from_slice(body).unwrap();
    let before = &review["request"]["object"];
    let mut pod = before.clone();
    let primary = before["metadata"]["name"].as_str().unwrap();
    let mut applied: Vec<String> = Vec::new();
    for layer in layers {
        let merge = Merge { overrides: layer.conflict == Conflict::Override, primary };
        merge.value(&mut pod, Some(before), &layer.fragment, "");
        let source = layer.source.to_string();
        if applied.last() != Some(&source) {
            applied.push(source);
        }
    }
    drop_copied_requests(before, &mut pod);
    pod["metadata"]["annotations"]["podgraft.io/applied"] = json!(applied.join(", "));
    let patch = serde_json::to_string(&json_patch::diff(before, &pod)).unwrap();
    let reply = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "response": {
            "uid": review["request"]["uid"],
            "allowed": true,
            "patchType": "JSONPatch",
            "patch": base64::engine::general_purpose::STANDARD.encode(patch),
        },
    });
    serde_json::to_vec(&reply).unwrap()
}

struct Merge<'a> {
    overrides: bool,
    primary: &'a str,
}

impl Merge<'_> {
    fn value(&self, current: &mut Value, original: Option<&Value>, fragment: &Value, field: &str) {
        match (current, fragment) {
            (Value::Object(current), Value::Object(fragment)) => {
                for (key, value) in fragment {
                    match current.get_mut(key) {
                        _ if key == "name" && field == "containers" => {}
                        Some(present) => self.value(present, original.and_then(|o| o.get(key)), value, key),
                        None => {
                            current.insert(key.clone(), value.clone());
                        }
                    }
                }
            }
            (Value::Array(current), Value::Array(fragment)) => {
                let original = original.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for item in fragment {
                    self.element(current, original, item, field);
                }
            }
            (current, fragment) if self.overrides || original.is_none() => *current = fragment.clone(),
            _ => {}
        }
    }

    fn element(&self, current: &mut Vec<Value>, original: &[Value], item: &Value, field: &str) {
        let key = match field {
            "volumeMounts" => "mountPath",
            "tolerations" => {
                if !current.contains(item) {
                    current.push(item.clone());
                }
                return;
            }
            _ => "name",
        };
        let is_primary = field == "containers" && item["name"] == "primary";
        let name = if is_primary { self.primary } else { item[key].as_str().unwrap_or_default() };
        let own = original.iter().find(|own| own[key] == name);
        match current.iter_mut().find(|present| present[key] == name) {
            Some(present) if field == "containers" => self.value(present, own, item, field),
            Some(present) if self.overrides || own.is_none() => *present = item.clone(),
            Some(_) => {}
            None => {
                let is_own = |present: &Value| original.iter().any(|own| own[key] == present[key]);
                let place = current.iter().position(is_own).unwrap_or(current.len());
                current.insert(place, item.clone());
            }
        }
    }
}

/// A request that was the API server's copy of a limit goes when the limit changes.
fn drop_copied_requests(before: &Value, pod: &mut Value) {
    let (was, now) = (&before["spec"]["containers"][0]["resources"], &mut pod["spec"]["containers"][0]["resources"]);
    let Some(limits) = was["limits"].as_object() else { return };
    for (resource, limit) in limits {
        if now["limits"][resource] != *limit && now["requests"][resource] == *limit {
            now["requests"].as_object_mut().unwrap().remove(resource);
        }
    }
}
