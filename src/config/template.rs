//! Both forms of a template to the normal form of [`Layer::fragment`](crate::merge::layer::Layer).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::cursor::{Cursor, Fields};
use super::files;
use super::keys::{self, EXTRA_MOUNTS, EXTRA_VOLUMES, FILE_MOUNTS, FLAT, Kind, OWNED, SIDECARS};
use super::node::Tree;
use super::parts::{self, MountRef};
use super::spell;
use super::typed::{Context, PATCH, typed_at};
use crate::k8s::labels::PRIMARY;
use crate::k8s::labels::{APPLIED, DEFAULT_CONTAINER, MIRROR_POD};
pub(crate) use crate::k8s::validation::MAX_ANNOTATION_BYTES;

/// Entries that lie under several containers; they come with named templates.
const MAGIC: [&str; 3] = ["default", "default-init", "primary-init"];

/// What runs and ends before the task cannot be probed.
const NOT_IN_INIT: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// Annotations of others that podgraft reads: the primary container, and pods that it leaves alone.
const READ_ANNOTATIONS: [&str; 2] = [DEFAULT_CONTAINER, MIRROR_POD];

/// The part of a fragment that a flat key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Metadata,
    Spec,
    Primary,
}

/// What one key of the flat form gives: a field of the fragment. Several keys may give parts of one field.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) key: &'static str,
    pub(crate) place: Level,
    pub(crate) field: &'static str,
    pub(crate) value: Value,
}

/// A decoded template.
pub(crate) struct Template<'a> {
    /// normal form
    pub(crate) fragment: Value,
    /// of the flat form: what the fragment is put together from
    pub(crate) pieces: Vec<Piece>,
    /// for the search for their volumes
    pub(crate) mounts: Vec<MountRef<'a>>,
    /// `allowUnknownFields`
    pub(crate) unknown: bool,
    /// where `fileMounts` stand
    pub(crate) file_mounts: Option<u32>,
}

/// What a template must know of the rest.
pub(crate) struct Given<'c> {
    /// volumes whose source a claim gives
    pub(crate) claimed: BTreeSet<&'c str>,
    /// labels by which units match pods, and a unit that does
    pub(crate) matched: &'c BTreeMap<String, String>,
}

impl Given<'_> {
    fn context(&self, unknown: bool) -> Context<'_> {
        Context { claimed: self.claimed.clone(), unknown, directives: true }
    }
}

// === the flat form ===

/// `templateOverrides` and `basePodTemplate`. The caller takes what else may stand there and finishes.
pub(crate) fn flat<'a>(fields: &mut Fields<'a>, given: &Given<'_>) -> Template<'a> {
    let unknown = fields.take("allowUnknownFields").and_then(|cursor| cursor.boolean()).unwrap_or_default();
    let context = given.context(unknown);
    let mut found: BTreeMap<&str, Cursor<'a>> = BTreeMap::new();
    let mut pieces = Vec::new();
    for key in FLAT {
        let Kind::Pod(path) = key.kind else { continue };
        let Some(cursor) = fields.take_filled(key.name) else { continue };
        let Some(mut value) = typed_at(&cursor, path, &context) else { continue };
        match key.name {
            "labels" | "annotations" => deny_read_keys(&cursor, key.name, given.matched),
            "initContainers" => check_init(&cursor),
            SIDECARS => make_sidecars(&cursor, &mut value),
            _ => {}
        }
        let (place, field) = place(path);
        pieces.push(Piece { key: key.name, place, field, value });
        found.insert(key.name, cursor);
    }
    let mut taken: BTreeSet<String> = mount_paths(found.get("volumeMounts"));
    taken.extend(mount_paths(found.get(EXTRA_MOUNTS)));
    let file_mounts = fields.take_filled(FILE_MOUNTS);
    if let Some(cursor) = &file_mounts {
        pieces.extend(files::decode(cursor, &taken));
    }
    for (one, other, key) in [
        ("volumes", EXTRA_VOLUMES, "name"),
        ("volumeMounts", EXTRA_MOUNTS, "mountPath"),
        ("initContainers", SIDECARS, "name"),
    ] {
        parts::check_apart(&[(one, found.get(one).cloned()), (other, found.get(other).cloned())], key);
    }
    let fragment = assemble(&pieces);
    check_size(&fields.cursor, &fragment);
    let file_mounts = file_mounts.map(|cursor| cursor.node.at.line);
    Template { fragment, mounts: flat_mounts(&found), pieces, unknown, file_mounts }
}

