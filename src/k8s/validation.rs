//! Validates podgraft's result beyond the schema.
//!
//! The API server would deny an invalid pod too, but after the webhook, without naming it or the layer.

mod fields;

pub(crate) use self::fields::HANDLED;

use std::cmp::Ordering;
use std::fmt::Arguments;

use crate::json::{Json, Member};
use crate::k8s::patch::member_path;
use crate::k8s::quantity;

/// Success, or the path and the message of an error.
type ValidationResult = Result<(), (String, String)>;

/// Validates a result. Only errors that are not in `original` count.
///
/// # Errors
/// The path and the message of the first error.
pub fn validate_result<'a>(original: Json<'a>, pod: Json<'a>) -> Result<(), (String, String)> {
    let (original_spec, spec) = (original.get("spec").unwrap_or(Json::Null), pod.get("spec").unwrap_or(Json::Null));
    let volumes = spec.list("volumes");
    let volumes_changed = !is_unchanged(original_spec.get("volumes"), spec.get("volumes"));
    for volume in added(volumes, original_spec.list("volumes")) {
        check_volume(volume)?;
    }
    for kind in ["containers", "initContainers"] {
        for container in spec.list(kind) {
            let own = original_spec.list(kind).iter().find(|own| own.get("name") == container.get("name"));
            let unchanged = own.is_some_and(|own| own.ptr_eq(container));
            if unchanged && !volumes_changed {
                continue;
            }
            let path = format_args!("spec.{kind}[{}]", container.text("name"));
            check_mounts(container, own, volumes, original_spec.list("volumes"), path)?;
            if own.is_none() && container.text("image").is_empty() {
                return Err((path.to_string(), "is added without an image".to_owned()));
            }
            if !unchanged {
                check_env(container, own, path)?;
                check_requests(container, own, path)?;
                fields::check_container(container, own, path)?;
            }
        }
    }
    check_names(original_spec, spec)?;
    if !spec.ptr_eq(&original_spec) {
        fields::check_spec(original_spec, spec)?;
    }
    check_labels(original, pod)?;
    check_annotations(original, pod)
}

/// Checks names. Init containers and containers share one set of names; and one of the pod's own that ends before the
/// task starts may not become a sidecar because a layer's sidecar has its name.
fn check_names(original: Json<'_>, result: Json<'_>) -> ValidationResult {
    if is_unchanged(original.get("initContainers"), result.get("initContainers"))
        && is_unchanged(original.get("containers"), result.get("containers"))
    {
        return Ok(());
    }
    let has = |spec: Json<'_>, kind: &str, name: &str| spec.list(kind).iter().any(|other| other.text("name") == name);
    for init in result.list("initContainers") {
        let name = init.text("name");
        let own = original.list("initContainers").iter().find(|own| own.text("name") == name);
        if own.is_some_and(|own| own.get("restartPolicy").is_none()) && init.get("restartPolicy").is_some() {
            let path = format!("spec.initContainers[{name}].restartPolicy");
            return Err((path, "would turn the pod's own init container of this name into a sidecar".to_owned()));
        }
        if has(result, "containers", name) && !(own.is_some() && has(original, "containers", name)) {
            let kind = if own.is_some() { "containers" } else { "initContainers" };
            return Err((format!("spec.{kind}[{name}]"), "has the name of another container of the pod".to_owned()));
        }
    }
    Ok(())
}

fn check_volume(volume: &Json<'_>) -> ValidationResult {
    let name = volume.text("name");
    let path = || format!("spec.volumes[{name}]");
    if !is_dns_label(name) {
        return Err((path(), "has a name that is not a DNS label (lower-case letters, digits and -)".to_owned()));
    }
    let claim = volume.get_path(&["persistentVolumeClaim", "claimName"]).and_then(|name| name.as_str());
    if claim.is_some_and(|name| !is_object_name(name)) {
        return Err((
            path(),
            "has a claimName that is not an object name (lower-case letters, digits, - and .)".to_owned(),
        ));
    }
    let mut sources = volume.members().iter().map(|(key, _)| *key).filter(|key| *key != "name");
    match (sources.next(), sources.next()) {
        (Some(first), Some(second)) => Err((path(), format!("has two sources, {first} and {second}"))),
        _ => Ok(()),
    }
}

