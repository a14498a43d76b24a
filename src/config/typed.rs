//! Values by the Pod schema: every key known, every scalar of its type, quantities as strings.
//!
//! The schema table is the same that checks patches (`schema.rs`); this walk differs in that it knows lines, goes on
//! after an error and mends numbers to quantities.

use serde_json::{Map, Value};

use super::cursor::Cursor;
use super::node::Tree;
use super::scalars::quantity;
use super::spell;
use crate::schema::{Object, POD, Type};

/// Kubernetes' directive in strategic merge patches: `delete` or `replace` an element instead of merging it.
pub(crate) const PATCH: &str = "$patch";

/// Numbers that are file modes; that they are numbers is all that the schema says.
const MODES: [&str; 2] = ["defaultMode", "mode"];

/// What is said of [`PATCH`]: with it a layer would take away what the pod brings.
pub(crate) const NO_PATCH: &str = "`$patch` directives are not supported yet";

/// The type at a path of the Pod, through lists and maps.
pub(crate) fn type_of(path: &[&str]) -> Type {
    path.iter().fold(Type::Object(&POD), |kind, name| match element(kind) {
        Type::Object(object) => object.field(name).map_or(Type::Any, |field| field.kind),
        _ => Type::Any,
    })
}

/// What a list or map holds; anything else as it is.
pub(crate) fn element(kind: Type) -> Type {
    match kind {
        Type::List(inner) | Type::Map(inner) => element(*inner),
        other => other,
    }
}

/// The names of an object type's fields.
pub(crate) fn field_names(kind: Type) -> impl Iterator<Item = &'static str> {
    let fields = match element(kind) {
        Type::Object(object) => object.fields,
        _ => &[],
    };
    fields.iter().map(|field| field.name)
}

/// The value as Kubernetes wants it; what does not fit is a problem and left out.
pub(crate) fn typed(cursor: &Cursor<'_>, kind: Type) -> Option<Value> {
    match kind {
        Type::Any => Some(cursor.plain()),
        Type::Bool => cursor.boolean().map(Value::Bool),
        Type::Int | Type::Int32 => cursor.integer().map(Value::from),
        Type::IntOrStr if matches!(cursor.node.tree, Tree::Number(_)) => cursor.integer().map(Value::from),
        Type::Str | Type::IntOrStr => {
            cursor.check_placeholders();
            cursor.text().map(Value::from)
        }
        Type::Quantity => quantity(cursor).map(Value::from),
        Type::List(element) => {
            Some(cursor.list().iter().filter_map(|item| typed(item, *element)).collect::<Vec<_>>().into())
        }
        Type::Map(element) => {
            let entries = cursor.entries().into_iter().filter_map(|(key, entry)| {
                if key.text == PATCH {
                    cursor.report.add(key.at, &entry.path, NO_PATCH);
                    return None;
                }
                Some((key.text.clone(), typed(&entry, *element)?))
            });
            Some(Value::Object(entries.collect()))
        }
        Type::Object(object) => typed_object(cursor, object).map(Value::Object),
    }
}

fn typed_object(cursor: &Cursor<'_>, object: &'static Object) -> Option<Map<String, Value>> {
    // something else than a mapping: said by `fields`
    cursor.fields()?;
    let mut map = Map::new();
    let entries = if matches!(cursor.node.tree, Tree::Null) { Vec::new() } else { cursor.entries() };
    for (key, entry) in entries {
        let value = match object.field(&key.text) {
            // null is absent, as everywhere in Kubernetes
            _ if matches!(entry.node.tree, Tree::Null) => None,
            Some(field) => {
                let value = typed(&entry, field.kind);
                let number = value.as_ref().and_then(Value::as_i64);
                if MODES.contains(&field.name) && number.is_some_and(|mode| !(0..=0o777).contains(&mode)) {
                    entry.error("is not a file mode (0 to 0777, in decimal 511)");
                }
                value
            }
            None if key.text == PATCH => {
                cursor.report.add(key.at, &entry.path, NO_PATCH);
                None
            }
            None => {
                let hint = spell::hint(&key.text, object.fields.iter().map(|field| field.name));
                cursor.report.add(key.at, &entry.path, format!("unknown key{hint}"));
                None
            }
        };
        map.extend(value.map(|value| (key.text.clone(), value)));
    }
    let directive = cursor.get(PATCH).is_some();
    for name in object.required.iter().filter(|name| !directive && cursor.get(name).is_none()) {
        cursor.error(format!("key `{name}` is missing"));
    }
    Some(map)
}
