//! Finds warnings of the API server that podgraft's result would cause.
//!
//! The API server sends them beside a reply that allows the pod, kubectl prints them on stderr, and the ClearML agent
//! fails a task on any text there while its pod runs. So the patched pod must not cause a warning that the incoming pod
//! did not. The list is that of Kubernetes 1.36 (`GetWarningsForPod`, and `AppArmor`'s annotations); two of it depend
//! on the creator only (the pod's name, ephemeral containers). Paths have names where the API server's have indexes, so
//! that a value at another index after a merge is still recognized.
mod containers;
mod volumes;

pub use self::volumes::deprecated_source;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt::Arguments;

use crate::json::Json;
use crate::k8s::patch::member_path;
use crate::k8s::validation::is_label_text;

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// the value's path, as `spec.nodeSelector[beta.kubernetes.io/os]`
    pub path: String,
    /// the API server's message
    pub message: String,
    /// the path of the other value, if two conflict: either may be the new one
    pub related_path: Option<String>,
}

/// Returns every warning that a pod, or a fragment of one, causes.
pub fn all(pod: Json<'_>) -> Vec<Warning> {
    Search { pod, before: Json::Null, found: Vec::new() }.all()
}

/// Returns the first warning that `after` causes and `before` does not. Values that are identical in both are not
/// searched.
pub fn introduced(before: Json<'_>, after: Json<'_>) -> Option<Warning> {
    let found = Search { pod: after, before, found: Vec::new() }.all();
    if found.is_empty() {
        return None;
    }
    let had = all(before);
    found.into_iter().find(|warning| !had.contains(warning))
}

struct Search<'a> {
    pod: Json<'a>,
    before: Json<'a>,
    found: Vec<Warning>,
}

impl<'a> Search<'a> {
    fn all(mut self) -> Vec<Warning> {
        self.annotations();
        if self.has_changed(&["spec"]) {
            self.node_labels();
            self.spread();
            self.pod_affinity();
            self.addresses();
            self.pull_secrets();
            self.scalars();
            self.containers();
            self.volumes();
        }
        self.found
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(Warning { path: path.into(), message: message.into(), related_path: None });
    }

    fn has_changed(&self, path: &[&str]) -> bool {
        match (self.pod.get_path(path), self.before.get_path(path)) {
            (Some(new), Some(old)) => !new.ptr_eq(&old),
            (new, _) => new.is_some(),
        }
    }

