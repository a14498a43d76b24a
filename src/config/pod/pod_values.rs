//! Decodes values by the Pod schema: known keys, scalars of the right type and grammar, no duplicate keys in lists.
//!
//! `k8s/schema.rs` validates results by the schema too. The decoder here has positions, continues after an error,
//! converts numbers to quantities, and applies `field_rules.rs`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::config::decode::ast::{Position, Tree};
use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::{DIRECTIVES, PATCH, PATCH_NOT_ALLOWED, Rule};
use crate::config::decode::scalars::quantity;
use crate::config::pod::field_rules::{self, Context};
use crate::k8s::schema::did_you_mean;
use crate::k8s::schema::{Field, ListType, Object, POD, Type};

/// Returns the field of the Pod at a path through lists and maps, with its object type.
pub(crate) fn field_at(path: &[&str]) -> Option<(&'static Object, &'static Field)> {
    let (last, above) = path.split_last()?;
    let object = above.iter().try_fold(&POD, |object, name| object_in(object.field(name)?.kind))?;
    Some((object, object.field(last)?))
}

/// Returns the object type of a field's value, or of the elements of its list or map.
pub(crate) fn object_in(kind: Type) -> Option<&'static Object> {
    match kind {
        Type::List(inner) | Type::Map(inner) => object_in(*inner),
        Type::Object(object) => Some(object),
        _ => None,
    }
}

/// Decodes the value of a Pod's field at this path.
pub(crate) fn typed_at(cursor: &Cursor<'_>, path: &[&str], context: &Context<'_>) -> Option<Value> {
    let (object, field) = field_at(path)?;
    typed_field(cursor, object, field, context)
}

fn typed_field(
    cursor: &Cursor<'_>,
    object: &'static Object,
    field: &'static Field,
    context: &Context<'_>,
) -> Option<Value> {
    field_rules::check_field(cursor, object.name, field.name);
    check_keys(cursor, field);
    // the range of a rule is narrower than 32 bits
    let ranged = matches!(field_rules::rule_of(object.name, field.name), Some(Rule::Whole(..) | Rule::Mode));
    let kind = if ranged && matches!(field.kind, Type::Int32) { Type::Int } else { field.kind };
    typed(cursor, kind, context)
}

/// Decodes a value of this type. An invalid element is an error and left out.
fn typed(cursor: &Cursor<'_>, kind: Type, context: &Context<'_>) -> Option<Value> {
    match kind {
        Type::Any => Some(cursor.plain()),
        Type::Bool => cursor.boolean().map(Value::Bool),
        Type::Int => cursor.integer().map(Value::from),
        Type::Int32 => small_integer(cursor),
        Type::IntOrStr if matches!(cursor.node.tree, Tree::Number(_)) => small_integer(cursor),
        Type::Str | Type::IntOrStr => {
            cursor.check_placeholders();
            cursor.text().map(Value::from)
        }
        Type::Quantity => quantity(cursor).map(Value::from),
        Type::List(element) => {
            let items = cursor.list();
            Some(items.iter().filter_map(|item| typed(item, *element, context)).collect::<Vec<_>>().into())
        }
        Type::Map(element) => {
            let entries = cursor.entries().into_iter().filter_map(|(key, entry)| {
                let value = if key.text == PATCH {
                    directive(&entry, key.at, context)
                } else {
                    typed(&entry, *element, context)
                };
                Some((key.text.clone(), value?))
            });
            Some(Value::Object(entries.collect()))
        }
        Type::Object(object) => typed_object(cursor, object, context).map(Value::Object),
    }
}

fn small_integer(cursor: &Cursor<'_>) -> Option<Value> {
    let number = cursor.integer()?;
    if i32::try_from(number).is_err() {
        cursor.error("must be a whole number of 32 bits (-2147483648 to 2147483647)");
    }
    Some(number.into())
}

