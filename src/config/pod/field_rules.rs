//! Validates what the Pod schema does not describe: words, names and ranges that the API server allows in a field, and
//! fields that contradict each other. The JSON schema for editors uses the table of rules too.

use std::collections::BTreeSet;

use crate::config::decode::ast::Tree;
use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::{CAUSES_WARNING, Rule, text_error};
use crate::config::decode::scalars;
use crate::config::pod::metadata::{self, MapKind};
use crate::config::pod::resources;
use crate::k8s::warnings;

const PORT: Rule = Rule::Whole(1, 65_535);
const USER_ID: Rule = Rule::Whole(0, 2_147_483_647);
const COUNT: Rule = Rule::Whole(0, 2_147_483_647);
const POSITIVE: Rule = Rule::Whole(1, 2_147_483_647);
const WEIGHT: Rule = Rule::Whole(1, 100);
const PULL_POLICY: Rule = Rule::Words(&["Always", "IfNotPresent", "Never"]);
const PROFILE: Rule = Rule::Words(&["Localhost", "RuntimeDefault", "Unconfined"]);
const HONOR: Rule = Rule::Words(&["Honor", "Ignore"]);

/// Object type, field, rule.
pub(crate) const RULES: &[(&str, &str, Rule)] = &[
    ("AppArmorProfile", "type", PROFILE),
    ("ConfigMapEnvSource", "name", Rule::Name),
    ("ConfigMapKeySelector", "key", Rule::NonEmpty),
    ("ConfigMapKeySelector", "name", Rule::Name),
    ("ConfigMapProjection", "name", Rule::Name),
    ("ConfigMapVolumeSource", "defaultMode", Rule::Mode),
    ("ConfigMapVolumeSource", "name", Rule::Name),
    ("Container", "imagePullPolicy", PULL_POLICY),
    ("Container", "name", Rule::Label),
    ("Container", "restartPolicy", Rule::Words(&["Always", "OnFailure", "Never"])),
    ("Container", "terminationMessagePolicy", Rule::Words(&["File", "FallbackToLogsOnError"])),
    ("ContainerPort", "containerPort", PORT),
    ("ContainerPort", "hostPort", PORT),
    ("ContainerPort", "name", Rule::PortName),
    ("ContainerPort", "protocol", Rule::Words(&["TCP", "UDP", "SCTP"])),
    ("ContainerResizePolicy", "restartPolicy", Rule::Words(&["NotRequired", "RestartContainer"])),
    ("DownwardAPIVolumeFile", "mode", Rule::Mode),
    ("DownwardAPIVolumeFile", "path", Rule::Relative),
    ("DownwardAPIVolumeSource", "defaultMode", Rule::Mode),
    ("EnvVar", "name", Rule::EnvName),
    ("GRPCAction", "port", PORT),
    ("HTTPGetAction", "port", Rule::Port),
    ("HTTPGetAction", "scheme", Rule::Words(&["HTTP", "HTTPS"])),
    ("HostAlias", "hostnames", Rule::Name),
    ("HostAlias", "ip", Rule::Ip),
    ("HostPathVolumeSource", "path", Rule::Absolute),
    (
        "HostPathVolumeSource",
        "type",
        Rule::Words(&[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ]),
    ),
    ("ImageVolumeSource", "pullPolicy", PULL_POLICY),
    ("KeyToPath", "mode", Rule::Mode),
    ("KeyToPath", "path", Rule::Relative),
    ("LabelSelector", "matchLabels", Rule::Labels),
    ("LabelSelectorRequirement", "key", Rule::Key),
    ("LabelSelectorRequirement", "operator", Rule::Words(&["In", "NotIn", "Exists", "DoesNotExist"])),
    ("LocalObjectReference", "name", Rule::Name),
    ("NFSVolumeSource", "path", Rule::Absolute),
    ("NFSVolumeSource", "server", Rule::NonEmpty),
    ("NodeSelectorRequirement", "key", Rule::NodeKey),
    ("NodeSelectorRequirement", "operator", Rule::Words(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])),
    ("ObjectMeta", "annotations", Rule::Annotations),
    ("ObjectMeta", "labels", Rule::Labels),
    ("PersistentVolumeClaimSpec", "accessModes", Rule::Words(ACCESS_MODES)),
    ("PersistentVolumeClaimSpec", "storageClassName", Rule::NameOrNothing),
    ("PersistentVolumeClaimSpec", "volumeMode", Rule::Words(&["Filesystem", "Block"])),
    ("PodAffinityTerm", "topologyKey", Rule::NodeKey),
    ("PodDNSConfig", "nameservers", Rule::Ip),
    ("PodOS", "name", Rule::Words(&["linux", "windows"])),
    ("PodSecurityContext", "fsGroup", USER_ID),
    ("PodSecurityContext", "fsGroupChangePolicy", Rule::Words(&["OnRootMismatch", "Always"])),
    ("PodSecurityContext", "runAsGroup", USER_ID),
    ("PodSecurityContext", "runAsUser", USER_ID),
    ("PodSecurityContext", "seLinuxChangePolicy", Rule::Words(&["Recursive", "MountOption"])),
    ("PodSecurityContext", "supplementalGroups", USER_ID),
    ("PodSecurityContext", "supplementalGroupsPolicy", Rule::Words(&["Merge", "Strict"])),
    ("PodSpec", "activeDeadlineSeconds", POSITIVE),
    ("PodSpec", "dnsPolicy", Rule::Words(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"])),
    ("PodSpec", "hostname", Rule::Label),
    ("PodSpec", "nodeSelector", Rule::NodeLabels),
    ("PodSpec", "priorityClassName", Rule::NameOrNothing),
    ("PodSpec", "restartPolicy", Rule::Words(&["Always", "OnFailure", "Never"])),
    ("PodSpec", "runtimeClassName", Rule::NameOrNothing),
    ("PodSpec", "schedulerName", Rule::NameOrNothing),
    ("PodSpec", "serviceAccountName", Rule::NameOrNothing),
    ("PodSpec", "subdomain", Rule::Label),
    ("PodSpec", "terminationGracePeriodSeconds", COUNT),
    ("PreferredSchedulingTerm", "weight", WEIGHT),
    ("Probe", "failureThreshold", POSITIVE),
    ("Probe", "initialDelaySeconds", COUNT),
    ("Probe", "periodSeconds", POSITIVE),
    ("Probe", "successThreshold", POSITIVE),
    ("Probe", "terminationGracePeriodSeconds", POSITIVE),
    ("Probe", "timeoutSeconds", POSITIVE),
    ("ResourceRequirements", "limits", Rule::Resources),
    ("ResourceRequirements", "requests", Rule::Resources),
    ("SeccompProfile", "type", PROFILE),
    ("SecretEnvSource", "name", Rule::Name),
    ("SecretKeySelector", "key", Rule::NonEmpty),
    ("SecretKeySelector", "name", Rule::Name),
    ("SecretProjection", "name", Rule::Name),
    ("SecretVolumeSource", "defaultMode", Rule::Mode),
    ("SecretVolumeSource", "secretName", Rule::Name),
    ("SecurityContext", "procMount", Rule::Words(&["Default", "Unmasked"])),
    ("SecurityContext", "runAsGroup", USER_ID),
    ("SecurityContext", "runAsUser", USER_ID),
    ("TCPSocketAction", "port", Rule::Port),
    ("Toleration", "effect", Rule::Words(&["", "NoSchedule", "PreferNoSchedule", "NoExecute"])),
    ("Toleration", "key", Rule::Key),
    ("Toleration", "operator", Rule::Words(&["Exists", "Equal", "Lt", "Gt"])),
    ("TopologySpreadConstraint", "maxSkew", POSITIVE),
    ("TopologySpreadConstraint", "minDomains", POSITIVE),
    ("TopologySpreadConstraint", "nodeAffinityPolicy", HONOR),
    ("TopologySpreadConstraint", "nodeTaintsPolicy", HONOR),
    ("TopologySpreadConstraint", "topologyKey", Rule::NodeKey),
    ("TopologySpreadConstraint", "whenUnsatisfiable", Rule::Words(&["DoNotSchedule", "ScheduleAnyway"])),
    ("Volume", "name", Rule::Label),
    ("VolumeMount", "mountPath", Rule::MountPath),
    ("VolumeMount", "mountPropagation", Rule::Words(&["None", "HostToContainer", "Bidirectional"])),
    ("VolumeMount", "name", Rule::NonEmpty),
    ("VolumeMount", "recursiveReadOnly", Rule::Words(&["Disabled", "IfPossible", "Enabled"])),
    ("VolumeMount", "subPath", Rule::Relative),
    ("VolumeMount", "subPathExpr", Rule::Relative),
    ("WeightedPodAffinityTerm", "weight", WEIGHT),
];

const ACCESS_MODES: &[&str] = &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

/// Fields of a Pod's spec that no layer may set, with the reason.
pub(crate) const RESERVED_FIELDS: &[(&str, &str)] = &[
    ("ephemeralContainers", "kubectl debug sets it"),
    ("nodeName", "the scheduler sets it; use nodeSelector or affinity"),
    ("overhead", "it follows from runtimeClassName"),
    ("preemptionPolicy", "it follows from priorityClassName"),
    ("priority", "it follows from priorityClassName"),
    ("schedulingGates", "other controllers set it"),
    ("serviceAccount", "it is the deprecated name of serviceAccountName"),
];

/// The surroundings of a value that its validation needs.
#[derive(Default)]
pub(crate) struct Context<'c> {
    /// volumes whose source a claim sets
    pub(crate) claimed: BTreeSet<&'c str>,
    /// true if fields that the schema does not have are allowed
    pub(crate) unknown: bool,
    /// true in pod templates, where `$patch` is allowed
    pub(crate) directives: bool,
}

