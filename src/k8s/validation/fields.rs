//! Fields of which one rules out another, and what a module may give that no node has.
//!
//! Two layers, or a layer and the pod, may each say one of two: merging by field, as Kubernetes does, keeps both.

use std::fmt::Arguments;

use super::{Outcome, is_label_text, same};
use crate::json::Json;
use crate::k8s::patch::member_path;

const HANDLERS: [&str; 5] = ["exec", "grpc", "httpGet", "sleep", "tcpSocket"];
/// Where a container has handlers: probes, and what goes with its start and end.
pub(crate) const HANDLED: [&[&str]; 5] = [
    &["livenessProbe"],
    &["readinessProbe"],
    &["startupProbe"],
    &["lifecycle", "postStart"],
    &["lifecycle", "preStop"],
];
const PROFILES: [&str; 2] = ["seccompProfile", "appArmorProfile"];
const REPLACE: &str = "`$patch: replace` beside the new one takes the old one away";

/// A container's handlers, mounts and profiles.
pub(super) fn check_container<'a>(container: &Json<'a>, own: Option<&Json<'a>>, path: Arguments<'_>) -> Outcome {
    for place in HANDLED {
        let handled =
            container.get_path(place).filter(|now| !same(Some(*now), own.and_then(|own| own.get_path(place))));
        let has = |name: &&&str| handled.is_some_and(|handled| handled.get(name).is_some());
        if let [first, second, ..] = HANDLERS.iter().filter(has).collect::<Vec<_>>()[..] {
            let message = format!("has two handlers, {first} and {second}: {REPLACE}");
            return Err((format!("{path}.{}", place.join(".")), message));
        }
    }
    let had = own.map_or(&[][..], |own| own.list("volumeMounts"));
    let twice = |mount: &&Json<'_>| !mount.text("subPath").is_empty() && !mount.text("subPathExpr").is_empty();
    if let Some(mount) = container.list("volumeMounts").iter().filter(twice).find(|mount| !had.contains(mount)) {
        let at = format!("{path}.volumeMounts[{}]", mount.text("mountPath"));
        return Err((at, "has both subPath and subPathExpr".to_owned()));
    }
    check_profiles(*container, own.copied().unwrap_or(Json::Null), path)
}

/// The pod's own fields.
pub(super) fn check_spec<'a>(was: Json<'a>, now: Json<'a>) -> Outcome {
    let selected = |spec: Json<'a>| spec.get("nodeSelector").map_or(&[][..], |selector| selector.members());
    let odd = |value: &Json<'_>| !value.as_str().is_some_and(is_label_text);
    let mut added = selected(now).iter().filter(|member| !selected(was).contains(member));
    if let Some((key, _)) = added.find(|(_, value)| odd(value)) {
        return Err((member_path("spec.nodeSelector", key), "has a value that no label can have".to_owned()));
    }
    check_profiles(now, was, format_args!("spec"))
}

fn check_profiles<'a>(now: Json<'a>, was: Json<'a>, path: Arguments<'_>) -> Outcome {
    for profile in PROFILES {
        let at = ["securityContext", profile];
        let Some(found) = now.get_path(&at).filter(|found| !same(Some(*found), was.get_path(&at))) else { continue };
        if !found.text("localhostProfile").is_empty() && found.text("type") != "Localhost" {
            let message = format!("has a localhostProfile, which only the type Localhost takes: {REPLACE}");
            return Err((format!("{path}.{}", at.join(".")), message));
        }
    }
    Ok(())
}
