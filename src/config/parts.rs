//! The parts of a pod template: by the schema, and then what the schema does not say.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::cursor::{Cursor, Fields};
use super::scalars::{dns_label, is_label_text, is_qualified_name, object_name};
use super::typed::{NO_PATCH, PATCH, type_of, typed};

/// A mount, and where it is written: its volume is looked for when all layers are known.
pub(crate) struct MountRef<'a> {
    pub(crate) volume: &'a str,
    pub(crate) cursor: Cursor<'a>,
}

/// Which text the values of a map may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapKind {
    /// labels, nodeSelector
    Labels,
    /// annotations: any text
    Annotations,
}

/// Labels, annotations, nodeSelector.
pub(crate) fn string_map(cursor: &Cursor<'_>, kind: MapKind) -> Value {
    let mut map = Map::new();
    for (key, value) in cursor.entries() {
        if key.text == PATCH {
            value.report.add(key.at, &value.path, NO_PATCH);
            continue;
        }
        if !is_qualified_name(&key.text) {
            value.report.add(key.at, &value.path, "is not a key that Kubernetes takes (`name` or `prefix/name`)");
        }
        value.check_placeholders();
        let Some(text) = value.text() else { continue };
        if kind == MapKind::Labels && !value.has_placeholder() && !is_label_text(text) {
            value.error("is not a label value (at most 63 letters, digits, -, _ and .)");
        }
        map.insert(key.text.clone(), text.into());
    }
    Value::Object(map)
}

/// `volumes`. The source of a claimed volume is a stand-in, as ClearML's `claimName: PVC_NAME`.
pub(crate) fn volumes(cursor: &Cursor<'_>, claimed: &BTreeSet<&str>) -> Option<Value> {
    let mut names = Unique::new("name");
    for item in &items(cursor) {
        let name = item.get("name").and_then(|name| names.check(&name, dns_label));
        check_source(item, name.is_some_and(|name| claimed.contains(name)));
    }
    typed(cursor, type_of(&["spec", "volumes"]))
}

fn check_source(item: &Cursor<'_>, claimed: bool) {
    let sources: Vec<_> = item.set_entries().filter(|(key, _)| *key != "name" && *key != PATCH).collect();
    match sources.as_slice() {
        [] if claimed || is_directive(item) => {}
        [] => item.error("has no source, like emptyDir: {} or persistentVolumeClaim: {claimName: …}"),
        [_] => {}
        [(first, _), (second, cursor), ..] => {
            cursor.error(format!("a volume has one source, this one has {first} and {second}"));
        }
    }
    let claim = item.get("persistentVolumeClaim").filter(|_| !claimed);
    if let Some(name) = claim.and_then(|claim| claim.get("claimName")) {
        object_name(&name);
    }
}

/// `env`.
pub(crate) fn check_env(cursor: &Cursor<'_>) {
    let mut names = Unique::new("name");
    for item in &items(cursor) {
        if let Some(name) = item.get("name") {
            names.check(&name, Cursor::name);
            // newer clusters take spaces too, older ones less than this
            if name.text().is_some_and(|text| text.bytes().any(|c| !c.is_ascii_graphic() || c == b'=')) {
                name.error("must be ASCII without spaces and =");
            }
        }
        let Some(from) = item.get("valueFrom") else { continue };
        if item.get("value").is_some() {
            from.error("stands beside value; an env variable has one of them");
        }
        if from.set_entries().count() != 1 {
            from.error("must have one source, like secretKeyRef or fieldRef");
        }
        for reference in ["secretKeyRef", "configMapKeyRef"].iter().filter_map(|key| from.get(key)) {
            match reference.get("name") {
                Some(name) => _ = object_name(&name),
                None => reference.error("key `name` is missing"),
            }
            reference.get("key").iter().for_each(|key| _ = key.name());
        }
    }
}