/// Returns the rule of a field.
pub(crate) fn rule_of(object: &str, field: &str) -> Option<Rule> {
    RULES.iter().find(|row| row.0 == object && row.1 == field).map(|row| row.2)
}

/// Checks a field by its rule. A value of the wrong type is not an error here.
pub(crate) fn check_field(cursor: &Cursor<'_>, object: &str, field: &str) {
    let Some(rule) = rule_of(object, field) else { return };
    match &cursor.node.tree {
        Tree::List(_) => cursor.items().iter().for_each(|item| check_value(item, rule)),
        _ => check_value(cursor, rule),
    }
}

fn check_value(cursor: &Cursor<'_>, rule: Rule) {
    match (&cursor.node.tree, rule) {
        (Tree::Map(_), Rule::Labels) => metadata::check_map(cursor, MapKind::Labels),
        (Tree::Map(_), Rule::NodeLabels) => metadata::check_map(cursor, MapKind::NodeLabels),
        (Tree::Map(_), Rule::Annotations) => metadata::check_map(cursor, MapKind::Annotations),
        (Tree::Map(_), Rule::Resources) => resources::check_names(cursor),
        // a fraction has the wrong type, which is reported elsewhere
        (Tree::Number(number), Rule::Whole(least, most))
            if number.as_i64().is_some_and(|number| !(least..=most).contains(&number)) =>
        {
            cursor.error(format!("must be a whole number from {least} to {most}"));
        }
        (Tree::Number(_), Rule::Port) => check_value(cursor, PORT),
        (Tree::Number(number), Rule::Mode) if number.as_i64().is_none_or(|mode| !(0..=0o777).contains(&mode)) => {
            cursor.error("is not a file mode (0 to 0777, in decimal 511)");
        }
        (Tree::Text(text), rule) if !cursor.has_placeholder() => check_text(cursor, text, rule),
        _ => {}
    }
}

