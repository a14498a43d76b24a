//! Reads `metadata.managedFields`: the manager of each field.
//!
//! The API server computes them after its own defaults and before the admission plugins run: a path that they do not
//! contain was set by a plugin (`LimitRanger`, `ServiceAccount`…) or an earlier webhook. They are a third of the pod's
//! bytes, so they are read only when a `Keep` layer and the pod set one field.

use std::cell::{Cell, OnceCell};

use bumpalo::Bump;

use crate::json::{Json, plain_end};
use crate::k8s::patch::PathElement;

/// Number of look-ups that scan the text, which takes a seventh of the time of parsing it.
const MAX_SCANS: u32 = 5;

/// The managed fields of one pod.
pub struct ManagedFields<'a> {
    entries: &'a [Json<'a>],
    /// each manager's `fieldsV1`, nearly always raw
    sets: Vec<Json<'a>>,
    lookups: Cell<u32>,
    parsed: OnceCell<Vec<Json<'a>>>,
    arena: &'a Bump,
}

impl<'a> ManagedFields<'a> {
    /// Reads the managed fields of `pod`.
    pub fn from_pod(pod: Json<'a>, arena: &'a Bump) -> Self {
        let entries = pod.get_path(&["metadata", "managedFields"]).map_or(Json::Null, |entries| entries.open(arena));
        let entries = entries.items();
        let sets = entries.iter().filter_map(|entry| entry.get("fieldsV1")).collect();
        Self { entries, sets, lookups: Cell::new(0), parsed: OnceCell::new(), arena }
    }

    /// Returns true if a submitter of the pod, not a plugin, set the value at `path`. Without managed fields (a
    /// manifest that was never in a cluster) every value counts as set.
    pub fn set_by_submitter(&self, path: &[PathElement<'_>]) -> bool {
        self.lookups.set(self.lookups.get().saturating_add(1));
        if self.sets.is_empty() {
            return true;
        }
        if self.lookups.get() > MAX_SCANS {
            let sets = self.parsed.get_or_init(|| self.sets.iter().map(|set| set.open(self.arena)).collect());
            return sets.iter().any(|set| contains(*set, path));
        }
        self.sets.iter().any(|set| match set {
            Json::Raw(text) => text_contains(text, path),
            open => contains(*open, path),
        })
    }

    /// Returns the name of the first manager that set the value at `path`.
    pub fn manager(&self, path: &[PathElement<'_>]) -> Option<&'a str> {
        let is_set = |entry: &&Json<'a>| entry.get("fieldsV1").is_some_and(|set| contains(set.open(self.arena), path));
        self.entries.iter().find(is_set)?.get("manager")?.as_str()
    }
}

/// Returns true if a raw set of fields contains `path` or a leaf above it (see [`contains`]).
fn text_contains(set: &str, path: &[PathElement<'_>]) -> bool {
    let mut at = set;
    for (depth, step) in path.iter().enumerate() {
        let below = match step {
            PathElement::Member(name) => {
                let is_it = |key: &str| key == *name || (key.contains('\\') && plain(key) == *name);
                text_member(at, |key| key.strip_prefix("f:").is_some_and(is_it))
            }
            PathElement::Element(_, Some(key)) => {
                text_member(at, |name| may_be_element(name, key) && is_element(&plain(name), key))
            }
            PathElement::Element(_, None) => None,
        };
        let Some(below) = below else {
            let is_leaf = at.strip_prefix('{').is_none_or(|members| members.trim_start().starts_with('}'));
            return depth > 0 && is_leaf;
        };
        at = below;
    }
    true
}

/// Returns the text from the value on of the first member whose key, with its escapes, satisfies `is_it`. `object`
/// begins with an object and is well-formed.
fn text_member(object: &str, is_it: impl Fn(&str) -> bool) -> Option<&str> {
    let bytes = object.as_bytes();
    let (mut at, mut depth) = (0, 0);
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return None,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let begin = at + 1;
                at = begin;
                loop {
                    at = plain_end(bytes, at);
                    match bytes.get(at)? {
                        b'"' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                let after = || object[at + 1..].trim_start();
                if depth == 1 && is_it(&object[begin..at]) && after().starts_with(':') {
                    return Some(after()[1..].trim_start());
                }
            }
            _ if depth == 0 => return None, // no object
            _ => {}
        }
        at += 1;
    }
}

/// Decodes the escapes of a key.
fn plain(key: &str) -> String {
    serde_json::from_str(&format!("\"{key}\"")).unwrap_or_default()
}

/// Returns true if a set of fields contains `path`. A set that ends above the path contains everything below (an atomic
/// value).
fn contains(set: Json<'_>, path: &[PathElement<'_>]) -> bool {
    let mut at = set;
    for (depth, step) in path.iter().enumerate() {
        let below = match step {
            PathElement::Member(name) => field(at, name),
            PathElement::Element(_, Some(key)) => element(at, key),
            PathElement::Element(_, None) => None,
        };
        match below {
            Some(below) => at = below,
            // `{}` is a leaf: its manager also set everything in it.
            None => return depth > 0 && at.members().is_empty(),
        }
    }
    true
}

fn field<'a>(at: Json<'a>, name: &str) -> Option<Json<'a>> {
    at.members().iter().find(|(key, _)| key.strip_prefix("f:") == Some(name)).map(|(_, value)| *value)
}