/// `volumeMounts`, noting each for the search for its volume.
pub(crate) fn check_mounts<'a>(cursor: &Cursor<'a>, seen: &mut Vec<MountRef<'a>>) {
    let mut paths = Unique::new("mountPath");
    for item in &items(cursor) {
        if let Some(path) = item.get("mountPath") {
            paths.check(&path, Cursor::name);
            if path.text().is_some_and(|text| text.contains(':')) {
                path.error("a mountPath has no :");
            }
        }
        for path in ["subPath", "subPathExpr"].iter().filter_map(|key| item.get(key)) {
            if path.text().is_some_and(|text| text.starts_with('/') || text.split('/').any(|part| part == "..")) {
                path.error("must be a relative path without ..");
            }
        }
        if let Some((cursor, volume)) = item.get("name").and_then(|name| Some((name.clone(), name.name()?))) {
            seen.push(MountRef { volume, cursor });
        }
    }
}

/// `tolerations`.
pub(crate) fn tolerations(cursor: &Cursor<'_>) -> Option<Value> {
    for item in &items(cursor) {
        let operator = item.get("operator");
        let operators = ["Exists", "Equal", "Lt", "Gt"].map(|word| (word, word));
        let exists = operator.and_then(|operator| operator.word(&operators, &[])) == Some("Exists");
        if let Some(value) = item.get("value").filter(|value| exists && !value.node.is_empty()) {
            value.error("operator Exists takes no value");
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"].map(|word| (word, ()));
        item.get("effect").and_then(|effect| effect.word(&effects, &[]));
    }
    typed(cursor, type_of(&["spec", "tolerations"]))
}

/// `initContainers`.
pub(crate) fn init_containers<'a>(cursor: &Cursor<'a>, seen: &mut Vec<MountRef<'a>>) -> Option<Value> {
    let mut names = Unique::new("name");
    for item in &items(cursor) {
        item.get("name").and_then(|name| names.check(&name, dns_label));
        if item.get("image").is_none() && !is_directive(item) {
            item.error("key `image` is missing");
        }
        item.get("env").iter().for_each(check_env);
        item.get("volumeMounts").iter().for_each(|mounts| check_mounts(mounts, seen));
    }
    typed(cursor, type_of(&["spec", "initContainers"]))
}

/// The container-level keys that every form knows: env, volumeMounts, resources.
pub(crate) fn take_container_parts<'a>(
    fields: &mut Fields<'a>,
    map: &mut Map<String, Value>,
    seen: &mut Vec<MountRef<'a>>,
) {
    for key in CONTAINER_PARTS {
        let Some(cursor) = fields.take_filled(key) else { continue };
        match key {
            "env" => check_env(&cursor),
            "volumeMounts" => check_mounts(&cursor, seen),
            _ => {}
        }
        map.extend(typed(&cursor, type_of(&["spec", "containers", key])).map(|value| (key.to_owned(), value)));
    }
}

/// What [`take_container_parts`] takes.
pub(crate) const CONTAINER_PARTS: [&str; 3] = ["env", "volumeMounts", "resources"];

/// The elements of a list, silently none when it is something else: `typed` says so.
fn items<'a>(cursor: &Cursor<'a>) -> Vec<Cursor<'a>> {
    if matches!(cursor.node.tree, super::node::Tree::List(_)) { cursor.list() } else { Vec::new() }
}

/// Whether `typed` refuses the item as a whole: then nothing else is missing in it.
fn is_directive(item: &Cursor<'_>) -> bool {
    item.get(PATCH).is_some()
}

/// Refuses the second of two equal names in a list.
struct Unique<'a> {
    what: &'static str,
    seen: BTreeSet<&'a str>,
}

impl<'a> Unique<'a> {
    fn new(what: &'static str) -> Self {
        Self { what, seen: BTreeSet::new() }
    }

    /// The text that `read` gives, once.
    fn check(&mut self, cursor: &Cursor<'a>, read: impl Fn(&Cursor<'a>) -> Option<&'a str>) -> Option<&'a str> {
        let text = read(cursor)?;
        if !self.seen.insert(text) {
            cursor.error(format!("{} `{text}` stands twice in this list", self.what));
        }
        Some(text)
    }
}