    /// Returns the elements of `spec.<path>`; none if they are unchanged.
    fn changed(&self, path: &[&str]) -> &'a [Json<'a>] {
        let spec = |pod: Json<'a>| pod.get("spec").and_then(|spec| spec.get_path(path));
        match (spec(self.pod), spec(self.before)) {
            (Some(new), Some(old)) if new.ptr_eq(&old) => &[],
            (new, _) => new.map_or(&[], |new| new.items()),
        }
    }

    fn annotations(&mut self) {
        // Some annotations are effective only without the containers' fields.
        let changed = self.has_changed(&["metadata", "annotations"]) || self.has_changed(&["spec"]);
        let Some(annotations) = self.pod.get_path(&["metadata", "annotations"]).filter(|_| changed) else { return };
        for (key, value) in annotations.members() {
            let path = || member_path("metadata.annotations", key);
            if let Some((_, message)) = DEPRECATED_ANNOTATIONS.iter().find(|(name, _)| name == key) {
                self.warn(path(), *message);
            }
            if *key == SECCOMP && self.pod.get_path(&["spec", "securityContext", "seccompProfile"]).is_none() {
                self.warn(path(), NO_SECCOMP);
            }
            if let Some(name) = key.strip_prefix(CONTAINER_SECCOMP)
                && self.container(name).is_some_and(|it| it.get_path(&["securityContext", "seccompProfile"]).is_none())
            {
                self.warn(path(), NO_SECCOMP);
            }
            if let Some(name) = key.strip_prefix(APPARMOR)
                && self.container(name).is_some_and(|it| it.get_path(&["securityContext", "appArmorProfile"]).is_none())
                && !self.is_pods_profile(value.as_str().unwrap_or_default())
            {
                self.warn(path(), NO_APPARMOR);
            }
        }
    }

    fn container(&self, name: &str) -> Option<Json<'a>> {
        let lists = ["initContainers", "containers"].into_iter();
        let mut all = lists.filter_map(|list| self.pod.get_path(&["spec", list])).flat_map(|list| list.items());
        all.find(|container| container.get("name") == Some(Json::Str(name))).copied()
    }

    /// Returns true if an annotation equals the pod's own `AppArmor` profile.
    fn is_pods_profile(&self, annotation: &str) -> bool {
        let profile = self.pod.get_path(&["spec", "securityContext", "appArmorProfile"]).unwrap_or(Json::Null);
        let (kind, name) = match annotation {
            "runtime/default" => ("RuntimeDefault", None),
            "unconfined" => ("Unconfined", None),
            other => ("Localhost", other.strip_prefix("localhost/")),
        };
        profile.get("type") == Some(Json::Str(kind)) && profile.get("localhostProfile") == name.map(Json::Str)
    }

    fn node_labels(&mut self) {
        if self.has_changed(&["spec", "nodeSelector"]) {
            for (key, _) in self.pod.get_path(&["spec", "nodeSelector"]).iter().flat_map(Json::members) {
                if let Some(message) = deprecated_label(key) {
                    self.warn(member_path("spec.nodeSelector", key), message);
                }
            }
        }
        let node = ["affinity", "nodeAffinity"];
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for term in self.changed(&[node[0], node[1], required, "nodeSelectorTerms"]) {
            self.node_term(*term, &format!("spec.affinity.nodeAffinity.{required}.nodeSelectorTerms"), false);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for term in self.changed(&[node[0], node[1], preferred]) {
            let preference = term.get("preference").unwrap_or(Json::Null);
            self.node_term(preference, &format!("spec.affinity.nodeAffinity.{preferred}"), true);
        }
    }

    fn node_term(&mut self, term: Json<'a>, path: &str, preferred: bool) {
        for expression in term.get("matchExpressions").map_or(&[][..], |list| list.items()) {
            let key = expression.get("key").and_then(|key| key.as_str()).unwrap_or_default();
            let path = format!("{path}.matchExpressions.{key}");
            if let Some(message) = deprecated_label(key) {
                self.warn(&path, message);
            }
            let values = expression.get("values").map_or(&[][..], |values| values.items());
            if preferred && values.iter().any(|value| !value.as_str().is_some_and(is_label_text)) {
                self.warn(&path, "has a value that is invalid for a label");
            }
        }
    }

    fn spread(&mut self) {
        for constraint in self.changed(&["topologySpreadConstraints"]) {
            let key = constraint.get("topologyKey").and_then(|key| key.as_str()).unwrap_or_default();
            let path = format!("spec.topologySpreadConstraints[{key}]");
            if let Some(message) = deprecated_label(key) {
                self.warn(&path, message);
            }
            if constraint.get("labelSelector").is_none_or(|selector| selector == Json::Null) {
                self.warn(path, NO_SELECTOR);
            }
        }
    }

    fn pod_affinity(&mut self) {
        for kind in ["podAffinity", "podAntiAffinity"] {
            for (when, inner) in [
                ("requiredDuringSchedulingIgnoredDuringExecution", None),
                ("preferredDuringSchedulingIgnoredDuringExecution", Some("podAffinityTerm")),
            ] {
                for term in self.changed(&["affinity", kind, when]) {
                    let term = inner.map_or(Some(*term), |inner| term.get(inner)).unwrap_or(Json::Null);
                    if term.get("labelSelector").is_none_or(|selector| selector == Json::Null) {
                        self.warn(format!("spec.affinity.{kind}.{when}"), NO_SELECTOR);
                    }
                }
            }
        }
    }

    fn addresses(&mut self) {
        let aliases = self.changed(&["hostAliases"]);
        for (index, alias) in aliases.iter().enumerate() {
            let ip = alias.get("ip").and_then(|ip| ip.as_str()).unwrap_or_default();
            let path = format!("spec.hostAliases[{ip}]");
            if aliases[..index].iter().any(|other| other.get("ip") == alias.get("ip")) {
                self.warn(&path, "duplicate ip");
            }
            if let Some(message) = non_canonical(ip) {
                self.warn(path, message);
            }
        }
        for server in self.changed(&["dnsConfig", "nameservers"]) {
            let ip = server.as_str().unwrap_or_default();
            if let Some(message) = non_canonical(ip) {
                self.warn(format!("spec.dnsConfig.nameservers[{ip}]"), message);
            }
        }
    }

    fn pull_secrets(&mut self) {
        let secrets = self.changed(&["imagePullSecrets"]);
        for (index, secret) in secrets.iter().enumerate() {
            let name = secret.get("name").and_then(|name| name.as_str()).unwrap_or_default();
            if secrets[..index].iter().any(|other| other.get("name") == secret.get("name")) {
                self.warn(format!("spec.imagePullSecrets[{name}]"), "duplicate name");
            }
            if name.is_empty() {
                self.warn("spec.imagePullSecrets", "invalid empty name");
            }
        }
    }

    fn scalars(&mut self) {
        let grace = ["spec", "terminationGracePeriodSeconds"];
        if let Some(Json::Int(..0)) = self.pod.get_path(&grace).filter(|_| self.has_changed(&grace)) {
            let message = "must be >= 0; negative values are invalid and will be treated as 1";
            self.warn("spec.terminationGracePeriodSeconds", message);
        }
        if self.has_changed(&["spec", "overhead"]) {
            self.fractions(self.pod.get_path(&["spec", "overhead"]), format_args!("spec.overhead"), BYTES);
        }
    }

    /// Warns of amounts with a fraction of a byte.
    fn fractions(&mut self, amounts: Option<Json<'a>>, path: Arguments<'_>, names: &[&str]) {
        for name in names {
            let amount = amounts.and_then(|amounts| amounts.get(name));
            if amount.is_some_and(crate::k8s::quantity::is_fractional) {
                self.warn(format!("{path}.{name}"), "fractional byte value is invalid, must be an integer");
            }
        }
    }
}