/// Checks that each mount's volume exists and that its subPath stays within it.
fn check_mounts(
    container: &Json<'_>,
    own: Option<&Json<'_>>,
    volumes: &[Json<'_>],
    had: &[Json<'_>],
    path: Arguments<'_>,
) -> ValidationResult {
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
            return Err((at, "has a subPath outside the volume".to_owned()));
        }
    }
    Ok(())
}

/// Checks that no request is above its limit, and that requests of resources that cannot be overcommitted equal it.
fn check_requests<'a>(container: &Json<'a>, own: Option<&Json<'a>>, path: Arguments<'_>) -> ValidationResult {
    let resources = |container: &Json<'a>, kind: &str, name: &str| container.get_path(&["resources", kind, name]);
    for (name, request) in container.get_path(&["resources", "requests"]).iter().flat_map(Json::members) {
        let limit = resources(container, "limits", name);
        let original = own.map(|own| (resources(own, "requests", name), resources(own, "limits", name)));
        if original == Some((Some(*request), limit)) {
            continue;
        }
        let fixed = is_extended(name);
        let order = limit.and_then(|limit| quantity::compare(*request, limit));
        let requirement = match (order, limit) {
            (Some(Ordering::Greater), _) if !fixed => "more than the limit of",
            (Some(Ordering::Greater | Ordering::Less), _) if fixed => "and must be equal to the limit of",
            (None, None) if fixed => "and needs a limit that is equal",
            _ => continue,
        };
        let shown = |value: Json<'_>| quantity::text(value).unwrap_or_default();
        let limit = limit.map_or_else(String::new, |limit| format!(" {}", shown(limit)));
        return Err((
            format!("{path}.resources.requests.{name}"),
            format!("is {}, {requirement}{limit}", shown(*request)),
        ));
    }
    Ok(())
}

/// Returns true for devices and huge pages, which cannot be overcommitted.
pub fn is_extended(resource: &str) -> bool {
    let own = resource.split_once('/').is_some_and(|(domain, _)| !domain.ends_with("kubernetes.io"));
    own || resource.starts_with("hugepages-")
}

/// Validates the shape of a submitted pod. The API server does so only after the webhooks, and podgraft's own errors
/// about such a pod would not name the cause.
///
/// # Errors
/// The path and the message of the first error.
pub fn validate_shape(pod: Json<'_>) -> Result<(), (String, &'static str)> {
    let map = |value: Option<Json<'_>>| value.is_none_or(|value| matches!(value, Json::Object(_) | Json::Null));
    let list = |value: Option<Json<'_>>| value.is_none_or(|value| matches!(value, Json::Array(_) | Json::Null));
    let metadata = pod.get("metadata").unwrap_or(Json::Null);
    for key in ["labels", "annotations"] {
        if !map(metadata.get(key)) {
            return Err((format!("metadata.{key}"), "is not a map"));
        }
    }
    let spec = pod.get("spec").unwrap_or(Json::Null);
    for key in ["containers", "initContainers", "volumes"] {
        if !list(spec.get(key)) {
            return Err((format!("spec.{key}"), "is not a list"));
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
                return Err((format!("spec.containers[{name}].{key}"), "is not a list"));
            }
        }
    }
    Ok(())
}

fn check_env(container: &Json<'_>, own: Option<&Json<'_>>, path: Arguments<'_>) -> ValidationResult {
    let had = own.map_or(&[][..], |own| own.list("env"));
    for entry in added(container.list("env"), had) {
        let name = entry.text("name");
        let at = || format!("{path}.env[{name}]");
        if name.is_empty() || name.contains(|c: char| c == '=' || c.is_control() || c == ' ') {
            return Err((at(), "has a name that is invalid for an environment variable".to_owned()));
        }
        if entry.get("value").is_some_and(|value| !value.is_empty()) && entry.get("valueFrom").is_some() {
            return Err((at(), "has both value and valueFrom".to_owned()));
        }
    }
    Ok(())
}