/// Where a flat key's path stands in a fragment.
pub(crate) fn place(path: &[&'static str]) -> (Level, &'static str) {
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
    let of_containers = containers.flat_map(Cursor::items).flat_map(|item| parts::mounts_of(&item));
    lists.flat_map(parts::mounts_in).chain(of_containers).collect()
}

/// Pieces to a fragment: lists of one field follow each other, maps are one.
pub(crate) fn assemble<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> Value {
    let (mut metadata, mut spec, mut primary) = (Map::new(), Map::new(), Map::new());
    for piece in pieces {
        let part = match piece.place {
            Level::Metadata => &mut metadata,
            Level::Spec => &mut spec,
            Level::Primary => &mut primary,
        };
        match (part.get_mut(piece.field), &piece.value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend_from_slice(more),
            (Some(Value::Object(map)), Value::Object(more)) => map.extend(more.clone()),
            _ => _ = part.insert(piece.field.to_owned(), piece.value.clone()),
        }
    }
    if !primary.is_empty() {
        primary.insert("name".into(), PRIMARY.into());
        spec.insert("containers".into(), json!([primary]));
    }
    whole(metadata, spec)
}

fn whole(metadata: Map<String, Value>, spec: Map<String, Value>) -> Value {
    let parts = [("metadata", metadata), ("spec", spec)].into_iter().filter(|(_, part)| !part.is_empty());
    Value::Object(parts.map(|(key, part)| (key.to_owned(), Value::Object(part))).collect())
}

/// A container beside the task as a native sidecar: it starts before the task and ends when the task has.
fn make_sidecars(cursor: &Cursor<'_>, value: &mut Value) {
    for item in cursor.items() {
        require_image(&item);
        if let Some(policy) = item.get("restartPolicy").filter(|policy| !policy.is_text("Always")) {
            policy.error("a sidecar's restartPolicy is Always");
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
            for field in NOT_IN_INIT.iter().filter_map(|key| item.get(key)) {
                field.error("an init container has it only as a sidecar (restartPolicy: Always)");
            }
        }
    }
}

fn require_image(item: &Cursor<'_>) {
    // what is no mapping, or a directive, is wrong as a whole
    if matches!(item.node.tree, Tree::Map(_)) && item.get("image").is_none() && item.get(PATCH).is_none() {
        item.error("key `image` is missing");
    }
}

// === the full form ===

/// `podTemplate`: everything at its place in a Pod.
pub(crate) fn full<'a>(cursor: &Cursor<'a>, given: &Given<'_>) -> Template<'a> {
    let mut template =
        Template { fragment: json!({}), pieces: Vec::new(), mounts: Vec::new(), unknown: false, file_mounts: None };
    let Some(mut fields) = cursor.fields(&keys::POD_TEMPLATE) else { return template };
    template.unknown = fields.take("allowUnknownFields").and_then(|cursor| cursor.boolean()).unwrap_or_default();
    let context = given.context(template.unknown);
    let primary = fields.take("primaryContainerName");
    let metadata = fields.take("metadata").map(|cursor| metadata(&cursor, given, &context)).unwrap_or_default();
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
        template.mounts = containers.flat_map(|list| list.items()).flat_map(|item| parts::mounts_of(&item)).collect();
    }
    if let Some(cursor) = primary
        && let Some(name) = cursor.name()
        && !names.contains(&name)
    {
        cursor.error(format!("no entry of spec.containers is called `{name}`"));
    }
    fields.finish();
    template.fragment = whole(metadata, value);
    check_size(cursor, &template.fragment);
    template
}

fn metadata(cursor: &Cursor<'_>, given: &Given<'_>, context: &Context<'_>) -> Map<String, Value> {
    const KEYS: [&str; 2] = ["labels", "annotations"];
    let mut map = Map::new();
    for (key, node) in cursor.members().unwrap_or_default() {
        let entry = cursor.child(&key.text, node);
        let Some(name) = KEYS.iter().find(|name| **name == key.text) else {
            let known = super::typed::field_at(&["metadata", &key.text]).is_some();
            let hint = spell::did_you_mean(&key.text, KEYS);
            let message = if known {
                "no layer may give it: it is the pod's own".to_owned()
            } else {
                format!("unknown key{hint}")
            };
            cursor.report.add(key.at, &entry.path, message);
            continue;
        };
        if node.is_empty() {
            continue;
        }
        deny_read_keys(&entry, name, given.matched);
        map.extend(typed_at(&entry, &["metadata", name], context).map(|value| (key.text.clone(), value)));
    }
    map
}

/// Nothing was said: `volumes: []` under Helm is a value that is not there.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A layer may not change what decides on layers: the pod may be admitted again, and must then get the same.
fn deny_read_keys(cursor: &Cursor<'_>, map: &str, matched: &BTreeMap<String, String>) {
    let annotations = map == "annotations";
    if !matches!(cursor.node.tree, Tree::Map(_)) {
        return;
    }
    for (key, value) in cursor.entries() {
        let text = key.text.as_str();
        let own = text.starts_with("podgraft.io/") || annotations && READ_ANNOTATIONS.contains(&text);
        let by = matched.get(text).filter(|_| !annotations);
        let message = match by {
            _ if annotations && text == APPLIED => {
                "podgraft writes this annotation itself, so no layer may set it".to_owned()
            }
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

/// Checks the entries of `spec.containers`, and gives their names. `primary` is the name that the template gives its
/// entry for the pod's primary container.
fn check_containers<'a>(spec: &Cursor<'a>, primary: Option<&str>) -> Vec<&'a str> {
    let primary = primary.unwrap_or(PRIMARY);
    let mut names = Vec::new();
    for item in spec.get("containers").iter().flat_map(Cursor::items) {
        let of_task = item.get("name").is_none_or(|name| name.is_text(primary));
        if let Some(directive) = item.get(PATCH).filter(|_| of_task) {
            directive.error("the task's own container cannot be taken away");
        }
        let Some((at, name)) = item.get("name").and_then(|at| Some((at.clone(), at.as_text()?))) else { continue };
        names.push(name);
        if name != primary && name == PRIMARY {
            at.error(format!("`{PRIMARY}` means the pod's primary container, which is `{primary}` here"));
        }
        let magic = name != primary && MAGIC.contains(&name);
        if magic {
            at.error(format!("container entry `{name}` is not supported yet"));
        }
        if name == primary || magic {
            for owned in OWNED.iter().filter_map(|key| item.get(key)) {
                owned.error("the primary container's image, command and args are the task's own");
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

/// Bytes of a fragment's annotations, as the API server counts them.
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

/// What is said of too many annotations.
pub(crate) fn too_many_bytes(bytes: usize) -> String {
    format!(
        "gives pods {bytes} bytes of annotations (the text of fileMounts is one), and a pod may have {MAX_ANNOTATION_BYTES}: \
         put large files into a ConfigMap and say configMapRef"
    )
}
