//! Checks the filled values of placeholders against the rules of their fields. They are unknown at load, and the API
//! server would deny the pod without naming the layer.

use serde_json::Value;

use crate::config::{Rule, is_file_volume, quantity_error, rule_of, text_error};
use crate::json::Json;
use crate::k8s::patch::{has_key, member_path};
use crate::k8s::schema::{ListType, POD, Type};
use crate::merge::is_directed;
use crate::model::placeholder;
use crate::model::review::truncate;

/// Bytes of a layer's text that a message shows.
const MAX_SHOWN_BYTES: usize = 100;

/// The type and rule of one field of the Pod.
#[derive(Clone, Copy)]
struct FieldRule {
    kind: Type,
    list: ListType,
    rule: Option<Rule>,
}

/// Returns the path and error of the first invalid filled text of a layer. The message does not contain the value.
pub(super) fn first_invalid_value(layer: &Value, filled: Json<'_>) -> Option<String> {
    let pod = FieldRule { kind: Type::Object(&POD), list: ListType::Atomic, rule: None };
    check_value(layer, filled, pod).map(|(path, what)| format!("{}: {what}", path.trim_start_matches('.')))
}

/// Returns the path below this value, built on the way back, and the error.
fn check_value(layer: &Value, filled: Json<'_>, field: FieldRule) -> Option<(String, String)> {
    match layer {
        Value::String(text) if placeholder::text_has_placeholder(text) => {
            let what = value_error(filled.as_str()?, field)?;
            Some((String::new(), format!("`{}`, filled for this pod, {what}", truncate(text, MAX_SHOWN_BYTES))))
        }
        Value::Array(items) => {
            let Type::List(element) = field.kind else { return None };
            let inside = FieldRule { kind: *element, ..field };
            let mut pairs = items.iter().zip(filled.items()).enumerate();
            pairs.find_map(|(index, (item, filled_item))| {
                let error = check_value(item, *filled_item, inside);
                let (path, what) = error.or_else(|| repeated_key(item, *filled_item, filled, field.list))?;
                Some((format!("[{}]{path}", element_name(item, index, field.list)), what))
            })
        }
        Value::Object(members) => members.iter().zip(filled.members()).find_map(|((key, member), (_, filled))| {
            let inside = member_rule(field, key)?;
            // `fileMounts` has a rule of its own for this path
            let is_file = key == "mountPath" && layer["name"].as_str().is_some_and(is_file_volume);
            let inside = if is_file { FieldRule { rule: Some(Rule::FilePath), ..inside } } else { inside };
            let (path, what) = check_value(member, *filled, inside)?;
            Some((format!("{}{path}", member_path("", key)), what))
        }),
        _ => None,
    }
}

/// Returns the error of an element whose filled key is also the key of another element of its list: one of the two
/// would be lost silently. A key that one element removes may be set again by another.
fn repeated_key(item: &Value, filled: Json<'_>, all: Json<'_>, list: ListType) -> Option<(String, String)> {
    let [key] = list.keys() else { return None };
    let text = item.get(key)?.as_str().filter(|text| placeholder::text_has_placeholder(text))?;
    let name = filled.text(key);
    let mut others = all.items().iter().filter(|other| has_key(other, list, name) && **other != filled);
    others.find(|other| !is_directed(other) && !is_directed(&filled))?;
    Some((
        format!(".{key}"),
        format!("`{}`, filled for this pod, is twice in the list", truncate(text, MAX_SHOWN_BYTES)),
    ))
}

/// Returns the type and rule of a member. A member that the schema does not know has none.
fn member_rule(parent: FieldRule, key: &str) -> Option<FieldRule> {
    match parent.kind {
        Type::Object(object) => {
            let field = object.field(key)?;
            let rule = rule_of(object.name, field.name).or_else(|| claim_rule(object.name, field.name));
            Some(FieldRule { kind: field.kind, list: field.list, rule })
        }
        Type::Map(element) => Some(FieldRule { kind: *element, list: ListType::Atomic, ..parent }),
        _ => None,
    }
}

/// Returns the rule of a claim's name. The configuration allows a stand-in (`PVC_NAME`), which is replaced by now.
fn claim_rule(object: &str, field: &str) -> Option<Rule> {
    (object == "PersistentVolumeClaimVolumeSource" && field == "claimName").then_some(Rule::Name)
}

fn value_error(text: &str, field: FieldRule) -> Option<String> {
    match field.kind {
        Type::Quantity => quantity_error(text).map(str::to_owned),
        _ => text_error(text, field.rule?),
    }
}

/// Returns an element's key as the layer spells it, with its placeholder, or its index.
fn element_name(item: &Value, index: usize, list: ListType) -> String {
    let name = list.keys().first().and_then(|key| item.get(key)?.as_str());
    name.map_or_else(|| index.to_string(), str::to_owned)
}
