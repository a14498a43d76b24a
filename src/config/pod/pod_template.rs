//! Decodes both forms of a pod template to the normal form, [`Layer::fragment`](crate::merge::layer::Layer).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::config::decode::ast::Tree;
use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::decode::grammar::PATCH;
use crate::config::keys::{self, EXTRA_MOUNTS, EXTRA_VOLUMES, FILE_MOUNTS, FLAT, Kind, SIDECARS, TASK_FIELDS};
use crate::config::pod::field_rules::Context;
use crate::config::pod::file_mounts;
use crate::config::pod::fragment_part::{FragmentPart, Level};
use crate::config::pod::mounts::{self, MountRef};
use crate::config::pod::pod_values::typed_at;
use crate::k8s::labels::PRIMARY;
use crate::k8s::labels::{APPLIED, DEFAULT_CONTAINER, MIRROR_POD};
use crate::k8s::schema::did_you_mean;
pub(crate) use crate::k8s::validation::MAX_ANNOTATION_BYTES;

/// Names of container entries that are reserved for a later version.
const RESERVED_ENTRIES: [&str; 3] = ["default", "default-init", "primary-init"];

/// Fields that only a sidecar may have: an init container ends before the task starts.
const SIDECAR_ONLY: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// Kubernetes' annotations that podgraft reads: the primary container, and static pods, which it skips.
const READ_ANNOTATIONS: [&str; 2] = [DEFAULT_CONTAINER, MIRROR_POD];

/// A decoded template.
pub(crate) struct Template<'a> {
    /// the template in normal form
    pub(crate) fragment: Value,
    /// the parts of the fragment; empty for the full form
    pub(crate) parts: Vec<FragmentPart>,
    /// mounts whose volumes are still to be looked up
    pub(crate) mounts: Vec<MountRef<'a>>,
    /// `allowUnknownFields`
    pub(crate) unknown: bool,
    /// line of `fileMounts`
    pub(crate) file_mounts: Option<u32>,
}

/// The unit's settings that the decoding of a template needs.
pub(crate) struct TemplateContext<'c> {
    /// volumes whose source a claim sets
    pub(crate) claimed: BTreeSet<&'c str>,
    /// labels by which units match pods, each with such a unit
    pub(crate) matched: &'c BTreeMap<String, String>,
}

impl TemplateContext<'_> {
    fn context(&self, unknown: bool) -> Context<'_> {
        Context { claimed: self.claimed.clone(), unknown, directives: true }
    }
}

// === the flat form ===

/// Decodes `templateOverrides` or `basePodTemplate`. The caller takes the other keys and finishes the fields.
pub(crate) fn decode_flat<'a>(fields: &mut Fields<'a>, template_context: &TemplateContext<'_>) -> Template<'a> {
    let unknown = fields.take("allowUnknownFields").and_then(|cursor| cursor.boolean()).unwrap_or_default();
    let context = template_context.context(unknown);
    let mut found: BTreeMap<&str, Cursor<'a>> = BTreeMap::new();
    let mut parts = Vec::new();
    for key in FLAT {
        let Kind::Pod(path) = key.kind else { continue };
        let Some(cursor) = fields.take_non_empty(key.name) else { continue };
        let Some(mut value) = typed_at(&cursor, path, &context) else { continue };
        match key.name {
            "labels" | "annotations" => deny_read_keys(&cursor, key.name, template_context.matched),
            "initContainers" => check_init(&cursor),
            SIDECARS => make_sidecars(&cursor, &mut value),
            _ => {}
        }
        let (level, field) = level_and_field(path);
        parts.push(FragmentPart { key: key.name, level, field, value });
        found.insert(key.name, cursor);
    }
    let mut taken: BTreeSet<String> = mount_paths(found.get("volumeMounts"));
    taken.extend(mount_paths(found.get(EXTRA_MOUNTS)));
    let file_mounts = fields.take_non_empty(FILE_MOUNTS);
    if let Some(cursor) = &file_mounts {
        parts.extend(file_mounts::decode(cursor, &taken));
    }
    for (one, other, key) in [
        ("volumes", EXTRA_VOLUMES, "name"),
        ("volumeMounts", EXTRA_MOUNTS, "mountPath"),
        ("initContainers", SIDECARS, "name"),
    ] {
        mounts::check_duplicates(&[(one, found.get(one).cloned()), (other, found.get(other).cloned())], key);
    }
    let fragment = assemble(&parts);
    check_size(&fields.cursor, &fragment);
    let file_mounts = file_mounts.map(|cursor| cursor.node.at.line);
    Template { fragment, mounts: flat_mounts(&found), parts, unknown, file_mounts }
}

