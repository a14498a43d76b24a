//! Generates the JSON schema of a GraftConfig for editors, from the tables that the decoders use. Errors that need more
//! than one value (a mount without its volume) are found at load only.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::decode::grammar::Rule;
use crate::config::decode::grammar::{DIRECTIVES, PATCH};
use crate::config::keys::{FILE, Key, KeyStatus, Keys, Kind};
use crate::config::pod::field_rules;
use crate::config::pod::pod_values::field_at;
use crate::k8s::schema::{Object, Type};

/// Returns the schema, draft 2020-12. Every key may be null, which counts as absent.
pub fn json_schema() -> Value {
    let mut writer = Writer::default();
    let root = writer.keys(&FILE);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "GraftConfig of podgraft",
        "description": "Generated from podgraft's own tables; not for editing.",
    });
    let definitions = writer.definitions.into_iter().collect::<Map<_, _>>();
    if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), root) {
        schema.extend(root);
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

#[derive(Default)]
struct Writer {
    definitions: BTreeMap<String, Value>,
}

impl Writer {
    fn keys(&mut self, keys: &Keys) -> Value {
        let mut properties = Map::new();
        for key in keys.all().filter(|key| key.status != KeyStatus::Later) {
            properties.insert(key.name.to_owned(), self.key(key));
        }
        let required: Vec<_> = keys.all().filter(|key| key.status == KeyStatus::Required).map(|key| key.name).collect();
        let strict = json!({"properties": properties, "required": required, "additionalProperties": false});
        if keys.find("allowUnknownFields").is_none() {
            return with_type(strict, "object");
        }
        // unknown fields are allowed anywhere below, so nothing is checked
        let allows_unknown =
            json!({"properties": {"allowUnknownFields": {"const": true}}, "required": ["allowUnknownFields"]});
        with_type(json!({"if": allows_unknown, "then": true, "else": strict}), "object")
    }

    fn key(&mut self, key: &Key) -> Value {
        let mut schema = self.kind(key.kind);
        schema["description"] = key.description.into();
        schema
    }

    fn kind(&mut self, kind: Kind) -> Value {
        let map = |values: Value| json!({"type": ["object", "null"], "additionalProperties": values});
        match kind {
            Kind::Text => json!({"type": ["string", "null"]}),
            Kind::Texts => json!({"type": ["array", "null"], "items": {"type": "string", "minLength": 1}}),
            Kind::Bool => json!({"type": ["boolean", "null"]}),
            Kind::Int => json!({"type": ["integer", "null"]}),
            Kind::Quantity => quantity(),
            Kind::Word(words) => enum_of(words),
            Kind::Labels => map(json!({"type": "string"})),
            Kind::Tree => json!({"type": ["object", "null"]}),
            Kind::Any => json!({}),
            Kind::Named(keys) => {
                let of_name = self.reference(keys);
                map(of_name)
            }
            Kind::One(keys) => self.reference(keys),
            Kind::List(keys) => {
                let item = self.reference(keys);
                json!({"type": ["array", "null"], "items": item})
            }
            Kind::Pod(path) => {
                field_at(path).map_or_else(|| json!({}), |(object, field)| self.field(object, field.name, field.kind))
            }
            Kind::PodMetadata => {
                let labels = self.kind(Kind::Pod(&["metadata", "labels"]));
                let annotations = self.kind(Kind::Pod(&["metadata", "annotations"]));
                with_type(
                    json!({"properties": {"labels": labels, "annotations": annotations}, "additionalProperties": false}),
                    "object",
                )
            }
        }
    }

    fn reference(&mut self, keys: &Keys) -> Value {
        if !self.definitions.contains_key(keys.name) {
            self.definitions.insert(keys.name.to_owned(), json!({}));
            let schema = self.keys(keys);
            self.definitions.insert(keys.name.to_owned(), schema);
        }
        json!({"$ref": format!("#/$defs/{}", keys.name)})
    }

    /// Returns the schema of a field of a Pod, with its rule in `field_rules.rs`.
    fn field(&mut self, object: &Object, name: &str, kind: Type) -> Value {
        let mut schema = self.typed(kind);
        let Some(rule) = field_rules::rule_of(object.name, name) else { return schema };
        let narrow = |schema: &mut Value| match rule {
            Rule::Words(words) => schema["enum"] = words.iter().map(|word| json!(word)).chain([Value::Null]).collect(),
            Rule::Whole(least, most) => {
                schema["minimum"] = least.into();
                schema["maximum"] = most.into();
            }
            Rule::Mode => {
                schema["minimum"] = 0.into();
                schema["maximum"] = 0o777.into();
            }
            Rule::Label => schema["maxLength"] = 63.into(),
            Rule::PortName => schema["maxLength"] = 15.into(),
            Rule::Name | Rule::EnvName | Rule::MountPath | Rule::NonEmpty => schema["minLength"] = 1.into(),
            _ => {}
        };
        match schema.get_mut("items") {
            Some(items) => narrow(items),
            None => narrow(&mut schema),
        }
        schema
    }

    fn typed(&mut self, kind: Type) -> Value {
        match kind {
            Type::Any => json!({}),
            Type::Bool => json!({"type": ["boolean", "null"]}),
            Type::Int => json!({"type": ["integer", "null"]}),
            Type::Int32 => json!({"type": ["integer", "null"], "minimum": i32::MIN, "maximum": i32::MAX}),
            Type::Str => json!({"type": ["string", "null"]}),
            Type::IntOrStr => json!({"type": ["integer", "string", "null"]}),
            Type::Quantity => quantity(),
            Type::Map(element) => {
                let values = self.typed(*element);
                json!({"type": ["object", "null"], "properties": {PATCH: directive()}, "additionalProperties": values})
            }
            Type::List(element) => {
                let items = self.typed(*element);
                json!({"type": ["array", "null"], "items": items})
            }
            Type::Object(object) => self.object(object),
        }
    }

    fn object(&mut self, object: &'static Object) -> Value {
        let name = format!("Pod.{}", object.name);
        if !self.definitions.contains_key(&name) {
            self.definitions.insert(name.clone(), json!({})); // a type may contain itself
            let schema = self.object_schema(object);
            self.definitions.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    fn object_schema(&mut self, object: &'static Object) -> Value {
        let in_spec = object.name == "PodSpec";
        let mut properties = Map::new();
        for field in object.fields {
            let reserved = in_spec && field_rules::RESERVED_FIELDS.iter().any(|(name, _)| *name == field.name);
            if !reserved {
                properties.insert(field.name.to_owned(), self.field(object, field.name, field.kind));
            }
        }
        // a template may leave out the pod's containers
        let required: Vec<_> = object.required.iter().filter(|_| !in_spec).collect();
        properties.insert(PATCH.to_owned(), directive());
        let mut schema = json!({"properties": properties, "additionalProperties": false});
        if !required.is_empty() {
            // a directive needs the key of the element only
            schema["if"] = json!({"required": [PATCH]});
            schema["else"] = json!({"required": required});
        }
        with_type(schema, "object")
    }
}

fn with_type(mut schema: Value, kind: &str) -> Value {
    schema["type"] = json!([kind, "null"]);
    schema
}

fn enum_of(words: &[&str]) -> Value {
    json!({"enum": words.iter().map(|word| json!(word)).chain([Value::Null]).collect::<Value>()})
}

fn directive() -> Value {
    json!({"enum": DIRECTIVES})
}

/// Returns the schema of a quantity: a number, or digits with a suffix.
fn quantity() -> Value {
    json!({
        "type": ["string", "number", "null"],
        // the value of a placeholder depends on the pod
        "pattern": r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$|\$\{",
        "minimum": 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pod::pod_values::object_in;

    /// A key whose path is not in the Pod schema would not be checked.
    #[test]
    fn every_path_of_the_key_tables_is_in_the_pod_schema() {
        fn visit(keys: &'static Keys, seen: &mut Vec<&'static str>) {
            if seen.contains(&keys.name) {
                return;
            }
            seen.push(keys.name);
            for key in keys.all() {
                match key.kind {
                    Kind::Pod(path) => assert!(field_at(path).is_some(), "{}.{}: {path:?}", keys.name, key.name),
                    Kind::Named(below) | Kind::One(below) | Kind::List(below) => visit(below, seen),
                    _ => {}
                }
            }
        }
        visit(&FILE, &mut Vec::new());
    }

    #[test]
    fn every_rule_belongs_to_a_field_of_the_pod_schema() {
        fn objects(kind: Type, seen: &mut BTreeMap<&'static str, &'static Object>) {
            let Some(object) = object_in(kind).filter(|object| !seen.contains_key(object.name)) else { return };
            seen.insert(object.name, object);
            object.fields.iter().for_each(|field| objects(field.kind, seen));
        }
        let mut seen = BTreeMap::new();
        objects(Type::Object(&crate::k8s::schema::POD), &mut seen);
        for (object, field, _) in field_rules::RULES {
            let found = seen.get(object).and_then(|object| object.field(field));
            assert!(found.is_some(), "{object}.{field}");
        }
    }
}
