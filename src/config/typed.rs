//! Values by the Pod schema: every key known, every scalar of its type and grammar, quantities as strings, no key of a
//! list twice.
//!
//! The schema table is the same that checks patches (`schema.rs`); this walk differs in that it knows lines, goes on
//! after an error, mends numbers to quantities, and asks `rules.rs` for what the table does not say.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::cursor::Cursor;
use super::node::{Position, Tree};
use super::rules::{self, Rule};
use super::scalars::quantity;
use super::spell;
use crate::k8s::schema::{Field, ListType, Object, POD, Type};

/// Kubernetes' directive in strategic merge patches: `delete` or `replace` an element instead of merging it.
pub(crate) const PATCH: &str = "$patch";

/// What is said of [`PATCH`] where a layer has nothing of the pod's under it.
pub(crate) const NO_PATCH: &str = "`$patch` takes something of a pod away, and here is nothing of a pod";

/// What [`PATCH`] may say.
pub(crate) const DIRECTIVES: &[&str] = &["delete", "replace"];

/// What must be known of the rest to judge a value.
#[derive(Default)]
pub(crate) struct Context<'c> {
    /// volumes whose source a claim gives
    pub(crate) claimed: BTreeSet<&'c str>,
    /// whether fields that the schema does not have may stand there
    pub(crate) unknown: bool,
    /// whether it lies over a pod, so that directives can take something away
    pub(crate) directives: bool,
}

/// A field of the Pod by its path through lists and maps, and the object type that it belongs to.
pub(crate) fn field_at(path: &[&str]) -> Option<(&'static Object, &'static Field)> {
    let (last, above) = path.split_last()?;
    let object = above.iter().try_fold(&POD, |object, name| object_in(object.field(name)?.kind))?;
    Some((object, object.field(last)?))
}

/// The object type that a field holds, alone, in a list or in a map.
pub(crate) fn object_in(kind: Type) -> Option<&'static Object> {
    match kind {
        Type::List(inner) | Type::Map(inner) => object_in(*inner),
        Type::Object(object) => Some(object),
        _ => None,
    }
}

/// The field at a path of the Pod, as Kubernetes wants it.
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
    rules::check_field(cursor, object.name, field.name);
    check_keys(cursor, field);
    // a range of its own is narrower
    let ranged = matches!(rules::rule_of(object.name, field.name), Some(Rule::Whole(..) | Rule::Mode));
    let kind = if ranged && matches!(field.kind, Type::Int32) { Type::Int } else { field.kind };
    typed(cursor, kind, context)
}

/// The value as Kubernetes wants it; what does not fit is a problem and left out.
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
                let hint = spell::did_you_mean(&key.text, object.fields.iter().map(|field| field.name));
                cursor.report.add(key.at, &entry.path, format!("unknown key{hint}"));
                None
            }
        };
        map.extend(value.map(|value| (key.text.clone(), value)));
    }
    // what is taken away needs to be named, not described
    if cursor.get(PATCH).is_none() {
        // a template's containers are the pod's
        for name in object.required.iter().filter(|name| object.name != "PodSpec" && cursor.get(name).is_none()) {
            cursor.error(format!("key `{name}` is missing"));
        }
        rules::check_object(cursor, object.name, context);
    }
    Some(map)
}

/// What no schema knows, as [`typed`] gives the rest.
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

/// `$patch: …`.
fn directive(cursor: &Cursor<'_>, at: Position, context: &Context<'_>) -> Option<Value> {
    if !context.directives {
        cursor.report.add(at, &cursor.path, NO_PATCH);
    }
    cursor.check_one_of(DIRECTIVES);
    cursor.text().map(Value::from)
}

/// Checks an element that takes something of its list away.
fn check_directive(item: &Cursor<'_>, directive: &Cursor<'_>, list: ListType) {
    let keys = list.keys();
    if matches!(list, ListType::Atomic | ListType::NodeSelectorTerms) {
        directive.error("has no meaning in this list, which is laid as a whole");
    } else if directive.is_text("replace") && item.set_entries().count() > 1 {
        directive.error("`$patch: replace` stands in an element of its own: it is about the whole list");
    } else if directive.is_text("delete") && keys.is_empty() {
        directive
            .error("the elements of this list have no name to take one away by: only `$patch: replace` does something");
    } else if directive.is_text("delete") {
        for key in keys.iter().filter(|key| key_of(item, key).is_none()) {
            item.error(format!("key `{key}` is missing"));
        }
    }
}

/// Refuses the second of two elements that merging could not tell apart.
fn check_keys(cursor: &Cursor<'_>, field: &Field) {
    let mut seen = BTreeSet::new();
    for item in cursor.items() {
        if let Some(directive) = item.get(PATCH) {
            check_directive(&item, &directive, field.list);
        }
        let texts: Vec<_> = field.list.keys().iter().filter_map(|key| key_of(&item, key)).collect();
        // an element without its key is told otherwise
        if texts.is_empty() || texts.len() < field.list.keys().len() || seen.insert(texts.clone()) {
            continue;
        }
        match (field.list.keys(), texts.as_slice()) {
            ([key], [text]) => {
                let at = item.get(key).unwrap_or_else(|| item.clone());
                at.error(format!("{key} `{text}` stands twice in this list"));
            }
            (keys, texts) => {
                let pairs: Vec<_> = keys.iter().zip(texts).map(|(key, text)| format!("{key} `{text}`")).collect();
                item.error(format!("{} stands twice in this list", pairs.join(" with ")));
            }
        }
    }
}

fn key_of(item: &Cursor<'_>, key: &str) -> Option<String> {
    match item.get(key).map(|cursor| &cursor.node.tree) {
        Some(Tree::Text(text)) => Some(text.clone()),
        Some(Tree::Number(number)) => Some(number.to_string()),
        // as the API server fills it in
        None if key == "protocol" => Some("TCP".to_owned()),
        _ => None,
    }
}
