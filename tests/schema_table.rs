//! Generates `src/schema/table.rs` from the JSON schemas that k8s-openapi carries and fails when the file
//! is out of date; `UPDATE=1 cargo test --test schema_table` writes it.

#![allow(clippy::panic, reason = "a generator that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// Kubernetes' patch merge keys (the struct tags of core/v1), which `OpenAPI` v3 schemas of k8s-openapi do not
/// carry, and podgraft's own choices (design section 4, "Merge").
const LISTS: &[(&str, &str, &str)] = &[
    ("PodSpec", "containers", "Keyed(&[\"name\"])"),
    ("PodSpec", "initContainers", "Keyed(&[\"name\"])"),
    ("PodSpec", "ephemeralContainers", "Keyed(&[\"name\"])"),
    ("PodSpec", "evictionResponders", "Keyed(&[\"name\"])"),
    ("PodSpec", "hostAliases", "Keyed(&[\"ip\"])"),
    ("PodSpec", "imagePullSecrets", "Keyed(&[\"name\"])"),
    ("PodSpec", "resourceClaims", "KeyedWhole(&[\"name\"])"),
    ("PodSpec", "schedulingGates", "Keyed(&[\"name\"])"),
    ("PodSpec", "tolerations", "Set"),
    // The API server's own merge keys these by topologyKey alone and so loses the second of two constraints.
    ("PodSpec", "topologySpreadConstraints", "Keyed(&[\"topologyKey\", \"whenUnsatisfiable\"])"),
    ("PodSpec", "volumes", "KeyedWhole(&[\"name\"])"),
    ("Container", "env", "KeyedWhole(&[\"name\"])"),
    ("Container", "envFrom", "Concat"),
    // The API server's own merge keys these by containerPort alone: 53/UDP and 53/TCP would collapse.
    ("Container", "ports", "Keyed(&[\"containerPort\", \"protocol\"])"),
    ("Container", "volumeDevices", "Keyed(&[\"devicePath\"])"),
    ("Container", "volumeMounts", "Keyed(&[\"mountPath\"])"),
    ("Capabilities", "add", "Concat"),
    ("Capabilities", "drop", "Concat"),
    ("NodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "Concat"),
    ("NodeSelector", "nodeSelectorTerms", "AndTerms"),
    ("PodAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "Concat"),
    ("PodAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "Concat"),
    ("ObjectMeta", "finalizers", "Set"),
    ("ObjectMeta", "ownerReferences", "Keyed(&[\"uid\"])"),
    ("ResourceRequirements", "claims", "Keyed(&[\"name\"])"),
];

/// Never merged and never checked: they are others' to write.
const ANY: &[(&str, &str)] = &[("Pod", "status"), ("ObjectMeta", "managedFields")];

struct Generator {
    definitions: serde_json::Map<String, Value>,
    objects: BTreeMap<String, String>,
}

impl Generator {
    /// The type of a field, and the definitions that it needs.
    fn kind(&mut self, schema: &Value) -> String {
        if let Some(target) = schema["$ref"].as_str() {
            let full = target.trim_start_matches("#/$defs/").to_owned();
            return self.definition(&full);
        }
        if let Some([only]) = schema["allOf"].as_array().map(Vec::as_slice) {
            return self.kind(&only.clone());
        }
        match schema["type"].as_str() {
            Some("boolean") => "Type::Bool".to_owned(),
            Some("integer") if schema["format"] == "int32" => "Type::Int32".to_owned(),
            Some("integer") => "Type::Int".to_owned(),
            Some("string") => "Type::Str".to_owned(),
            Some("array") => format!("Type::List(&{})", self.kind(&schema["items"].clone())),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("Type::Map(&{})", self.kind(&schema["additionalProperties"].clone()))
            }
            _ => "Type::Any".to_owned(),
        }
    }

    fn definition(&mut self, full: &str) -> String {
        let name = full.rsplit('.').next().expect("rsplit gives one at least").to_owned();
        let schema = self.definitions.get(full).unwrap_or_else(|| panic!("no definition of {full}")).clone();
        match (name.as_str(), schema["properties"].is_object()) {
            ("Quantity", _) => "Type::Quantity".to_owned(),
            ("IntOrString", _) => "Type::IntOrStr".to_owned(),
            (_, false) if schema["type"] == "object" => "Type::Any".to_owned(),
            (_, false) => self.kind(&schema),
            (_, true) => {
                let constant = constant(&name);
                if !self.objects.contains_key(&name) {
                    self.objects.insert(name.clone(), String::new()); // a type may contain itself
                    let text = self.object(&name, &schema);
                    self.objects.insert(name, text);
                }
                format!("Type::Object(&{constant})")
            }
        }
    }

    fn object(&mut self, name: &str, schema: &Value) -> String {
        let mut fields: Vec<(&String, &Value)> = schema["properties"].as_object().expect("checked").iter().collect();
        fields.sort_by_key(|(name, _)| name.as_str());
        // A fragment's container entries and ephemeral containers merge as containers do.
        let like = if name == "EphemeralContainer" { "Container" } else { name };
        let mut text = format!(
            "/// `{name}`.\n{}static {}: Object = Object {{\n    name: \"{name}\",\n    fields: &[\n",
            if name == "Pod" { "pub " } else { "" },
            constant(name)
        );
        for (field, schema) in fields {
            let kind = if ANY.contains(&(name, field)) { "Type::Any".to_owned() } else { self.kind(schema) };
            let list = LISTS.iter().find(|row| row.0 == like && row.1 == field).map_or("Atomic", |row| row.2);
            writeln!(text, "        field(\"{field}\", {kind}, List::{list}),").expect("a String takes all");
        }
        let required: Vec<String> = schema["required"].as_array().into_iter().flatten().map(Value::to_string).collect();
        write!(text, "    ],\n    required: &[{}],\n}};\n", required.join(", ")).expect("a String takes all");
        text
    }
}

fn constant(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        let starts_word = letter.is_uppercase() && index > 0 && !name[..index].ends_with(char::is_uppercase);
        if starts_word {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

fn generate() -> String {
    let schema = serde_json::to_value(schemars::schema_for!(Pod)).expect("a schema is JSON");
    let definitions = schema["$defs"].as_object().expect("a Pod has parts").clone();
    let mut generator = Generator { definitions, objects: BTreeMap::new() };
    let pod = generator.object("Pod", &schema);
    generator.objects.insert("Pod".to_owned(), pod);
    let mut text = String::from(
        "//! Generated by `tests/schema_table.rs` from k8s-openapi's JSON schemas; not for editing.\n\n\
         use super::{Field, List, Object, Type};\n\n\
         const fn field(name: &'static str, kind: Type, list: List) -> Field {\n    Field { name, kind, list }\n}\n",
    );
    for object in generator.objects.values() {
        text.push('\n');
        text.push_str(object);
    }
    text
}

#[test]
fn the_table_is_what_k8s_openapi_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schema/table.rs");
    let fresh = generate();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &fresh).expect("the table can be written");
    }
    let current = std::fs::read_to_string(path).expect("the table exists");
    assert!(current == fresh, "src/schema/table.rs is out of date: UPDATE=1 cargo test --test schema_table");
}
