//! Generates `src/k8s/schema/table.rs` from the JSON schemas that k8s-openapi carries, and fails when the file
//! is out of date; `UPDATE=1 cargo test --test schema` writes it. k8s-openapi's types are the table's oracle:
//! a pod of every field is one of theirs, and both find the same errors.

#![allow(clippy::panic, reason = "a generator that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bumpalo::Bump;
use k8s_openapi::api::core::v1::Pod;
use podgraft::json::Json;
use podgraft::k8s::schema::{POD, Type, validate};
use serde_json::{Map, Value, json};

/// Kubernetes' patch merge keys (the struct tags of core/v1), which `OpenAPI` v3 schemas of k8s-openapi do not
/// carry, and podgraft's own choices (docs/configuration.md, merge rules).
const LISTS: &[(&str, &str, &str)] = &[
    ("PodSpec", "containers", "Map(&[\"name\"])"),
    ("PodSpec", "initContainers", "Map(&[\"name\"])"),
    ("PodSpec", "ephemeralContainers", "Map(&[\"name\"])"),
    ("PodSpec", "evictionResponders", "Map(&[\"name\"])"),
    ("PodSpec", "hostAliases", "Map(&[\"ip\"])"),
    ("PodSpec", "imagePullSecrets", "Map(&[\"name\"])"),
    ("PodSpec", "resourceClaims", "MapAtomicItem(&[\"name\"])"),
    ("PodSpec", "schedulingGates", "Map(&[\"name\"])"),
    ("PodSpec", "tolerations", "Set"),
    // The API server's own merge keys these by topologyKey alone and so loses the second of two constraints.
    ("PodSpec", "topologySpreadConstraints", "Map(&[\"topologyKey\", \"whenUnsatisfiable\"])"),
    ("PodSpec", "volumes", "MapAtomicItem(&[\"name\"])"),
    ("Container", "env", "MapAtomicItem(&[\"name\"])"),
    ("Container", "envFrom", "Prepend"),
    // The API server's own merge keys these by containerPort alone: 53/UDP and 53/TCP would collapse.
    ("Container", "ports", "Map(&[\"containerPort\", \"protocol\"])"),
    ("Container", "volumeDevices", "Map(&[\"devicePath\"])"),
    ("Container", "volumeMounts", "Map(&[\"mountPath\"])"),
    ("Capabilities", "add", "Prepend"),
    ("Capabilities", "drop", "Prepend"),
    ("NodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "Prepend"),
    ("NodeSelector", "nodeSelectorTerms", "NodeSelectorTerms"),
    ("PodAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "Prepend"),
    ("PodAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "Prepend"),
    ("ObjectMeta", "finalizers", "Set"),
    ("ObjectMeta", "ownerReferences", "Map(&[\"uid\"])"),
    // No merge key there; the type is a map by name (x-kubernetes-list-map-keys).
    ("ResourceRequirements", "claims", "Map(&[\"name\"])"),
];

/// The defaults that the API server fills in (`pkg/apis/core/v1/defaults.go` and the markers that
/// `zz_generated.defaults.go` comes from); `{}`, `[]` and `""` are unset anyway. What it works out from another field
/// (`imagePullPolicy`) or copies from one (`requests`, `hostPort`) is no value of a table.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("AzureDiskVolumeSource", "cachingMode", "Str(\"ReadWrite\")"),
    ("AzureDiskVolumeSource", "fsType", "Str(\"ext4\")"),
    ("AzureDiskVolumeSource", "kind", "Str(\"Shared\")"),
    ("AzureDiskVolumeSource", "readOnly", "Bool(false)"),
    ("ConfigMapVolumeSource", "defaultMode", "Int(0o644)"),
    ("Container", "terminationMessagePath", "Str(\"/dev/termination-log\")"),
    ("Container", "terminationMessagePolicy", "Str(\"File\")"),
    ("ContainerPort", "protocol", "Str(\"TCP\")"),
    ("DownwardAPIVolumeSource", "defaultMode", "Int(0o644)"),
    ("HTTPGetAction", "path", "Str(\"/\")"),
    ("HTTPGetAction", "scheme", "Str(\"HTTP\")"),
    ("ISCSIVolumeSource", "iscsiInterface", "Str(\"default\")"),
    ("ObjectFieldSelector", "apiVersion", "Str(\"v1\")"),
    ("PersistentVolumeClaimSpec", "volumeMode", "Str(\"Filesystem\")"),
    ("PodSpec", "dnsPolicy", "Str(\"ClusterFirst\")"),
    ("PodSpec", "enableServiceLinks", "Bool(true)"),
    ("PodSpec", "restartPolicy", "Str(\"Always\")"),
    ("PodSpec", "schedulerName", "Str(\"default-scheduler\")"),
    ("PodSpec", "terminationGracePeriodSeconds", "Int(30)"),
    ("Probe", "failureThreshold", "Int(3)"),
    ("Probe", "periodSeconds", "Int(10)"),
    ("Probe", "successThreshold", "Int(1)"),
    ("Probe", "timeoutSeconds", "Int(1)"),
    ("ProjectedVolumeSource", "defaultMode", "Int(0o644)"),
    ("RBDVolumeSource", "keyring", "Str(\"/etc/ceph/keyring\")"),
    ("RBDVolumeSource", "pool", "Str(\"rbd\")"),
    ("RBDVolumeSource", "user", "Str(\"admin\")"),
    ("ScaleIOVolumeSource", "fsType", "Str(\"xfs\")"),
    ("ScaleIOVolumeSource", "storageMode", "Str(\"ThinProvisioned\")"),
    ("SecretVolumeSource", "defaultMode", "Int(0o644)"),
    ("ServiceAccountTokenProjection", "expirationSeconds", "Int(3600)"),
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
            let row = |rows: &'static [(&str, &str, &'static str)]| {
                rows.iter().find(|row| row.0 == like && row.1 == field).map(|row| row.2)
            };
            let list = row(LISTS).unwrap_or("Atomic");
            match row(DEFAULTS) {
                Some(default) => writeln!(text, "        defaulted(\"{field}\", {kind}, Scalar::{default}),"),
                None => writeln!(text, "        field(\"{field}\", {kind}, ListType::{list}),"),
            }
            .expect("a String takes all");
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
        "//! Generated by `tests/oracles/schema/pod_schema.rs` from k8s-openapi's JSON schemas; not for editing.\n\n\
         use super::{Field, ListType, Object, Scalar, Type};\n\n\
         const fn field(name: &'static str, kind: Type, list: ListType) -> Field {\n    \
         Field { name, kind, list, default: None }\n}\n\n\
         const fn defaulted(name: &'static str, kind: Type, default: Scalar) -> Field {\n    \
         Field { name, kind, list: ListType::Atomic, default: Some(default) }\n}\n",
    );
    for object in generator.objects.values() {
        text.push('\n');
        text.push_str(object);
    }
    text
}

