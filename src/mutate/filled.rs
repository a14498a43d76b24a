//! Whether what placeholders were filled with may stand where they stood. At load nobody can tell, and the API server
//! would refuse the pod without naming the layer.

use serde_json::Value;

use crate::config::{Rule, misfit, quantity_misfit, rule_of};
use crate::json::Json;
use crate::placeholder;
use crate::review::cut;
use crate::schema::{List, POD, Type};

/// Of a layer's text, what a message shows.
const LONGEST: usize = 100;

/// What is known of a place in the Pod.
#[derive(Clone, Copy)]
struct Place {
    kind: Type,
    list: List,
    rule: Option<Rule>,
}

/// The first text of a layer that is wrong when it is filled: its path and what is wrong. The value is in neither.
pub(super) fn first_misfit(layer: &Value, filled: Json<'_>) -> Option<String> {
    let pod = Place { kind: Type::Object(&POD), list: List::Atomic, rule: None };
    in_value(layer, filled, pod).map(|(path, what)| format!("{}: {what}", path.trim_start_matches('.')))
}

/// The path is put together on the way back.
fn in_value(layer: &Value, filled: Json<'_>, place: Place) -> Option<(String, String)> {
    match layer {
        Value::String(text) if placeholder::is_in(text) => {
            let what = text_misfit(filled.as_str()?, place)?;
            Some((String::new(), format!("`{}`, filled for this pod, {what}", cut(text, LONGEST))))
        }
        Value::Array(items) => {
            let Type::List(element) = place.kind else { return None };
            let inside = Place { kind: *element, ..place };
            let mut pairs = items.iter().zip(filled.items()).enumerate();
            pairs.find_map(|(index, (item, filled))| {
                let (path, what) = in_value(item, *filled, inside)?;
                Some((format!("[{}]{path}", name_of(item, index, place.list)), what))
            })
        }
        Value::Object(members) => members.iter().zip(filled.members()).find_map(|((key, member), (_, filled))| {
            let (path, what) = in_value(member, *filled, member_of(place, key)?)?;
            Some((format!(".{key}{path}"), what))
        }),
        _ => None,
    }
}

/// What no schema knows has no rule.
fn member_of(place: Place, key: &str) -> Option<Place> {
    match place.kind {
        Type::Object(object) => {
            let field = object.field(key)?;
            Some(Place { kind: field.kind, list: field.list, rule: rule_of(object.name, field.name) })
        }
        Type::Map(element) => Some(Place { kind: *element, list: List::Atomic, ..place }),
        _ => None,
    }
}

fn text_misfit(text: &str, place: Place) -> Option<String> {
    match place.kind {
        Type::Quantity => quantity_misfit(text).map(str::to_owned),
        _ => misfit(text, place.rule?),
    }
}

/// As the layer spells it: a placeholder stays one.
fn name_of(item: &Value, index: usize, list: List) -> String {
    let name = list.keys().first().and_then(|key| item.get(key)?.as_str());
    name.map_or_else(|| index.to_string(), str::to_owned)
}