fn check_labels(original: Json<'_>, pod: Json<'_>) -> ValidationResult {
    if is_unchanged(original.get_path(&["metadata", "labels"]), pod.get_path(&["metadata", "labels"])) {
        return Ok(());
    }
    let had = labels(original);
    for (key, value) in labels(pod).iter().filter(|member| !had.contains(member)) {
        if !value.as_str().is_some_and(is_label_text) {
            let message =
                "has a value that is invalid for a label (at most 63 letters, digits, -, _ and ., ends alphanumeric)";
            return Err((member_path("metadata.labels", key), message.to_owned()));
        }
    }
    Ok(())
}

/// Maximum length of all annotations of a pod together, keys included, in bytes.
pub const MAX_ANNOTATION_BYTES: usize = 256 << 10;

fn check_annotations<'a>(original: Json<'a>, pod: Json<'a>) -> ValidationResult {
    let annotations = |pod: Json<'a>| pod.get_path(&["metadata", "annotations"]);
    let (original, result) = (annotations(original), annotations(pod));
    let had = original.as_ref().map_or(&[][..], Json::members);
    let has = result.as_ref().map_or(&[][..], Json::members);
    let sum = |size: fn(Json<'_>) -> usize| has.iter().map(|(key, value)| key.len() + size(*value)).sum();
    // The copy of the manifest that kubectl adds is parsed only if the sum could be too large.
    let at_most: usize = sum(raw_length);
    if is_unchanged(original, result) || at_most <= MAX_ANNOTATION_BYTES {
        return Ok(());
    }
    let bytes: usize = sum(parsed_length);
    let added = has.iter().filter(|member| !had.contains(member));
    let largest = added.max_by_key(|(_, value)| raw_length(*value));
    match largest.filter(|_| bytes > MAX_ANNOTATION_BYTES) {
        Some((key, _)) => {
            let message =
                format!("increases the pod's annotations to {bytes} bytes, above the limit of {MAX_ANNOTATION_BYTES}");
            Err((member_path("metadata.annotations", key), message))
        }
        None => Ok(()),
    }
}

/// Returns the length of a text in bytes, or of its raw form, which is never shorter.
fn raw_length(value: Json<'_>) -> usize {
    match value {
        Json::Str(text) | Json::Raw(text) => text.len(),
        _ => 0,
    }
}

fn parsed_length(value: Json<'_>) -> usize {
    match value {
        Json::Raw(text) => serde_json::from_str::<String>(text).map_or(text.len(), |text| text.len()),
        other => raw_length(other),
    }
}

fn labels(pod: Json<'_>) -> &[Member<'_>] {
    pod.get_path(&["metadata", "labels"]).map_or(&[], |labels| labels.members())
}

fn is_unchanged(a: Option<Json<'_>>, b: Option<Json<'_>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.ptr_eq(&b),
        _ => false,
    }
}

/// Returns the elements that are not identical to old ones. Elements of layers precede the pod's own, which end both
/// lists and need no comparison.
fn added<'a>(result: &'a [Json<'a>], original: &'a [Json<'a>]) -> impl Iterator<Item = &'a Json<'a>> {
    let shared = result.iter().rev().zip(original.iter().rev()).take_while(|(a, b)| a.ptr_eq(b)).count();
    let (result, original) = (&result[..result.len() - shared], &original[..original.len() - shared]);
    result.iter().filter(|item| !original.iter().any(|own| own.ptr_eq(item)))
}

/// Returns true for a name of a volume or container: 1 to 63 lower-case letters, digits and `-`, no `-` at the ends.
pub fn is_dns_label(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Returns true for a name of an API object: DNS labels with dots, at most 253 characters.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Returns true for a label value: at most 63 letters, digits, `-`, `_` and `.`, alphanumeric at the ends; it may be
/// empty.
pub fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}
