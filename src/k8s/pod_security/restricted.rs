//! The checks that the level `restricted` adds.

use super::baseline::{adds_other, is_confined, is_zero, seccomp_fields};
use super::subject::{Breach, Subject, first_breach, set};
use crate::json::Json;

pub(super) fn privilege_escalation(subject: &Subject<'_>) -> Option<Breach> {
    if subject.is_windows(25) {
        return None;
    }
    first_breach(subject.container_contexts(), "allowPrivilegeEscalation", "must be false", |context| {
        context.get("allowPrivilegeEscalation") != Some(Json::Bool(false))
    })
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Breach> {
    if subject.is_windows(25) {
        return None;
    }
    let drops_all = |context: Json<'_>| {
        let dropped = context.get_path(&["capabilities", "drop"]).map_or(&[][..], |dropped| dropped.items());
        dropped.contains(&Json::Str("ALL"))
    };
    let contexts = || subject.container_contexts();
    let kept = first_breach(contexts(), "capabilities.drop", "must hold ALL", |context| !drops_all(context));
    kept.or_else(|| {
        let must = "may hold nothing but NET_BIND_SERVICE";
        first_breach(contexts(), "capabilities.add", must, |context| adds_other(context, &["NET_BIND_SERVICE"]))
    })
}

pub(super) fn volumes(subject: &Subject<'_>) -> Option<Breach> {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let is_set = |volume: Json<'_>, key: &str| key != "name" && set(volume, key).is_some();
    let is_forbidden = |volume: Json<'_>| {
        // A volume without a source becomes an emptyDir before it is checked.
        let mut keys = volume.members().iter().map(|(key, _)| *key).filter(|key| is_set(volume, key)).peekable();
        keys.peek().is_some() && !keys.any(|key| ALLOWED.contains(&key))
    };
    let volume = subject.spec.list("volumes").iter().find(|volume| is_forbidden(**volume))?;
    let must = "must be a configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected or secret volume";
    Some(Breach::new(format!("spec.volumes[{}]", volume.text("name")), must))
}

pub(super) fn non_root(subject: &Subject<'_>) -> Option<Breach> {
    const FIELD: &str = "runAsNonRoot";
    if subject.has_own_users() {
        return None;
    }
    let explicit = |context: Json<'_>| context.get(FIELD) == Some(Json::Bool(false));
    let breach = first_breach(subject.contexts(), FIELD, "must be true", explicit);
    let pod_is = subject.context().get(FIELD) == Some(Json::Bool(true));
    breach.or_else(|| {
        if pod_is { None } else { first_unset(subject, FIELD, "must be true", "spec.securityContext.runAsNonRoot") }
    })
}

/// Finds the first container that does not set a field that the pod's own context does not set either.
fn first_unset(subject: &Subject<'_>, field: &str, must: &'static str, related_path: &'static str) -> Option<Breach> {
    let breach = first_breach(subject.container_contexts(), field, must, |context| set(context, field).is_none())?;
    Some(Breach { related_path: Some(related_path), ..breach })
}

pub(super) fn user(subject: &Subject<'_>) -> Option<Breach> {
    if subject.has_own_users() {
        return None;
    }
    first_breach(subject.contexts(), "runAsUser", "may not be 0", |context| {
        context.get("runAsUser").is_some_and(is_zero)
    })
}

pub(super) fn seccomp(subject: &Subject<'_>) -> Option<Breach> {
    const FIELD: &str = "seccompProfile";
    if subject.is_windows(25) {
        return None;
    }
    let pod_is = set(subject.context(), FIELD).is_some_and(is_confined);
    let must = "must be of the type RuntimeDefault or Localhost";
    seccomp_fields(subject).or_else(|| {
        if pod_is { None } else { first_unset(subject, FIELD, must, "spec.securityContext.seccompProfile") }
    })
}
