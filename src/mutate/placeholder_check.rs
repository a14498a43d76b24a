//! Whether what placeholders were filled with may stand where they stood. At load nobody can tell, and the API server
//! would refuse the pod without naming the layer.

use serde_json::Value;

use crate::config::{Rule, is_file_volume, quantity_error, rule_of, text_error};
use crate::json::Json;
use crate::k8s::patch::{has_key, member_path};
use crate::k8s::schema::{ListType, POD, Type};
use crate::merge::is_directed;
use crate::model::placeholder;
use crate::model::review::truncate;

/// Of a layer's text, what a message shows.
const LONGEST: usize = 100;

/// What is known of a place in the Pod.
#[derive(Clone, Copy)]
struct Place {
    kind: Type,
    list: ListType,
    rule: Option<Rule>,
}

/// The first text of a layer that is wrong when it is filled: its path and what is wrong. The value is in neither.
pub(super) fn first_invalid_value(layer: &Value, filled: Json<'_>) -> Option<String> {
    let pod = Place { kind: Type::Object(&POD), list: ListType::Atomic, rule: None };
    in_value(layer, filled, pod).map(|(path, what)| format!("{}: {what}", path.trim_start_matches('.')))
}

/// The path is put together on the way back.
fn in_value(layer: &Value, filled: Json<'_>, place: Place) -> Option<(String, String)> {
    match layer {
        Value::String(text) if placeholder::text_has_placeholder(text) => {
            let what = value_error(filled.as_str()?, place)?;
            Some((String::new(), format!("`{}`, filled for this pod, {what}", truncate(text, LONGEST))))
        }
        Value::Array(items) => {
            let Type::List(element) = place.kind else { return None };
            let inside = Place { kind: *element, ..place };
            let mut pairs = items.iter().zip(filled.items()).enumerate();
            pairs.find_map(|(index, (item, of_pod))| {
                let found = in_value(item, *of_pod, inside);
                let (path, what) = found.or_else(|| repeated(item, *of_pod, filled, place.list))?;
                Some((format!("[{}]{path}", name_of(item, index, place.list)), what))
            })
        }
        Value::Object(members) => members.iter().zip(filled.members()).find_map(|((key, member), (_, filled))| {
            let inside = member_of(place, key)?;
            // `fileMounts` has rules of its own for what becomes this path
            let is_file = key == "mountPath" && layer["name"].as_str().is_some_and(is_file_volume);
            let inside = if is_file { Place { rule: Some(Rule::FilePath), ..inside } } else { inside };
            let (path, what) = in_value(member, *filled, inside)?;
            Some((format!("{}{path}", member_path("", key)), what))
        }),
        _ => None,
    }
}

/// An element whose name became that of another one in its list: one of the two would be lost, and nobody told. What
/// is taken away may be given anew.
fn repeated(item: &Value, filled: Json<'_>, all: Json<'_>, list: ListType) -> Option<(String, String)> {
    let [key] = list.keys() else { return None };
    let text = item.get(key)?.as_str().filter(|text| placeholder::text_has_placeholder(text))?;
    let name = filled.text(key);
    let mut others = all.items().iter().filter(|other| has_key(other, list, name) && **other != filled);
    others.find(|other| !is_directed(other) && !is_directed(&filled))?;
    Some((format!(".{key}"), format!("`{}`, filled for this pod, stands twice in the list", truncate(text, LONGEST))))
}

/// What no schema knows has no rule.
fn member_of(place: Place, key: &str) -> Option<Place> {
    match place.kind {
        Type::Object(object) => {
            let field = object.field(key)?;
            let rule = rule_of(object.name, field.name).or_else(|| rule_of_claim(object.name, field.name));
            Some(Place { kind: field.kind, list: field.list, rule })
        }
        Type::Map(element) => Some(Place { kind: *element, list: ListType::Atomic, ..place }),
        _ => None,
    }
}

/// In a configuration the name may be a stand-in (`PVC_NAME`), which `claims` has replaced by now.
fn rule_of_claim(object: &str, field: &str) -> Option<Rule> {
    (object == "PersistentVolumeClaimVolumeSource" && field == "claimName").then_some(Rule::Name)
}

fn value_error(text: &str, place: Place) -> Option<String> {
    match place.kind {
        Type::Quantity => quantity_error(text).map(str::to_owned),
        _ => text_error(text, place.rule?),
    }
}

/// As the layer spells it: a placeholder stays one.
fn name_of(item: &Value, index: usize, list: ListType) -> String {
    let name = list.keys().first().and_then(|key| item.get(key)?.as_str());
    name.map_or_else(|| index.to_string(), str::to_owned)
}
