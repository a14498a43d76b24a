//! The change that a hook makes to a pod, in the form of podgraft's layers.

use serde_json::{Map, Value, json};

use crate::Outcome;

/// The name of a container entry that podgraft merges into the pod's primary container, which may have another name.
const PRIMARY: &str = "primary";

/// A strategic fragment: lists are merged by their keys (name, mountPath…), maps by key; the pod's other fields
/// stay. `"$patch": "delete"` in an element removes the pod's element, which needs `mayRemove` in the configuration.
///
/// ```
/// # use podgraft_sdk::{Fragment, Outcome, serde_json::json};
/// let outcome: Outcome = Fragment::new()
///     .volume("scratch", "emptyDir", json!({}))
///     .mount("scratch", "/scratch")
///     .env("TMPDIR", "/scratch")
///     .label("scratch", "true")
///     .into();
/// # let Outcome::Fragment(text) = outcome else { panic!() };
/// # assert_eq!(text, r#"{"metadata":{"labels":{"scratch":"true"}},"spec":{"containers":[{"env":[{"name":"TMPDIR","value":"/scratch"}],"name":"primary","volumeMounts":[{"mountPath":"/scratch","name":"scratch"}]}],"volumes":[{"emptyDir":{},"name":"scratch"}]}}"#);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a fragment changes nothing until the hook returns it"]
pub struct Fragment {
    metadata: Map<String, Value>,
    spec: Map<String, Value>,
    primary: Map<String, Value>,
    containers: Vec<Value>,
}

impl Fragment {
    /// Creates an empty fragment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a label of the pod.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        put(&mut self.metadata, "labels", key, value.into());
        self
    }

    /// Sets an annotation of the pod.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        put(&mut self.metadata, "annotations", key, value.into());
        self
    }

    /// Requires a label of the pod's node.
    pub fn node_selector(mut self, key: &str, value: &str) -> Self {
        put(&mut self.spec, "nodeSelector", key, value.into());
        self
    }

    /// Adds a toleration: `json!({"key": "gpu", "operator": "Exists"})`.
    pub fn toleration(mut self, toleration: Value) -> Self {
        push(&mut self.spec, "tolerations", toleration);
        self
    }

    /// Adds a volume: `volume("data", "nfs", json!({"server": "10.0.0.1", "path": "/export"}))`.
    pub fn volume(self, name: &str, kind: &str, source: Value) -> Self {
        let volume = Map::from_iter([("name".into(), name.into()), (kind.into(), source)]);
        self.volume_with(Value::Object(volume))
    }

    /// Adds a volume in the form of a pod's spec: `volume_with(json!({"name": "tmp", "emptyDir": {}}))`.
    pub fn volume_with(mut self, volume: Value) -> Self {
        push(&mut self.spec, "volumes", volume);
        self
    }

    /// Adds a volume for an existing persistent volume claim.
    pub fn claim(self, name: &str, claim: &str) -> Self {
        self.volume(name, "persistentVolumeClaim", json!({"claimName": claim}))
    }

    /// Mounts a volume into the primary container.
    pub fn mount(self, volume: &str, path: &str) -> Self {
        self.mount_with(json!({"name": volume, "mountPath": path}))
    }

    /// Mounts a volume into the primary container, with `subPath`, `readOnly` and so on.
    pub fn mount_with(mut self, mount: Value) -> Self {
        push(&mut self.primary, "volumeMounts", mount);
        self
    }

    /// Sets a variable of the primary container.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.env_with(json!({"name": name, "value": value}))
    }

    /// Sets a variable of the primary container, with `valueFrom`.
    pub fn env_with(mut self, variable: Value) -> Self {
        push(&mut self.primary, "env", variable);
        self
    }

    /// Sets another field of the primary container, such as `resources`; replaces an earlier value in this fragment.
    pub fn primary(mut self, field: &str, value: Value) -> Self {
        self.primary.insert(field.into(), value);
        self
    }

    /// Adds a container, or sets fields of the pod's container with that name.
    pub fn container(mut self, container: Value) -> Self {
        self.containers.push(container);
        self
    }

    /// Adds an init container, or sets fields of the pod's init container with that name.
    pub fn init_container(mut self, container: Value) -> Self {
        push(&mut self.spec, "initContainers", container);
        self
    }

    /// Sets another field of the pod's spec, such as `runtimeClassName`; replaces an earlier value in this fragment.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec.insert(field.into(), value);
        self
    }

    /// Returns the fragment as JSON, or `None` if it is empty.
    fn into_json(mut self) -> Option<String> {
        if !self.primary.is_empty() {
            self.primary.insert("name".into(), PRIMARY.into());
            self.containers.insert(0, Value::Object(self.primary));
        }
        for container in self.containers {
            push(&mut self.spec, "containers", container);
        }
        let mut fragment = Map::new();
        for (key, map) in [("metadata", self.metadata), ("spec", self.spec)] {
            if !map.is_empty() {
                fragment.insert(key.into(), Value::Object(map));
            }
        }
        (!fragment.is_empty()).then(|| Value::Object(fragment).to_string())
    }
}

impl From<Fragment> for Outcome {
    /// Converts a fragment; an empty one becomes [`Outcome::Unchanged`].
    fn from(fragment: Fragment) -> Self {
        fragment.into_json().map_or(Self::Unchanged, Self::Fragment)
    }
}

fn put(map: &mut Map<String, Value>, field: &str, key: &str, value: Value) {
    if let Value::Object(entries) = map.entry(field).or_insert_with(|| Value::Object(Map::new())) {
        entries.insert(key.into(), value);
    }
}

fn push(map: &mut Map<String, Value>, field: &str, item: Value) {
    if let Value::Array(items) = map.entry(field).or_insert_with(|| Value::Array(Vec::new())) {
        items.push(item);
    }
}