/// Splits the path of a flat key into the object and the field of a fragment.
pub(crate) fn level_and_field(path: &[&'static str]) -> (Level, &'static str) {
    match path {
        ["metadata", field] => (Level::Metadata, field),
        ["spec", field] => (Level::Spec, field),
        [.., field] => (Level::Primary, field),
        [] => (Level::Spec, ""),
    }
}

fn mount_paths(list: Option<&Cursor<'_>>) -> BTreeSet<String> {
    let items = list.into_iter().flat_map(Cursor::items);
    items.filter_map(|item| item.get("mountPath")?.as_text().map(str::to_owned)).collect()
}

fn flat_mounts<'a>(found: &BTreeMap<&str, Cursor<'a>>) -> Vec<MountRef<'a>> {
    let lists = ["volumeMounts", EXTRA_MOUNTS].into_iter().filter_map(|key| found.get(key));
    let containers = ["initContainers", SIDECARS].into_iter().filter_map(|key| found.get(key));
    let of_containers = containers.flat_map(Cursor::items).flat_map(|item| mounts::container_mounts(&item));
    lists.flat_map(mounts::list_mounts).chain(of_containers).collect()
}

/// Joins parts to a fragment: lists of one field are concatenated, maps are merged.
pub(crate) fn assemble<'p>(parts: impl IntoIterator<Item = &'p FragmentPart>) -> Value {
    let (mut metadata, mut spec, mut primary) = (Map::new(), Map::new(), Map::new());
    for part in parts {
        let target = match part.level {
            Level::Metadata => &mut metadata,
            Level::Spec => &mut spec,
            Level::Primary => &mut primary,
        };
        match (target.get_mut(part.field), &part.value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend_from_slice(more),
            (Some(Value::Object(map)), Value::Object(more)) => map.extend(more.clone()),
            _ => _ = target.insert(part.field.to_owned(), part.value.clone()),
        }
    }
    if !primary.is_empty() {
        primary.insert("name".into(), PRIMARY.into());
        spec.insert("containers".into(), json!([primary]));
    }
    to_fragment(metadata, spec)
}

fn to_fragment(metadata: Map<String, Value>, spec: Map<String, Value>) -> Value {
    let parts = [("metadata", metadata), ("spec", spec)].into_iter().filter(|(_, part)| !part.is_empty());
    Value::Object(parts.map(|(key, part)| (key.to_owned(), Value::Object(part))).collect())
}

/// Makes containers native sidecars, which start before the task and end after it.
fn make_sidecars(cursor: &Cursor<'_>, value: &mut Value) {
    for item in cursor.items() {
        require_image(&item);
        if let Some(policy) = item.get("restartPolicy").filter(|policy| !policy.is_text("Always")) {
            policy.error("the restartPolicy of a sidecar must be Always");
        }
    }
    let added = value.as_array_mut().into_iter().flatten().filter(|sidecar| sidecar.get(PATCH).is_none());
    for sidecar in added {
        sidecar["restartPolicy"] = "Always".into();
    }
}

fn check_init(cursor: &Cursor<'_>) {
    for item in cursor.items() {
        require_image(&item);
        if item.get("restartPolicy").is_none() {
            for field in SIDECAR_ONLY.iter().filter_map(|key| item.get(key)) {
                field.error("an init container may have it only as a sidecar (restartPolicy: Always)");
            }
        }
    }
}

fn require_image(item: &Cursor<'_>) {
    // another type is reported elsewhere; a directive needs no image
    if matches!(item.node.tree, Tree::Map(_)) && item.get("image").is_none() && item.get(PATCH).is_none() {
        item.error("key `image` is missing");
    }
}

// === the full form ===

/// Decodes `podTemplate`, which has the structure of a Pod.
pub(crate) fn decode_full<'a>(cursor: &Cursor<'a>, template_context: &TemplateContext<'_>) -> Template<'a> {
    let mut template =
        Template { fragment: json!({}), parts: Vec::new(), mounts: Vec::new(), unknown: false, file_mounts: None };
    let Some(mut fields) = cursor.fields(&keys::POD_TEMPLATE) else { return template };
    template.unknown = fields.take("allowUnknownFields").and_then(|cursor| cursor.boolean()).unwrap_or_default();
    let context = template_context.context(template.unknown);
    let primary = fields.take("primaryContainerName");
    let metadata =
        fields.take("metadata").map(|cursor| metadata(&cursor, template_context, &context)).unwrap_or_default();
    let spec = fields.take("spec");
    let mut names = Vec::new();
    let mut value = Map::new();
    if let Some(spec) = &spec {
        if let Some(Value::Object(typed)) = typed_at(spec, &["spec"], &context) {
            value = typed;
        }
        value.retain(|_, field| !is_empty(field));
        let wanted = primary.as_ref().and_then(|cursor| cursor.node.is_empty().then_some("").or(cursor.as_text()));
        names = check_containers(spec, wanted);
        name_primary(&mut value, wanted.unwrap_or(PRIMARY));
        spec.get("initContainers").iter().for_each(check_init);
        let containers = ["containers", "initContainers"].into_iter().filter_map(|list| spec.get(list));
        template.mounts =
            containers.flat_map(|list| list.items()).flat_map(|item| mounts::container_mounts(&item)).collect();
    }
    if let Some(cursor) = primary
        && let Some(name) = cursor.name()
        && !names.contains(&name)
    {
        cursor.error(format!("no entry of spec.containers is named `{name}`"));
    }
    fields.finish();
    template.fragment = to_fragment(metadata, value);
    check_size(cursor, &template.fragment);
    template
}

