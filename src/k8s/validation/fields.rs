//! Checks fields that exclude each other, and values that no node accepts.
//!
//! Two layers, or a layer and the pod, may each set one of two: merging by field, as Kubernetes does, keeps both.

use std::fmt::Arguments;

use super::{ValidationResult, is_label_text, is_unchanged};
use crate::json::Json;
use crate::k8s::patch::member_path;

const HANDLERS: [&str; 5] = ["exec", "grpc", "httpGet", "sleep", "tcpSocket"];
/// The paths of a container's handlers: probes and lifecycle hooks.
pub(crate) const HANDLED: [&[&str]; 5] = [
    &["livenessProbe"],
    &["readinessProbe"],
    &["startupProbe"],
    &["lifecycle", "postStart"],
    &["lifecycle", "preStop"],
];
const PROFILES: [&str; 2] = ["seccompProfile", "appArmorProfile"];
const REPLACE: &str = "`$patch: replace` beside the new one removes the old one";

/// Checks a container's handlers, mounts and profiles.
pub(super) fn check_container<'a>(
    container: &Json<'a>,
    own: Option<&Json<'a>>,
    path: Arguments<'_>,
) -> ValidationResult {
    for place in HANDLED {
        let handled = container
            .get_path(place)
            .filter(|result| !is_unchanged(Some(*result), own.and_then(|own| own.get_path(place))));
        let has = |name: &&&str| handled.is_some_and(|handled| handled.get(name).is_some());
        if let [first, second, ..] = HANDLERS.iter().filter(has).collect::<Vec<_>>()[..] {
            let message = format!("has two handlers, {first} and {second}: {REPLACE}");
            return Err((format!("{path}.{}", place.join(".")), message));
        }
    }
    let had = own.map_or(&[][..], |own| own.list("volumeMounts"));
    let has_both = |mount: &&Json<'_>| !mount.text("subPath").is_empty() && !mount.text("subPathExpr").is_empty();
    if let Some(mount) = container.list("volumeMounts").iter().filter(has_both).find(|mount| !had.contains(mount)) {
        let at = format!("{path}.volumeMounts[{}]", mount.text("mountPath"));
        return Err((at, "has both subPath and subPathExpr".to_owned()));
    }
    check_profiles(*container, own.copied().unwrap_or(Json::Null), path)
}

/// Checks the pod's own fields.
pub(super) fn check_spec<'a>(original: Json<'a>, result: Json<'a>) -> ValidationResult {
    let selected = |spec: Json<'a>| spec.get("nodeSelector").map_or(&[][..], |selector| selector.members());
    let is_invalid = |value: &Json<'_>| !value.as_str().is_some_and(is_label_text);
    let mut added = selected(result).iter().filter(|member| !selected(original).contains(member));
    if let Some((key, _)) = added.find(|(_, value)| is_invalid(value)) {
        return Err((member_path("spec.nodeSelector", key), "has a value that is invalid for a label".to_owned()));
    }
    check_profiles(result, original, format_args!("spec"))
}

fn check_profiles<'a>(result: Json<'a>, original: Json<'a>, path: Arguments<'_>) -> ValidationResult {
    for profile in PROFILES {
        let at = ["securityContext", profile];
        let Some(found) = result.get_path(&at).filter(|found| !is_unchanged(Some(*found), original.get_path(&at)))
        else {
            continue;
        };
        if !found.text("localhostProfile").is_empty() && found.text("type") != "Localhost" {
            let message = format!("has a localhostProfile, which only the type Localhost allows: {REPLACE}");
            return Err((format!("{path}.{}", at.join(".")), message));
        }
    }
    Ok(())
}