#[test]
fn the_table_is_generated_from_k8s_openapi() {
    let path = podgraft_testkit::root().join("src/k8s/schema/table.rs");
    let fresh = generate();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &fresh).expect("the table can be written");
    }
    let current = std::fs::read_to_string(path).expect("the table exists");
    assert!(current == fresh, "src/k8s/schema/table.rs is out of date: UPDATE=1 cargo test --test schema");
}

/// A value with every field that a type has, however deep; times are strings, so every string is one.
fn sample(kind: Type) -> Value {
    match kind {
        Type::Any => Value::Null,
        Type::Bool => json!(true),
        Type::Int => json!(i64::MAX),
        Type::Int32 => json!(i32::MIN),
        Type::Str => json!("2026-01-02T03:04:05Z"),
        Type::IntOrStr => json!("http"),
        Type::Quantity => json!("1500m"),
        Type::Map(element) => json!({ "key": sample(*element) }),
        Type::List(element) => json!([sample(*element)]),
        Type::Object(object) => {
            let fields = object.fields.iter().filter(|field| !matches!(field.kind, Type::Any));
            Value::Object(fields.map(|field| (field.name.to_owned(), sample(field.kind))).collect::<Map<_, _>>())
        }
    }
}

/// Every place in a sample, with its type.
fn places(kind: Type, path: &str, all: &mut Vec<(String, Type)>) {
    all.push((path.to_owned(), kind));
    match kind {
        Type::Map(element) => places(*element, &format!("{path}/key"), all),
        Type::List(element) => places(*element, &format!("{path}/0"), all),
        Type::Object(object) => {
            let fields = object.fields.iter().filter(|field| !matches!(field.kind, Type::Any));
            fields.for_each(|field| places(field.kind, &format!("{path}/{}", field.name), all));
        }
        _ => {}
    }
}

