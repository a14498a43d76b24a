//! Whether what was made of a pod is a pod that can run: what the schema does not say.
//!
//! The API server would refuse it too, but after the webhook, without naming it or the layer.

mod fields;

pub(crate) use self::fields::HANDLED;

use std::cmp::Ordering;
use std::fmt::Arguments;

use crate::json::{Json, Member};
use crate::k8s::patch::member_path;
use crate::k8s::quantity;

/// The readable path of what is wrong, and what.
type Outcome = Result<(), (String, String)>;

/// The first thing that is wrong: the readable path, and what. Only what was not so in `original` counts.
pub fn validate_result<'a>(original: Json<'a>, pod: Json<'a>) -> Result<(), (String, String)> {
    let (was, now) = (original.get("spec").unwrap_or(Json::Null), pod.get("spec").unwrap_or(Json::Null));
    let volumes = now.list("volumes");
    let moved = !same(was.get("volumes"), now.get("volumes"));
    for volume in added(volumes, was.list("volumes")) {
        check_volume(volume)?;
    }
    for kind in ["containers", "initContainers"] {
        for container in now.list(kind) {
            let own = was.list(kind).iter().find(|own| own.get("name") == container.get("name"));
            let untouched = own.is_some_and(|own| own.ptr_eq(container));
            if untouched && !moved {
                continue;
            }
            let path = format_args!("spec.{kind}[{}]", container.text("name"));
            check_mounts(container, own, volumes, was.list("volumes"), path)?;
            if own.is_none() && container.text("image").is_empty() {
                return Err((path.to_string(), "is added without an image".to_owned()));
            }
            if !untouched {
                check_env(container, own, path)?;
                check_requests(container, own, path)?;
                fields::check_container(container, own, path)?;
            }
        }
    }
    check_names(was, now)?;
    if !now.ptr_eq(&was) {
        fields::check_spec(was, now)?;
    }
    check_labels(original, pod)?;
    check_annotations(original, pod)
}

/// Init containers and containers share one set of names, and one of the pod's own that ends before the task starts may
/// not become one that runs beside it, because a layer's sidecar has the same name.
fn check_names(was: Json<'_>, now: Json<'_>) -> Outcome {
    if same(was.get("initContainers"), now.get("initContainers")) && same(was.get("containers"), now.get("containers"))
    {
        return Ok(());
    }
    let has = |spec: Json<'_>, kind: &str, name: &str| spec.list(kind).iter().any(|other| other.text("name") == name);
    for init in now.list("initContainers") {
        let name = init.text("name");
        let own = was.list("initContainers").iter().find(|own| own.text("name") == name);
        if own.is_some_and(|own| own.get("restartPolicy").is_none()) && init.get("restartPolicy").is_some() {
            let path = format!("spec.initContainers[{name}].restartPolicy");
            return Err((path, "would make a sidecar of the pod's own init container of that name".to_owned()));
        }
        if has(now, "containers", name) && !(own.is_some() && has(was, "containers", name)) {
            let kind = if own.is_some() { "containers" } else { "initContainers" };
            return Err((format!("spec.{kind}[{name}]"), "has the name of another container of the pod".to_owned()));
        }
    }
    Ok(())
}

fn check_volume(volume: &Json<'_>) -> Outcome {
    let name = volume.text("name");
    let path = || format!("spec.volumes[{name}]");
    if !is_dns_label(name) {
        return Err((path(), "has a name that is no DNS label (lower-case letters, digits and -)".to_owned()));
    }
    let claim = volume.get_path(&["persistentVolumeClaim", "claimName"]).and_then(|name| name.as_str());
    if claim.is_some_and(|name| !is_object_name(name)) {
        return Err((
            path(),
            "has a claimName that is no name of an object (lower-case letters, digits, - and .)".to_owned(),
        ));
    }
    let mut sources = volume.members().iter().map(|(key, _)| *key).filter(|key| *key != "name");
    match (sources.next(), sources.next()) {
        (Some(first), Some(second)) => Err((path(), format!("has two sources, {first} and {second}"))),
        _ => Ok(()),
    }
}

