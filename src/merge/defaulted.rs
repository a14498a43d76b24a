//! Which of the pod's values are somebody's choice, and which two say the same.

use super::{Merger, Slot};
use crate::json::Json;
use crate::k8s::defaults::default_policy;
use crate::k8s::patch::PathElement;
use crate::k8s::quantity::nanos;
use crate::k8s::schema::{Object, Type};

impl<'a> Merger<'a, '_> {
    /// Whether the submitted value `was` at the current path is somebody's choice: neither empty nor a zero quantity,
    /// nor what the API server fills in, and written by who submitted the pod rather than by an admission plugin.
    /// Inside a map, `""` is a value like others (`node-role.kubernetes.io/gpu: ""`).
    ///
    /// A request that equals its limit counts as written although the API server may have copied it: a layer's
    /// `requests` beside the pod's own `limits` would be an invalid pod where it is a device's.
    pub(super) fn is_explicit(&self, was: Json<'a>, slot: Slot) -> bool {
        let empty = was.is_empty() && (slot.field.is_some() || was.as_str().is_none());
        let zero = matches!(slot.kind, Type::Quantity) && is_zero(was);
        let default = || slot.field.and_then(|field| field.default).is_some_and(|default| default.is(was));
        !empty
            && !zero
            && !default()
            && !self.is_derived_default(was)
            && self.managed_fields.set_by_submitter(&self.path)
    }

    /// Whether `was` is the `imagePullPolicy` that the API server works out from the submitted image.
    fn is_derived_default(&self, was: Json<'a>) -> bool {
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
            .is_some_and(|container| is_derived_policy(*container, "imagePullPolicy", was))
    }
}

/// Whether a value in the pod and one in a fragment are the same once the API server has filled in what is not written
/// (`defaultMode: 420`, `apiVersion: v1`) and brought quantities to one form.
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

/// Whether `value` is what `key` of `parent` would be if it were not written. An object that is empty says something:
/// `emptyDir: {}`, or a selector of everything.
fn is_default(parent: Json<'_>, object: &'static Object, key: &str, value: Json<'_>) -> bool {
    let Some(field) = object.field(key) else { return false };
    let empty = value.is_empty() && !matches!(field.kind, Type::Object(_));
    empty || field.default.is_some_and(|default| default.is(value)) || is_derived_policy(parent, key, value)
}

/// Whether `value` is the pull policy that follows from the image beside it.
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