fn check_text(cursor: &Cursor<'_>, text: &str, rule: Rule) {
    match rule {
        // these two suggest a valid value
        Rule::Words(words) => cursor.check_one_of(words),
        Rule::Label => _ = scalars::dns_label(cursor),
        _ => {
            if let Some(message) = text_error(text, rule) {
                cursor.error(message);
            }
        }
    }
}

/// Checks the combination of an object's fields.
pub(crate) fn check_object(cursor: &Cursor<'_>, object: &str, context: &Context<'_>) {
    match object {
        "Volume" => check_volume(cursor, context),
        "EnvVar" => {
            if let (Some(_), Some(from)) = (cursor.get("value"), cursor.get("valueFrom")) {
                from.error("is set together with value: an env variable has one of them");
            }
        }
        "EnvVarSource" if cursor.set_entries().count() != 1 => {
            cursor.error("must have one source, like secretKeyRef or fieldRef");
        }
        "EnvFromSource" if count_set(cursor, &["configMapRef", "secretRef"]) != 1 => {
            cursor.error("must have one source: configMapRef or secretRef");
        }
        "DownwardAPIVolumeFile" if count_set(cursor, &["fieldRef", "resourceFieldRef"]) != 1 => {
            cursor.error("must have one source: fieldRef or resourceFieldRef");
        }
        // a part of one may be merged with the pod's own, two are never valid
        "Probe" | "LifecycleHandler" if count_set(cursor, &["exec", "grpc", "httpGet", "sleep", "tcpSocket"]) > 1 => {
            cursor.error("has two handlers: only one of exec, grpc, httpGet, sleep, tcpSocket is allowed");
        }
        "VolumeMount" if count_set(cursor, &["subPath", "subPathExpr"]) > 1 => {
            cursor.error("has both subPath and subPathExpr");
        }
        "Toleration" => check_toleration(cursor),
        "NodeSelectorRequirement" | "LabelSelectorRequirement" => check_requirement(cursor),
        "TopologySpreadConstraint" | "PodAffinityTerm" if cursor.get("labelSelector").is_none() => {
            cursor.error(format!("matches no pod without a labelSelector: {CAUSES_WARNING}"));
        }
        "ResourceRequirements" => resources::check_requests(cursor),
        "PersistentVolumeClaimSpec" => check_claim(cursor),
        "PodSpec" => {
            for (name, reason) in RESERVED_FIELDS {
                if let Some(field) = cursor.get(name) {
                    field.error(format!("no layer may set it: {reason}"));
                }
            }
        }
        "SeccompProfile" | "AppArmorProfile" => {
            let local = cursor.get("type").is_some_and(|kind| kind.is_text("Localhost"));
            if local && cursor.get("localhostProfile").is_none() {
                cursor.error("key `localhostProfile` is missing");
            }
        }
        _ => {}
    }
}