/// A mount needs its volume, and a path takes one mount.
fn check_mounts(
    container: &Json<'_>,
    own: Option<&Json<'_>>,
    volumes: &[Json<'_>],
    had: &[Json<'_>],
    path: Arguments<'_>,
) -> Outcome {
    for mount in container.list("volumeMounts") {
        let name = mount.get("name");
        let is_there = |volumes: &[Json<'_>]| volumes.iter().any(|volume| volume.get("name") == name);
        let was_missing = || own.is_some_and(|own| own.list("volumeMounts").contains(mount)) && !is_there(had);
        if !is_there(volumes) && !was_missing() {
            let at = format!("{path}.volumeMounts[{}]", mount.text("mountPath"));
            return Err((at, format!("mounts the volume {:?}, which the pod does not have", mount.text("name"))));
        }
        let below = mount.text("subPath");
        let is_own = || own.is_some_and(|own| own.list("volumeMounts").contains(mount));
        if (below.starts_with('/') || below.split('/').any(|part| part == "..")) && !is_own() {
            let at = format!("{path}.volumeMounts[{}]", mount.text("mountPath"));
            return Err((at, "has a subPath that leaves the volume".to_owned()));
        }
    }
    Ok(())
}

/// A request above its limit; of resources that cannot be overcommitted, any that is not its limit.
fn check_requests<'a>(container: &Json<'a>, own: Option<&Json<'a>>, path: Arguments<'_>) -> Outcome {
    let resources = |container: &Json<'a>, kind: &str, name: &str| container.get_path(&["resources", kind, name]);
    for (name, request) in container.get_path(&["resources", "requests"]).iter().flat_map(Json::members) {
        let limit = resources(container, "limits", name);
        let was = own.map(|own| (resources(own, "requests", name), resources(own, "limits", name)));
        if was == Some((Some(*request), limit)) {
            continue;
        }
        let fixed = is_extended(name);
        let order = limit.and_then(|limit| quantity::compare(*request, limit));
        let what = match (order, limit) {
            (Some(Ordering::Greater), _) if !fixed => "more than the limit of",
            (Some(Ordering::Greater | Ordering::Less), _) if fixed => "and must be equal to the limit of",
            (None, None) if fixed => "and needs a limit that is equal",
            _ => continue,
        };
        let shown = |value: Json<'_>| quantity::text(value).unwrap_or_default();
        let limit = limit.map_or_else(String::new, |limit| format!(" {}", shown(limit)));
        return Err((format!("{path}.resources.requests.{name}"), format!("is {}, {what}{limit}", shown(*request))));
    }
    Ok(())
}

/// Devices and huge pages: what nobody can have more of than there is.
pub fn is_extended(resource: &str) -> bool {
    let own = resource.split_once('/').is_some_and(|(domain, _)| !domain.ends_with("kubernetes.io"));
    own || resource.starts_with("hugepages-")
}

/// Whether a pod is made as one at all. The API server looks at that after the webhooks: what podgraft would say of a
/// task without containers is true, but not what is wrong.
pub fn validate_shape(pod: Json<'_>) -> Result<(), (String, &'static str)> {
    let map = |value: Option<Json<'_>>| value.is_none_or(|value| matches!(value, Json::Object(_) | Json::Null));
    let list = |value: Option<Json<'_>>| value.is_none_or(|value| matches!(value, Json::Array(_) | Json::Null));
    let metadata = pod.get("metadata").unwrap_or(Json::Null);
    for key in ["labels", "annotations"] {
        if !map(metadata.get(key)) {
            return Err((format!("metadata.{key}"), "is no map"));
        }
    }
    let spec = pod.get("spec").unwrap_or(Json::Null);
    for key in ["containers", "initContainers", "volumes"] {
        if !list(spec.get(key)) {
            return Err((format!("spec.{key}"), "is no list"));
        }
    }
    let containers = spec.get("containers").map_or(&[][..], |list| list.items());
    if containers.is_empty() {
        return Err(("spec.containers".to_owned(), "has no container"));
    }
    let inits = spec.get("initContainers").map_or(&[][..], |list| list.items());
    for container in containers.iter().chain(inits) {
        let name = container.text("name");
        if name.is_empty() {
            return Err(("spec.containers".to_owned(), "has a container without a name"));
        }
        for key in ["env", "volumeMounts", "ports"] {
            if !list(container.get(key)) {
                return Err((format!("spec.containers[{name}].{key}"), "is no list"));
            }
        }
    }
    Ok(())
}

fn check_env(container: &Json<'_>, own: Option<&Json<'_>>, path: Arguments<'_>) -> Outcome {
    let had = own.map_or(&[][..], |own| own.list("env"));
    for entry in added(container.list("env"), had) {
        let name = entry.text("name");
        let at = || format!("{path}.env[{name}]");
        if name.is_empty() || name.contains(|c: char| c == '=' || c.is_control() || c == ' ') {
            return Err((at(), "has a name that no environment variable can have".to_owned()));
        }
        if entry.get("value").is_some_and(|value| !value.is_empty()) && entry.get("valueFrom").is_some() {
            return Err((at(), "has both value and valueFrom".to_owned()));
        }
    }
    Ok(())
}

fn check_labels(original: Json<'_>, pod: Json<'_>) -> Outcome {
    if same(original.get_path(&["metadata", "labels"]), pod.get_path(&["metadata", "labels"])) {
        return Ok(());
    }
    let had = labels(original);
    for (key, value) in labels(pod).iter().filter(|member| !had.contains(member)) {
        if !value.as_str().is_some_and(is_label_text) {
            let message =
                "has a value that no label can have (at most 63 letters, digits, -, _ and ., ends alphanumeric)";
            return Err((member_path("metadata.labels", key), message.to_owned()));
        }
    }
    Ok(())
}

/// Bytes of all annotations of a pod together, keys included, that the API server takes.
pub const MAX_ANNOTATION_BYTES: usize = 256 << 10;

fn check_annotations<'a>(original: Json<'a>, pod: Json<'a>) -> Outcome {
    let annotations = |pod: Json<'a>| pod.get_path(&["metadata", "annotations"]);
    let (was, now) = (annotations(original), annotations(pod));
    let had = was.as_ref().map_or(&[][..], Json::members);
    let has = now.as_ref().map_or(&[][..], Json::members);
    let sum = |size: fn(Json<'_>) -> usize| has.iter().map(|(key, value)| key.len() + size(*value)).sum();
    // The copy of the manifest that kubectl leaves is opened only where the sum could be too large.
    let at_most: usize = sum(written);
    if same(was, now) || at_most <= MAX_ANNOTATION_BYTES {
        return Ok(());
    }
    let bytes: usize = sum(opened);
    let added = has.iter().filter(|member| !had.contains(member));
    let largest = added.max_by_key(|(_, value)| written(*value));
    match largest.filter(|_| bytes > MAX_ANNOTATION_BYTES) {
        Some((key, _)) => {
            let message =
                format!("brings the pod to {bytes} bytes of annotations, and it may have {MAX_ANNOTATION_BYTES}");
            Err((member_path("metadata.annotations", key), message))
        }
        None => Ok(()),
    }
}

/// Bytes of a text, or of its spelling, which is never shorter.
fn written(value: Json<'_>) -> usize {
    match value {
        Json::Str(text) | Json::Raw(text) => text.len(),
        _ => 0,
    }
}

fn opened(value: Json<'_>) -> usize {
    match value {
        Json::Raw(text) => serde_json::from_str::<String>(text).map_or(text.len(), |text| text.len()),
        other => written(other),
    }
}

fn labels(pod: Json<'_>) -> &[Member<'_>] {
    pod.get_path(&["metadata", "labels"]).map_or(&[], |labels| labels.members())
}

fn same(a: Option<Json<'_>>, b: Option<Json<'_>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.ptr_eq(&b),
        _ => false,
    }
}

/// The elements that are not the very ones that were there. What layers add stands before the pod's own, which then end
/// both lists and need no comparing with each other.
fn added<'a>(now: &'a [Json<'a>], was: &'a [Json<'a>]) -> impl Iterator<Item = &'a Json<'a>> {
    let shared = now.iter().rev().zip(was.iter().rev()).take_while(|(a, b)| a.ptr_eq(b)).count();
    let (now, was) = (&now[..now.len() - shared], &was[..was.len() - shared]);
    now.iter().filter(|item| !was.iter().any(|own| own.ptr_eq(item)))
}

/// What names a volume or a container: 1 to 63 lower-case letters, digits and `-`, none of these at the ends.
pub fn is_dns_label(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| fine(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What names an API object: DNS labels with dots, at most 253.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// The value of a label: at most 63 letters, digits, `-`, `_` and `.`, alphanumeric at the ends; it may be empty.
pub fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}
