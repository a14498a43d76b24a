//! Who wrote what, as far as `metadata.managedFields` knows.
//!
//! The API server computes it after its own defaults and before the admission plugins run: a path that it
//! does not hold came from a plugin (`LimitRanger`, `ServiceAccount`…) or from an earlier webhook. It is a
//! third of the pod's bytes, so it is opened only when a `Keep` layer meets a value.

use std::cell::OnceCell;

use bumpalo::Bump;

use crate::json::Json;
use crate::patch::Step;

/// The managedFields of one pod, opened on first use.
pub struct Owners<'a> {
    raw: Option<Json<'a>>,
    sets: OnceCell<Vec<Json<'a>>>,
    arena: &'a Bump,
}

impl<'a> Owners<'a> {
    /// The owners of `pod`'s fields.
    pub fn of(pod: Json<'a>, arena: &'a Bump) -> Self {
        Self { raw: pod.at(&["metadata", "managedFields"]), sets: OnceCell::new(), arena }
    }

    /// Whether somebody who submitted the pod wrote what stands at `path`. Without managedFields (a manifest
    /// that was never in a cluster) everything was written.
    pub fn wrote(&self, path: &[Step<'_>]) -> bool {
        let sets = self.sets.get_or_init(|| self.open());
        sets.is_empty() || sets.iter().any(|set| holds(*set, path))
    }

    /// The first manager that wrote what stands at `path`, as managedFields call it.
    pub fn manager(&self, path: &[Step<'_>]) -> Option<&'a str> {
        let entries = self.raw?.open(self.arena);
        let wrote = |entry: &&Json<'a>| entry.get("fieldsV1").is_some_and(|set| holds(set, path));
        entries.items().iter().find(wrote)?.get("manager")?.as_str()
    }

    fn open(&self) -> Vec<Json<'a>> {
        let entries = self.raw.map_or(Json::Null, |raw| raw.open(self.arena));
        entries.items().iter().filter_map(|entry| entry.get("fieldsV1")).collect()
    }
}

/// Whether a set of fields holds `path`. A set that ends above the path holds all below (an atomic value).
fn holds(set: Json<'_>, path: &[Step<'_>]) -> bool {
    let mut at = set;
    for (depth, step) in path.iter().enumerate() {
        let below = match step {
            Step::Member(name) => field(at, name),
            Step::Element(_, Some(key)) => element(at, key),
            Step::Element(_, None) => None,
        };
        match below {
            Some(below) => at = below,
            // `{}` is a leaf: whoever owns it owns what is in it.
            None => return depth > 0 && at.members().is_empty(),
        }
    }
    true
}

fn field<'a>(at: Json<'a>, name: &str) -> Option<Json<'a>> {
    at.members().iter().find(|(key, _)| key.strip_prefix("f:") == Some(name)).map(|(_, value)| *value)
}

/// The entry `k:{"name":"main"}` whose values, joined as [`crate::patch::key_text`] joins them, are `key`.
fn element<'a>(at: Json<'a>, key: &str) -> Option<Json<'a>> {
    // Reading the key of every element would take longer than all else here: only what holds the text is read, and
    // what may be several values joined.
    let may_be = |text: &str| text.contains(key) || key.contains(['/', '"', '\\']);
    let is_it = |name: &str| name.strip_prefix("k:").is_some_and(|text| may_be(text) && values(text) == key);
    at.members().iter().find(|(name, _)| is_it(name)).map(|(_, value)| *value)
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
    use serde_json::json;

    #[test]
    fn what_a_plugin_added_was_not_written() {
        let pod = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {
            ".": {}, "f:resources": {"f:limits": {"f:cpu": {}}}, "f:args": {},
            "f:ports": {"k:{\"containerPort\":53,\"protocol\":\"UDP\"}": {"f:name": {}}}}}}}}]}});
        let arena = Bump::new();
        let owners = Owners::of(Json::lift(&pod, &arena), &arena);
        let container = [Step::Member("spec"), Step::Member("containers"), Step::Element(0, Some("main"))];
        let wrote = |rest: &[Step<'_>]| owners.wrote(&[&container, rest].concat());
        assert!(wrote(&[Step::Member("resources"), Step::Member("limits"), Step::Member("cpu")]));
        assert!(!wrote(&[Step::Member("resources"), Step::Member("limits"), Step::Member("memory")]));
        assert!(wrote(&[Step::Member("args"), Step::Element(0, None)]), "an atomic list is owned as a whole");
        assert!(wrote(&[Step::Member("ports"), Step::Element(0, Some("53/UDP")), Step::Member("name")]));
        assert!(!wrote(&[Step::Member("ports"), Step::Element(0, Some("53/TCP"))]));
        assert!(!owners.wrote(&[
            Step::Member("spec"),
            Step::Member("volumes"),
            Step::Element(0, Some("kube-api-access-x"))
        ]));
    }

    #[test]
    fn without_managed_fields_everything_was_written() {
        let arena = Bump::new();
        assert!(Owners::of(Json::Object(&[]), &arena).wrote(&[Step::Member("spec")]));
    }
}
