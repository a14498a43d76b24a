//! Tells explicit values from defaults, and values that are equal after defaulting.

use super::{Merger, Slot};
use crate::json::Json;
use crate::k8s::defaults::default_policy;
use crate::k8s::patch::PathElement;
use crate::k8s::quantity::nanos;
use crate::k8s::schema::{Object, Type};

impl<'a> Merger<'a, '_> {
    /// Returns true if the submitted value at the current path is explicit: not empty, not a zero quantity, not a
    /// default of the API server, and set by the submitter, not by an admission plugin. Inside a map, `""` is an
    /// explicit value (`node-role.kubernetes.io/gpu: ""`).
    ///
    /// A request that equals its limit counts as explicit although the API server may have copied it: with a device, a
    /// layer's `requests` beside the pod's own `limits` would make an invalid pod.
    pub(super) fn is_explicit(&self, original: Json<'a>, slot: Slot) -> bool {
        let empty = original.is_empty() && (slot.field.is_some() || original.as_str().is_none());
        let zero = matches!(slot.kind, Type::Quantity) && is_zero(original);
        let default = || slot.field.and_then(|field| field.default).is_some_and(|default| default.is(original));
        !empty
            && !zero
            && !default()
            && !self.is_derived_default(original)
            && self.managed_fields.set_by_submitter(&self.path)
    }

    /// Returns true if the value is the `imagePullPolicy` that the API server derives from the submitted image.
    fn is_derived_default(&self, original: Json<'a>) -> bool {
        let [
            ..,
            PathElement::Member(list),
            PathElement::Element(_, Some(name)),
            PathElement::Member("imagePullPolicy"),
        ] = *self.path
        else {
            return false;
        };
        let containers = self.original.get_path(&["spec", list]).unwrap_or(Json::Array(&[]));
        let named = |container: &&Json<'a>| container.get("name").and_then(|name| name.as_str()) == Some(name);
        containers
            .items()
            .iter()
            .find(named)
            .is_some_and(|container| is_derived_policy(*container, "imagePullPolicy", original))
    }
}

/// Returns true if a value in the pod and one in a fragment are equal after the API server has filled in defaults
/// (`defaultMode: 420`, `apiVersion: v1`) and normalized quantities.
pub(super) fn semantically_equal(present: Json<'_>, value: Json<'_>, kind: Type) -> bool {
    if present == value {
        return true;
    }
    match (kind, present, value) {
        (Type::Quantity, Json::Str(a), Json::Str(b)) => nanos(a).is_some() && nanos(a) == nanos(b),
        (Type::Object(object), Json::Object(own), Json::Object(layers)) => {
            let same = |key: &str, value: Json<'_>, other: Json<'_>, parent: Json<'_>| match other.get(key) {
                Some(other) => {
                    semantically_equal(value, other, object.field(key).map_or(Type::Any, |field| field.kind))
                }
                None => is_default(parent, object, key, value),
            };
            own.iter().all(|(key, own)| same(key, *own, value, present))
                && layers.iter().all(|(key, layers)| same(key, *layers, present, value))
        }
        (Type::Map(element), Json::Object(own), Json::Object(layers)) => {
            own.len() == layers.len()
                && own
                    .iter()
                    .all(|(key, own)| value.get(key).is_some_and(|layers| semantically_equal(*own, layers, *element)))
        }
        (Type::List(element), Json::Array(own), Json::Array(layers)) => {
            own.len() == layers.len()
                && own.iter().zip(layers).all(|(own, layers)| semantically_equal(*own, *layers, *element))
        }
        _ => false,
    }
}

/// Returns true if `value` is the default of `key` in `parent`. An empty object is none: `emptyDir: {}` and an empty
/// selector have a meaning.
fn is_default(parent: Json<'_>, object: &'static Object, key: &str, value: Json<'_>) -> bool {
    let Some(field) = object.field(key) else { return false };
    let empty = value.is_empty() && !matches!(field.kind, Type::Object(_));
    empty || field.default.is_some_and(|default| default.is(value)) || is_derived_policy(parent, key, value)
}

/// Returns true if `value` is the pull policy that the API server derives from the image in `parent`.
fn is_derived_policy(parent: Json<'_>, key: &str, value: Json<'_>) -> bool {
    let image = match key {
        "imagePullPolicy" => parent.get("image"),
        "pullPolicy" => parent.get("reference"),
        _ => None,
    };
    let Some(image) = image.and_then(|image| image.as_str()) else { return false };
    value.as_str() == Some(default_policy(image))
}

fn is_zero(value: Json<'_>) -> bool {
    match value {
        Json::Str(text) => nanos(text) == Some(0),
        Json::Float(number) => number == 0.0,
        _ => matches!(value, Json::Uint(0) | Json::Int(0)),
    }
}
