//! Both forms of a template to the normal form of [`Layer::fragment`](crate::snapshot::Layer).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::cursor::{Cursor, Fields};
use super::parts::{self, MapKind, MountRef};
use super::typed::{field_names, type_of};
use crate::snapshot::PRIMARY;

/// Keys of the flat form that the documentation knows and this version does not.
const FLAT_LATER: [&str; 16] = [
    "affinity",
    "allowUnknownFields",
    "containerSecurityContext",
    "extraVolumeMounts",
    "extraVolumes",
    "fileMounts",
    "hostAliases",
    "imagePullSecrets",
    "podSecurityContext",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "serviceAccountName",
    "sidecars",
    "template",
    "topologySpreadConstraints",
];

/// What the task's own container is, the task system says.
const OWNED: [&str; 3] = ["image", "command", "args"];

/// Entries that lie under several containers; they come with named templates.
const MAGIC: [&str; 3] = ["default", "default-init", "primary-init"];

/// Annotations of others that podgraft reads: the primary container, and pods that it leaves alone.
const READ_ANNOTATIONS: [&str; 2] = ["kubectl.kubernetes.io/default-container", "kubernetes.io/config.mirror"];

/// Where each key of the flat form stands in a fragment.
pub(crate) const FLAT_KEYS: [(&str, Place); 9] = [
    ("labels", Place::Metadata),
    ("annotations", Place::Metadata),
    ("volumes", Place::Spec),
    ("nodeSelector", Place::Spec),
    ("tolerations", Place::Spec),
    ("initContainers", Place::Spec),
    ("env", Place::Primary),
    ("volumeMounts", Place::Primary),
    ("resources", Place::Primary),
];

/// The part of a fragment that a flat key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Metadata,
    Spec,
    Primary,
}

/// A decoded template.
pub(crate) struct Template<'a> {
    /// normal form
    pub(crate) fragment: Value,
    /// for the search for their volumes
    pub(crate) mounts: Vec<MountRef<'a>>,
}

/// What a template must know of the rest.
pub(crate) struct Given<'c> {
    /// volumes whose source a claim gives
    pub(crate) claimed: BTreeSet<&'c str>,
    /// labels by which units match pods, and a unit that does
    pub(crate) matched: &'c BTreeMap<String, String>,
}

/// `templateOverrides` and `basePodTemplate`. The caller takes what else may stand there and finishes.
pub(crate) fn flat<'a>(fields: &mut Fields<'a>, given: &Given<'_>) -> Template<'a> {
    let mut mounts = Vec::new();
    let (mut metadata, mut spec, mut primary) = (Map::new(), Map::new(), Map::new());
    take_metadata(fields, &mut metadata, given);
    take_spec(fields, &mut spec, given, &mut mounts);
    parts::take_container_parts(fields, &mut primary, &mut mounts);
    fields.later(FLAT_LATER);
    if !primary.is_empty() {
        primary.insert("name".into(), PRIMARY.into());
        spec.insert("containers".into(), json!([primary]));
    }
    Template { fragment: assemble(metadata, spec), mounts }
}

/// `podTemplate`: everything at its place in a Pod.
pub(crate) fn full<'a>(cursor: &Cursor<'a>, given: &Given<'_>) -> Template<'a> {
    let mut mounts = Vec::new();
    let (mut metadata, mut spec) = (Map::new(), Map::new());
    let Some(mut fields) = cursor.fields() else { return Template { fragment: json!({}), mounts } };
    let primary = fields.take("primaryContainerName");
    fields.later(["allowUnknownFields"]);
    if let Some(mut fields) = fields.take("metadata").and_then(|cursor| cursor.fields()) {
        take_metadata(&mut fields, &mut metadata, given);
        fields.finish();
    }
    let spec_fields = fields.take("spec").and_then(|cursor| cursor.fields());
    let mut names = Vec::new();
    if let Some(mut fields) = spec_fields {
        take_spec(&mut fields, &mut spec, given, &mut mounts);
        if let Some(list) = fields.take_filled("containers") {
            let wanted = primary.as_ref().and_then(|cursor| cursor.node.is_empty().then_some("").or(cursor.text()));
            let containers = containers(&list, wanted, &mut names, &mut mounts);
            spec.insert("containers".into(), containers.into());
        }
        fields.later(field_names(type_of(&["spec"])));
        fields.finish();
    }
    if let Some(cursor) = primary
        && let Some(name) = cursor.name()
        && !names.contains(&name)
    {
        cursor.error(format!("no entry of spec.containers is called `{name}`"));
    }
    fields.finish();
    Template { fragment: assemble(metadata, spec), mounts }
}