fn podgraft_takes(pod: &Value) -> bool {
    validate(Json::borrowed(pod, &Bump::new()), Type::Object(&POD), true).is_ok()
}

fn k8s_openapi_takes(pod: &Value) -> bool {
    serde_json::from_value::<Pod>(pod.clone()).is_ok()
}

#[test]
fn a_pod_with_every_field_survives_k8s_openapis_types() {
    let mut pod = sample(Type::Object(&POD));
    assert!(podgraft_takes(&pod));
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let typed: Pod = serde_json::from_value(pod.clone()).expect("the types take it");
    assert_eq!(serde_json::to_value(typed).expect("a pod is JSON"), pod);
    let mut all = Vec::new();
    places(Type::Object(&POD), "", &mut all);
    assert!(all.len() > 1000, "{} places", all.len());
}

#[test]
fn a_wrong_type_anywhere_is_an_error_for_both() {
    let mut pod = sample(Type::Object(&POD));
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let mut all = Vec::new();
    places(Type::Object(&POD), "", &mut all);
    for (path, kind) in all {
        let wrong = match kind {
            Type::Any => continue,
            Type::Bool => vec![json!("true"), json!(1)],
            Type::Int => vec![json!("1"), json!(1.5), json!(u64::MAX)],
            Type::Int32 => vec![json!("1"), json!(true), json!(i64::from(i32::MAX) + 1)],
            Type::Str => vec![json!(1), json!({})],
            Type::IntOrStr => vec![json!(true), json!([])],
            // A number is one that the API server takes and k8s-openapi does not.
            Type::Quantity => vec![json!(true), json!({})],
            Type::Map(_) | Type::Object(_) => vec![json!("x"), json!(1)],
            Type::List(_) => vec![json!("x"), json!({})],
        };
        for value in wrong {
            let place = pod.pointer_mut(&path).expect("the sample has it");
            let right = std::mem::replace(place, value.clone());
            assert!(!podgraft_takes(&pod), "podgraft takes {value} at {path}");
            assert!(!k8s_openapi_takes(&pod), "k8s-openapi takes {value} at {path}");
            *pod.pointer_mut(&path).expect("it is there") = right;
        }
    }
}

#[test]
fn only_what_others_write_is_unchecked() {
    fn unchecked(kind: Type, all: &mut std::collections::BTreeSet<String>) {
        match kind {
            Type::Map(element) | Type::List(element) => unchecked(*element, all),
            Type::Object(object) => {
                for field in object.fields {
                    match field.kind {
                        Type::Any => _ = all.insert(format!("{}.{}", object.name, field.name)),
                        kind => unchecked(kind, all),
                    }
                }
            }
            _ => {}
        }
    }
    let mut all = std::collections::BTreeSet::new();
    unchecked(Type::Object(&POD), &mut all);
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["ObjectMeta.managedFields", "Pod.status"]);
}