fn metadata(cursor: &Cursor<'_>, template_context: &TemplateContext<'_>, context: &Context<'_>) -> Map<String, Value> {
    const KEYS: [&str; 2] = ["labels", "annotations"];
    let mut map = Map::new();
    for (key, node) in cursor.members().unwrap_or_default() {
        let entry = cursor.child(&key.text, node);
        let Some(name) = KEYS.iter().find(|name| **name == key.text) else {
            let known = super::pod_values::field_at(&["metadata", &key.text]).is_some();
            let hint = did_you_mean(&key.text, KEYS);
            let message = if known {
                "a layer may set labels and annotations only".to_owned()
            } else {
                format!("unknown key{hint}")
            };
            cursor.diagnostics.error(key.at, &entry.path, message);
            continue;
        };
        if node.is_empty() {
            continue;
        }
        deny_read_keys(&entry, name, template_context.matched);
        map.extend(typed_at(&entry, &["metadata", name], context).map(|value| (key.text.clone(), value)));
    }
    map
}

/// Returns true for a value that counts as absent, as `volumes: []` does in Helm.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Adds an error for each key that selects layers: a pod that is admitted again must get the layers it got before.
fn deny_read_keys(cursor: &Cursor<'_>, map: &str, matched: &BTreeMap<String, String>) {
    let annotations = map == "annotations";
    if !matches!(cursor.node.tree, Tree::Map(_)) {
        return;
    }
    for (key, value) in cursor.entries() {
        let text = key.text.as_str();
        let reads = text.starts_with("podgraft.io/") || annotations && READ_ANNOTATIONS.contains(&text);
        let matching_unit = matched.get(text).filter(|_| !annotations);
        let message = match matching_unit {
            _ if annotations && text == APPLIED => {
                "podgraft writes this annotation itself, so no layer may set it".to_owned()
            }
            _ if reads => "podgraft selects layers by this key, so no layer may set it".to_owned(),
            Some(unit) => format!(
                "{unit} matches pods by this label, so no layer may set it: the pod would get other layers when it is \
                 admitted again"
            ),
            None => continue,
        };
        value.diagnostics.error(key.at, &value.path, message);
    }
}

/// Checks the entries of `spec.containers`, and returns their names. `primary` is `primaryContainerName`.
fn check_containers<'a>(spec: &Cursor<'a>, primary: Option<&str>) -> Vec<&'a str> {
    let primary = primary.unwrap_or(PRIMARY);
    let mut names = Vec::new();
    for item in spec.get("containers").iter().flat_map(Cursor::items) {
        let is_primary = item.get("name").is_none_or(|name| name.is_text(primary));
        if let Some(directive) = item.get(PATCH).filter(|_| is_primary) {
            directive.error("the primary container cannot be removed");
        }
        let Some((at, name)) = item.get("name").and_then(|at| Some((at.clone(), at.as_text()?))) else { continue };
        names.push(name);
        if name != primary && name == PRIMARY {
            at.error(format!("`{PRIMARY}` means the pod's primary container, which is `{primary}` here"));
        }
        let reserved = name != primary && RESERVED_ENTRIES.contains(&name);
        if reserved {
            at.error(format!("container entry `{name}` is not supported yet"));
        }
        if name == primary || reserved {
            for field in TASK_FIELDS.iter().filter_map(|key| item.get(key)) {
                field.error("the task sets the image, command and args of the primary container");
            }
        }
    }
    names
}

fn name_primary(spec: &mut Map<String, Value>, primary: &str) {
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter(|container| container["name"] == primary) {
        container["name"] = PRIMARY.into();
    }
}

/// Returns the size of a fragment's annotations in bytes, as the API server counts it.
pub(crate) fn annotation_bytes(fragment: &Value) -> usize {
    let annotations = fragment.pointer("/metadata/annotations").and_then(Value::as_object);
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    annotations.into_iter().flatten().map(size).sum()
}

fn check_size(cursor: &Cursor<'_>, fragment: &Value) {
    let bytes = annotation_bytes(fragment);
    if bytes > MAX_ANNOTATION_BYTES {
        cursor.error(too_many_bytes(bytes));
    }
}

/// Returns the error of a unit with too large annotations.
pub(crate) fn too_many_bytes(bytes: usize) -> String {
    format!(
        "sets {bytes} bytes of annotations (with the texts of fileMounts), and a pod may have {MAX_ANNOTATION_BYTES}: \
         put large files into a ConfigMap and use configMapRef"
    )
}