fn count_set(cursor: &Cursor<'_>, keys: &[&str]) -> usize {
    keys.iter().filter(|key| cursor.get(key).is_some()).count()
}

fn check_volume(cursor: &Cursor<'_>, context: &Context<'_>) {
    let name = cursor.get("name").and_then(|name| name.as_text());
    let claimed = name.is_some_and(|name| context.claimed.contains(name));
    let sources: Vec<_> = cursor.set_entries().filter(|(key, _)| *key != "name").collect();
    match sources.as_slice() {
        // ClearML's `claimName: PVC_NAME` is a placeholder for the claim
        [] | [("persistentVolumeClaim" | "ephemeral", _)] if claimed => {}
        [] => cursor.error("has no source, like emptyDir: {} or persistentVolumeClaim: {claimName: …}"),
        [(key, source)] if claimed => {
            source.error(format!("`claims` sets the source of this volume: remove {key}"));
        }
        [(key, source)] => {
            if let Some(warning) = warnings::deprecated_source(key) {
                source.error(format!("is {warning}: {CAUSES_WARNING}"));
            }
        }
        [(first, _), (second, cursor), ..] => {
            cursor.error(format!("a volume has one source, this one has {first} and {second}"));
        }
    }
    let claim = cursor.get("persistentVolumeClaim").filter(|_| !claimed);
    let name = claim.and_then(|claim| claim.get("claimName")).filter(|name| !name.has_placeholder());
    if let Some(name) = name.filter(|name| name.as_text().is_some()) {
        scalars::object_name(&name);
    }
}

fn check_toleration(cursor: &Cursor<'_>) {
    let is = |key: &str, word: &str| cursor.get(key).is_some_and(|value| value.is_text(word));
    let exists = is("operator", "Exists");
    if let Some(value) = cursor.get("value").filter(|value| exists && !value.node.is_empty()) {
        value.error("operator Exists takes no value");
    }
    if !exists && cursor.get("key").is_none_or(|key| key.node.is_empty()) {
        cursor.error("without a key, operator must be Exists");
    }
    if let Some(seconds) = cursor.get("tolerationSeconds").filter(|_| !is("effect", "NoExecute")) {
        seconds.error("is allowed with effect NoExecute only");
    }
}

fn check_requirement(cursor: &Cursor<'_>) {
    let values = cursor.get("values").filter(|values| !values.node.is_empty());
    let count = values.as_ref().map_or(0, |values| values.items().len());
    match cursor.get("operator").and_then(|operator| operator.as_text()) {
        Some("In" | "NotIn") if values.is_none() => {
            cursor.error("key `values` is missing: In and NotIn need at least one");
        }
        Some(operator @ ("Exists" | "DoesNotExist")) => {
            if let Some(values) = values {
                values.error(format!("operator {operator} takes no values"));
            }
        }
        Some("Gt" | "Lt") if count != 1 => cursor.error("Gt and Lt need one value, a whole number in quotes"),
        _ => {}
    }
}

/// Checks the spec of a `PersistentVolumeClaim`.
fn check_claim(cursor: &Cursor<'_>) {
    let modes = cursor.get("accessModes").filter(|modes| !modes.node.is_empty());
    match modes {
        Some(modes) => {
            let items = modes.items();
            if let Some(alone) = items.iter().find(|mode| items.len() > 1 && mode.is_text("ReadWriteOncePod")) {
                alone.error("ReadWriteOncePod is not allowed with other access modes");
            }
        }
        None => cursor.error("key `accessModes` is missing"),
    }
    let requests = cursor.get("resources").and_then(|resources| resources.get("requests"));
    match requests.and_then(|requests| requests.get("storage")) {
        None => cursor.error("key `resources.requests.storage` is missing"),
        Some(storage) => resources::check_storage(&storage),
    }
}
