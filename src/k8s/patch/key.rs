//! The merge keys of list elements.

use bumpalo::Bump;

use crate::json::{Json, fast_eq};
use crate::k8s::schema::ListType;

/// Returns the merge key of an element as text: `gpu`, `53/UDP`.
pub fn key_text<'a>(item: &Json<'a>, list: ListType, arena: &'a Bump) -> Option<&'a str> {
    match list.keys() {
        [] => None,
        [only] => match item.get(only)? {
            Json::Str(text) => Some(text),
            other => Some(arena.alloc_str(&scalar_text(other))),
        },
        keys => {
            let parts: Vec<String> =
                keys.iter().map(|key| item.get(key).map_or_else(|| default_key(key).to_owned(), scalar_text)).collect();
            Some(arena.alloc_str(&parts.join("/")))
        }
    }
}

/// Returns true if `item` has this key, in the form of [`key_text`].
pub fn has_key(item: &Json<'_>, list: ListType, key: &str) -> bool {
    match list.keys() {
        // nearly all lists; a constant is faster for [`Json::get`]
        ["name"] => item.get("name").is_some_and(|name| is_text(name, key)),
        [only] => item.get(only).is_some_and(|value| is_text(value, key)),
        _ => key_text(item, list, &Bump::new()) == Some(key),
    }
}

fn is_text(value: Json<'_>, text: &str) -> bool {
    match value {
        Json::Str(name) => fast_eq(name, text),
        other => scalar_text(other) == text,
    }
}

/// Returns the API server's default for a part of a key, which is set before keys are compared.
fn default_key(key: &str) -> &'static str {
    if key == "protocol" { "TCP" } else { "" }
}

fn scalar_text(value: Json<'_>) -> String {
    match value {
        Json::Str(text) => text.to_owned(),
        other => other.to_string(),
    }
}