fn element<'a>(at: Json<'a>, key: &str) -> Option<Json<'a>> {
    at.members().iter().find(|(name, _)| may_be_element(name, key) && is_element(name, key)).map(|(_, value)| *value)
}

/// Returns true if `k:{"name":"main"}` may be the element `key`. Parsing each name would dominate the cost, so a name
/// without the key's text is excluded, unless the key may be several joined values.
fn may_be_element(name: &str, key: &str) -> bool {
    name.contains(key) || key.contains(['/', '"', '\\'])
}

/// Returns true if the values of `k:{"name":"main"}`, joined as [`crate::k8s::patch::key_text`] joins them, are `key`.
fn is_element(name: &str, key: &str) -> bool {
    name.strip_prefix("k:").is_some_and(|text| values(text) == key)
}

fn values(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(members)) => {
            let parts: Vec<String> =
                members.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
            parts.join("/")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Shape;
    use serde_json::json;

    #[test]
    fn a_plugins_fields_are_not_set_by_the_submitter() {
        let pod = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {
            ".": {}, "f:resources": {"f:limits": {"f:cpu": {}}}, "f:args": {},
            "f:ports": {"k:{\"containerPort\":53,\"protocol\":\"UDP\"}": {"f:name": {}}}}}}}}]}});
        let arena = Bump::new();
        let managed_fields = ManagedFields::from_pod(Json::borrowed(&pod, &arena), &arena);
        let container =
            [PathElement::Member("spec"), PathElement::Member("containers"), PathElement::Element(0, Some("main"))];
        let is_set = |rest: &[PathElement<'_>]| managed_fields.set_by_submitter(&[&container, rest].concat());
        assert!(is_set(&[PathElement::Member("resources"), PathElement::Member("limits"), PathElement::Member("cpu")]));
        assert!(!is_set(&[
            PathElement::Member("resources"),
            PathElement::Member("limits"),
            PathElement::Member("memory")
        ]));
        assert!(
            is_set(&[PathElement::Member("args"), PathElement::Element(0, None)]),
            "an atomic list is set as a whole"
        );
        assert!(is_set(&[
            PathElement::Member("ports"),
            PathElement::Element(0, Some("53/UDP")),
            PathElement::Member("name")
        ]));
        assert!(!is_set(&[PathElement::Member("ports"), PathElement::Element(0, Some("53/TCP"))]));
        assert!(!managed_fields.set_by_submitter(&[
            PathElement::Member("spec"),
            PathElement::Member("volumes"),
            PathElement::Element(0, Some("kube-api-access-x"))
        ]));
    }

    static SHAPE: Shape = Shape::But(&[(
        "metadata",
        Shape::But(&[("managedFields", Shape::Each(&Shape::But(&[("fieldsV1", Shape::Skip)])))]),
    )]);

    #[test]
    fn text_and_parsed_tree_give_equal_answers() {
        let text = r#"{"metadata":{"managedFields":[{"manager":"f:spec","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:a/b":{ }}}}},
            {"fieldsV1":{"f:spec":{"f:containers":{"k:{\"name\":\"a \\\"q\\\"\"}":{"f:image":{}},"k:{\"name\":\"main\"}":{
                ".":{},"f:args":{},"f:x\"y":{},"f:env":{"k:{\"name\":\"HOME\"}":{"f:value":{}}},"f:n":1,
                "f:ports":{"k:{\"containerPort\":53,\"protocol\":\"UDP\"}":{"f:name":{}}}}}}}}]}}"#;
        let arena = Bump::new();
        let pod = Json::parse(text, &SHAPE, &arena).unwrap();
        let (m, e) = (PathElement::Member, |key| PathElement::Element(0, Some(key)));
        let main = [m("spec"), m("containers"), e("main")];
        let in_main = |rest: &[PathElement<'static>]| [&main, rest].concat();
        let cases = [
            (vec![m("metadata"), m("labels"), m("a/b")], true),
            (vec![m("metadata"), m("labels"), m("a/c")], false),
            (vec![m("spec"), m("containers"), e("a \"q\""), m("image")], true),
            (vec![m("spec"), m("containers"), e("a"), m("image")], false),
            (vec![m("manager")], false),
            (main.to_vec(), true),
            (in_main(&[m("args"), PathElement::Element(0, None)]), true),
            (in_main(&[m("x\"y")]), true),
            (in_main(&[m("env"), e("HOME"), m("value")]), true),
            (in_main(&[m("env"), e("HOME"), m("valueFrom")]), false),
            (in_main(&[m("n"), m("deeper")]), true),
            (in_main(&[m("ports"), e("53/UDP"), m("name")]), true),
            (in_main(&[m("ports"), e("53/TCP"), m("name")]), false),
        ];
        for (path, is_set) in cases {
            let managed_fields = ManagedFields::from_pod(pod, &arena);
            assert_eq!(managed_fields.set_by_submitter(&path), is_set, "{path:?} in the text");
            for _ in 0..MAX_SCANS {
                managed_fields.set_by_submitter(&path);
            }
            assert!(managed_fields.parsed.get().is_some());
            assert_eq!(managed_fields.set_by_submitter(&path), is_set, "{path:?} in the tree");
        }
    }

    #[test]
    fn without_managed_fields_every_value_counts_as_set() {
        let arena = Bump::new();
        assert!(ManagedFields::from_pod(Json::Object(&[]), &arena).set_by_submitter(&[PathElement::Member("spec")]));
    }
}