/// Resources that are measured in bytes.
const BYTES: &[&str] = &["memory", "ephemeral-storage"];

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const NO_APPARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
/// Annotations that were replaced by fields; the last two are followed by a container's name.
pub(crate) const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(crate) const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(crate) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

const DEPRECATED_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const DEPRECATED_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "deprecated; use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Returns the API server's warning for an annotation that was replaced by a field. For seccomp and `AppArmor` it warns
/// only if the field is not set too.
pub fn deprecated_annotation(key: &str) -> Option<&'static str> {
    let plain = || DEPRECATED_ANNOTATIONS.iter().find(|(name, _)| *name == key).map(|(_, message)| *message);
    match key {
        _ if key == SECCOMP || key.starts_with(CONTAINER_SECCOMP) => Some(NO_SECCOMP),
        _ if key.starts_with(APPARMOR) => Some(NO_APPARMOR),
        _ => plain(),
    }
}

/// Returns the API server's warning for a node label that was renamed.
pub fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(name, _)| *name == key).map(|(_, message)| *message)
}

/// Returns the warning for an address that is valid but not in canonical form. An invalid address is denied instead.
fn non_canonical(text: &str) -> Option<&'static str> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => Some("non-standard IP address"),
        Ok(IpAddr::V6(address)) if canonical(address) != text => {
            Some("IPv6 address should be in RFC 5952 canonical format")
        }
        Ok(_) => None,
        Err(_) => is_with_leading_zeros(text).then_some("non-standard IP address"),
    }
}

/// Formats an address by RFC 5952. Rust writes IPv4-compatible ones (`::1.2.3.4`) with dots, which the RFC restricts to
/// well-known prefixes.
fn canonical(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => format!("::{high:x}:{low:x}"),
        _ => address.to_string(),
    }
}

fn is_with_leading_zeros(text: &str) -> bool {
    let stripped: Vec<&str> = text.split('.').map(|part| part.trim_start_matches('0')).collect();
    let parts: Vec<&str> = stripped.iter().map(|part| if part.is_empty() { "0" } else { *part }).collect();
    parts.join(".").parse::<Ipv4Addr>().is_ok() && text.split('.').all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests;