fn assemble(metadata: Map<String, Value>, spec: Map<String, Value>) -> Value {
    let mut fragment = Map::new();
    for (key, part) in [("metadata", metadata), ("spec", spec)] {
        if !part.is_empty() {
            fragment.insert(key.into(), Value::Object(part));
        }
    }
    Value::Object(fragment)
}

fn take_metadata(fields: &mut Fields<'_>, metadata: &mut Map<String, Value>, given: &Given<'_>) {
    for (key, kind) in [("labels", MapKind::Labels), ("annotations", MapKind::Annotations)] {
        if let Some(cursor) = fields.take_filled(key) {
            refuse_read(&cursor, kind, given.matched);
            metadata.insert(key.into(), parts::string_map(&cursor, kind));
        }
    }
}

/// A layer may not change what decides on layers: the pod may be admitted again, and must then get the same.
fn refuse_read(cursor: &Cursor<'_>, kind: MapKind, matched: &BTreeMap<String, String>) {
    for (key, value) in cursor.entries() {
        let text = key.text.as_str();
        let own = text.starts_with("podgraft.io/") || kind == MapKind::Annotations && READ_ANNOTATIONS.contains(&text);
        let by = matched.get(text).filter(|_| kind == MapKind::Labels);
        let message = match by {
            _ if own => "podgraft reads this key to choose what a pod gets, so no layer may set it".to_owned(),
            Some(unit) => format!(
                "{unit} matches pods by this label: set by a layer, the pod would get something else when it is \
                 admitted again"
            ),
            None => continue,
        };
        value.report.add(key.at, &value.path, message);
    }
}

fn take_spec<'a>(
    fields: &mut Fields<'a>,
    spec: &mut Map<String, Value>,
    given: &Given<'_>,
    mounts: &mut Vec<MountRef<'a>>,
) {
    let mut set = |key: &str, value: Option<Value>| spec.extend(value.map(|value| (key.to_owned(), value)));
    if let Some(cursor) = fields.take_filled("volumes") {
        set("volumes", parts::volumes(&cursor, &given.claimed));
    }
    if let Some(cursor) = fields.take_filled("nodeSelector") {
        set("nodeSelector", Some(parts::string_map(&cursor, MapKind::Labels)));
    }
    if let Some(cursor) = fields.take_filled("tolerations") {
        set("tolerations", parts::tolerations(&cursor));
    }
    if let Some(cursor) = fields.take_filled("initContainers") {
        set("initContainers", parts::init_containers(&cursor, mounts));
    }
}

/// `primary` is the name that the template gives its entry for the pod's primary container.
fn containers<'a>(
    list: &Cursor<'a>,
    primary: Option<&str>,
    names: &mut Vec<&'a str>,
    mounts: &mut Vec<MountRef<'a>>,
) -> Vec<Value> {
    let primary = primary.unwrap_or(PRIMARY);
    let mut entries = Vec::new();
    for item in list.list() {
        let Some(mut fields) = item.fields() else { continue };
        let Some((at, name)) = fields.require("name").and_then(|at| Some((at.clone(), at.name()?))) else {
            continue;
        };
        if names.contains(&name) {
            at.error(format!("name `{name}` stands twice in this list"));
        }
        names.push(name);
        if name != primary && name == PRIMARY {
            at.error(format!("`{PRIMARY}` means the pod's primary container, which is `{primary}` here"));
        }
        if name != primary && MAGIC.contains(&name) {
            at.error(format!("container entry `{name}` is not supported yet"));
        }
        let mut map = Map::new();
        map.insert("name".into(), if name == primary { PRIMARY } else { name }.into());
        parts::take_container_parts(&mut fields, &mut map, mounts);
        refuse_owned(&mut fields, name == primary);
        fields.later(field_names(type_of(&["spec", "containers"])));
        fields.finish();
        entries.push(Value::Object(map));
    }
    entries
}

fn refuse_owned(fields: &mut Fields<'_>, primary: bool) {
    for key in OWNED {
        match fields.take(key) {
            Some(cursor) if primary => {
                cursor.error("the primary container's image, command and args are the task's own");
            }
            Some(cursor) => cursor.error(format!("key `{key}` is not supported yet")),
            None => {}
        }
    }
}