fn typed_object(cursor: &Cursor<'_>, object: &'static Object, context: &Context<'_>) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    for (key, node) in cursor.members()? {
        let entry = cursor.child(&key.text, node);
        let value = match object.field(&key.text) {
            // null is absent, as everywhere in Kubernetes
            _ if matches!(node.tree, Tree::Null) => None,
            Some(field) => typed_field(&entry, object, field, context),
            None if key.text == PATCH => directive(&entry, key.at, context),
            None if context.unknown => Some(without_nulls(entry.plain())),
            None => {
                let hint = did_you_mean(&key.text, object.fields.iter().map(|field| field.name));
                cursor.diagnostics.error(key.at, &entry.path, format!("unknown key{hint}"));
                None
            }
        };
        map.extend(value.map(|value| (key.text.clone(), value)));
    }
    // a directive needs the key of the element only
    if cursor.get(PATCH).is_none() {
        // a template may leave out the pod's containers
        for name in object.required.iter().filter(|name| object.name != "PodSpec" && cursor.get(name).is_none()) {
            cursor.error(format!("key `{name}` is missing"));
        }
        field_rules::check_object(cursor, object.name, context);
    }
    Some(map)
}

/// Removes nulls, which count as absent, from a value that is not in the schema.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(|member| *member = without_nulls(member.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_nulls(item.take())),
        _ => {}
    }
    value
}

/// Decodes the value of `$patch`.
fn directive(cursor: &Cursor<'_>, at: Position, context: &Context<'_>) -> Option<Value> {
    if !context.directives {
        cursor.diagnostics.error(at, &cursor.path, PATCH_NOT_ALLOWED);
    }
    cursor.check_one_of(DIRECTIVES);
    cursor.text().map(Value::from)
}

/// Checks a list element with a directive.
fn check_directive(item: &Cursor<'_>, directive: &Cursor<'_>, list: ListType) {
    let keys = list.keys();
    if matches!(list, ListType::Atomic | ListType::NodeSelectorTerms) {
        directive.error("has no effect in this list, which is applied as a whole");
    } else if directive.is_text("replace") && item.set_entries().count() > 1 {
        directive.error("`$patch: replace` must be an element of its own: it replaces the whole list");
    } else if directive.is_text("delete") && keys.is_empty() {
        directive.error("the elements of this list have no key to delete one by: only `$patch: replace` is allowed");
    } else if directive.is_text("delete") {
        for key in keys.iter().filter(|key| key_of(item, key).is_none()) {
            item.error(format!("key `{key}` is missing"));
        }
    }
}

/// Adds an error for an element whose merge key another element has.
fn check_keys(cursor: &Cursor<'_>, field: &Field) {
    let mut seen = BTreeSet::new();
    for item in cursor.items() {
        if let Some(directive) = item.get(PATCH) {
            check_directive(&item, &directive, field.list);
        }
        let texts: Vec<_> = field.list.keys().iter().filter_map(|key| key_of(&item, key)).collect();
        // a missing key is reported elsewhere
        if texts.is_empty() || texts.len() < field.list.keys().len() || seen.insert(texts.clone()) {
            continue;
        }
        match (field.list.keys(), texts.as_slice()) {
            ([key], [text]) => {
                let at = item.get(key).unwrap_or_else(|| item.clone());
                at.error(format!("duplicate {key} `{text}` in this list"));
            }
            (keys, texts) => {
                let pairs: Vec<_> = keys.iter().zip(texts).map(|(key, text)| format!("{key} `{text}`")).collect();
                item.error(format!("duplicate {} in this list", pairs.join(" with ")));
            }
        }
    }
}

fn key_of(item: &Cursor<'_>, key: &str) -> Option<String> {
    match item.get(key).map(|cursor| &cursor.node.tree) {
        Some(Tree::Text(text)) => Some(text.clone()),
        Some(Tree::Number(number)) => Some(number.to_string()),
        // the API server's default
        None if key == "protocol" => Some("TCP".to_owned()),
        _ => None,
    }
}
