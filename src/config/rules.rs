//! What the Pod schema does not say: which words, names and numbers the API server takes where, and which fields
//! contradict each other. The first table is also what the JSON schema for editors says.

use super::cursor::Cursor;
use super::grammar::text_error;
use super::node::Tree;
use super::parts::{self, MapKind};
use super::resources;
use super::scalars;
use super::typed::Context;
use crate::k8s::warnings;

/// The grammar of a field, or of each element of its list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// one of these
    Words(&'static [&'static str]),
    /// the name of a volume or a container
    Label,
    /// the name of an API object
    Name,
    /// the same, or nothing: Helm's way to leave a field out, and of a storage class the word for none
    NameOrNothing,
    /// the name of a port
    PortName,
    /// a port's number, or its name
    Port,
    /// an environment variable's name
    EnvName,
    /// `name` or `prefix/name`
    Key,
    /// the same of a node's label
    NodeKey,
    /// a path below something
    Relative,
    /// a path from the root
    Absolute,
    /// a path in a container
    MountPath,
    /// the same of a file of `fileMounts`
    FilePath,
    /// a whole number in this range
    Whole(i64, i64),
    /// a file mode
    Mode,
    /// an IP address
    Ip,
    /// labels
    Labels,
    /// labels of a node
    NodeLabels,
    /// annotations
    Annotations,
    /// quantities by resource
    Resources,
    /// text that is not empty
    Filled,
}

const PORT: Rule = Rule::Whole(1, 65_535);
const ID: Rule = Rule::Whole(0, 2_147_483_647);
const COUNT: Rule = Rule::Whole(0, 2_147_483_647);
const SOME: Rule = Rule::Whole(1, 2_147_483_647);
const WEIGHT: Rule = Rule::Whole(1, 100);
const PULL: Rule = Rule::Words(&["Always", "IfNotPresent", "Never"]);
const PROFILE: Rule = Rule::Words(&["Localhost", "RuntimeDefault", "Unconfined"]);
const HONOR: Rule = Rule::Words(&["Honor", "Ignore"]);

/// By object type and field.
pub(crate) const RULES: &[(&str, &str, Rule)] = &[
    ("AppArmorProfile", "type", PROFILE),
    ("ConfigMapEnvSource", "name", Rule::Name),
    ("ConfigMapKeySelector", "key", Rule::Filled),
    ("ConfigMapKeySelector", "name", Rule::Name),
    ("ConfigMapProjection", "name", Rule::Name),
    ("ConfigMapVolumeSource", "defaultMode", Rule::Mode),
    ("ConfigMapVolumeSource", "name", Rule::Name),
    ("Container", "imagePullPolicy", PULL),
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
    ("ImageVolumeSource", "pullPolicy", PULL),
    ("KeyToPath", "mode", Rule::Mode),
    ("KeyToPath", "path", Rule::Relative),
    ("LabelSelector", "matchLabels", Rule::Labels),
    ("LabelSelectorRequirement", "key", Rule::Key),
    ("LabelSelectorRequirement", "operator", Rule::Words(&["In", "NotIn", "Exists", "DoesNotExist"])),
    ("LocalObjectReference", "name", Rule::Name),
    ("NFSVolumeSource", "path", Rule::Absolute),
    ("NFSVolumeSource", "server", Rule::Filled),
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
    ("PodSecurityContext", "fsGroup", ID),
    ("PodSecurityContext", "fsGroupChangePolicy", Rule::Words(&["OnRootMismatch", "Always"])),
    ("PodSecurityContext", "runAsGroup", ID),
    ("PodSecurityContext", "runAsUser", ID),
    ("PodSecurityContext", "seLinuxChangePolicy", Rule::Words(&["Recursive", "MountOption"])),
    ("PodSecurityContext", "supplementalGroups", ID),
    ("PodSecurityContext", "supplementalGroupsPolicy", Rule::Words(&["Merge", "Strict"])),
    ("PodSpec", "activeDeadlineSeconds", SOME),
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
    ("Probe", "failureThreshold", SOME),
    ("Probe", "initialDelaySeconds", COUNT),
    ("Probe", "periodSeconds", SOME),
    ("Probe", "successThreshold", SOME),
    ("Probe", "terminationGracePeriodSeconds", SOME),
    ("Probe", "timeoutSeconds", SOME),
    ("ResourceRequirements", "limits", Rule::Resources),
    ("ResourceRequirements", "requests", Rule::Resources),
    ("SeccompProfile", "type", PROFILE),
    ("SecretEnvSource", "name", Rule::Name),
    ("SecretKeySelector", "key", Rule::Filled),
    ("SecretKeySelector", "name", Rule::Name),
    ("SecretProjection", "name", Rule::Name),
    ("SecretVolumeSource", "defaultMode", Rule::Mode),
    ("SecretVolumeSource", "secretName", Rule::Name),
    ("SecurityContext", "procMount", Rule::Words(&["Default", "Unmasked"])),
    ("SecurityContext", "runAsGroup", ID),
    ("SecurityContext", "runAsUser", ID),
    ("TCPSocketAction", "port", Rule::Port),
    ("Toleration", "effect", Rule::Words(&["", "NoSchedule", "PreferNoSchedule", "NoExecute"])),
    ("Toleration", "key", Rule::Key),
    ("Toleration", "operator", Rule::Words(&["Exists", "Equal", "Lt", "Gt"])),
    ("TopologySpreadConstraint", "maxSkew", SOME),
    ("TopologySpreadConstraint", "minDomains", SOME),
    ("TopologySpreadConstraint", "nodeAffinityPolicy", HONOR),
    ("TopologySpreadConstraint", "nodeTaintsPolicy", HONOR),
    ("TopologySpreadConstraint", "topologyKey", Rule::NodeKey),
    ("TopologySpreadConstraint", "whenUnsatisfiable", Rule::Words(&["DoNotSchedule", "ScheduleAnyway"])),
    ("Volume", "name", Rule::Label),
    ("VolumeMount", "mountPath", Rule::MountPath),
    ("VolumeMount", "mountPropagation", Rule::Words(&["None", "HostToContainer", "Bidirectional"])),
    ("VolumeMount", "name", Rule::Filled),
    ("VolumeMount", "recursiveReadOnly", Rule::Words(&["Disabled", "IfPossible", "Enabled"])),
    ("VolumeMount", "subPath", Rule::Relative),
    ("VolumeMount", "subPathExpr", Rule::Relative),
    ("WeightedPodAffinityTerm", "weight", WEIGHT),
];

const ACCESS_MODES: &[&str] = &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

/// Fields of a Pod's spec that no layer may give, and whose they are.
pub(crate) const NOT_A_LAYERS: &[(&str, &str)] = &[
    ("ephemeralContainers", "it is kubectl debug's"),
    ("nodeName", "it is the scheduler's: say nodeSelector or affinity"),
    ("overhead", "it follows runtimeClassName"),
    ("preemptionPolicy", "it follows priorityClassName"),
    ("priority", "it follows priorityClassName"),
    ("schedulingGates", "it is other controllers'"),
    ("serviceAccount", "it is the old name of serviceAccountName"),
];

/// Said of what earns a warning of the API server.
pub(crate) const WARNS: &str = "the API server warns of it, and the ClearML agent fails a task at any warning";

/// The rule of a field.
pub(crate) fn rule_of(object: &str, field: &str) -> Option<Rule> {
    RULES.iter().find(|row| row.0 == object && row.1 == field).map(|row| row.2)
}

/// Checks a field's grammar; that its type is wrong is said elsewhere.
pub(crate) fn check_field(cursor: &Cursor<'_>, object: &str, field: &str) {
    let Some(rule) = rule_of(object, field) else { return };
    match &cursor.node.tree {
        Tree::List(_) => cursor.items().iter().for_each(|item| check_value(item, rule)),
        _ => check_value(cursor, rule),
    }
}

fn check_value(cursor: &Cursor<'_>, rule: Rule) {
    match (&cursor.node.tree, rule) {
        (Tree::Map(_), Rule::Labels) => parts::check_map(cursor, MapKind::Labels),
        (Tree::Map(_), Rule::NodeLabels) => parts::check_map(cursor, MapKind::NodeLabels),
        (Tree::Map(_), Rule::Annotations) => parts::check_map(cursor, MapKind::Annotations),
        (Tree::Map(_), Rule::Resources) => resources::check_names(cursor),
        // a fraction is of the wrong type
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
        // with what would be right
        Rule::Words(words) => cursor.check_one_of(words),
        Rule::Label => _ = scalars::dns_label(cursor),
        _ => {
            if let Some(what) = text_error(text, rule) {
                cursor.error(what);
            }
        }
    }
}

/// Checks what the fields of an object say together.
pub(crate) fn check_object(cursor: &Cursor<'_>, object: &str, context: &Context<'_>) {
    match object {
        "Volume" => check_volume(cursor, context),
        "EnvVar" => {
            if let (Some(_), Some(from)) = (cursor.get("value"), cursor.get("valueFrom")) {
                from.error("stands beside value; an env variable has one of them");
            }
        }
        "EnvVarSource" if cursor.set_entries().count() != 1 => {
            cursor.error("must have one source, like secretKeyRef or fieldRef");
        }
        "EnvFromSource" if one(cursor, &["configMapRef", "secretRef"]) != 1 => {
            cursor.error("must have one source: configMapRef or secretRef");
        }
        "DownwardAPIVolumeFile" if one(cursor, &["fieldRef", "resourceFieldRef"]) != 1 => {
            cursor.error("must have one source: fieldRef or resourceFieldRef");
        }
        // a part of one may lie over the pod's own, two never fit
        "Probe" | "LifecycleHandler" if one(cursor, &["exec", "grpc", "httpGet", "sleep", "tcpSocket"]) > 1 => {
            cursor.error("has two handlers; one of exec, grpc, httpGet, sleep, tcpSocket");
        }
        "VolumeMount" if one(cursor, &["subPath", "subPathExpr"]) > 1 => {
            cursor.error("has both subPath and subPathExpr");
        }
        "Toleration" => check_toleration(cursor),
        "NodeSelectorRequirement" | "LabelSelectorRequirement" => check_requirement(cursor),
        "TopologySpreadConstraint" | "PodAffinityTerm" if cursor.get("labelSelector").is_none() => {
            cursor.error(format!("without a labelSelector it is about no pod; {WARNS}"));
        }
        "ResourceRequirements" => resources::check_requests(cursor),
        "PersistentVolumeClaimSpec" => check_claim(cursor),
        "PodSpec" => {
            for (name, whose) in NOT_A_LAYERS {
                if let Some(field) = cursor.get(name) {
                    field.error(format!("no layer may give it: {whose}"));
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

fn one(cursor: &Cursor<'_>, keys: &[&str]) -> usize {
    keys.iter().filter(|key| cursor.get(key).is_some()).count()
}

fn check_volume(cursor: &Cursor<'_>, context: &Context<'_>) {
    let name = cursor.get("name").and_then(|name| name.as_text());
    let claimed = name.is_some_and(|name| context.claimed.contains(name));
    let sources: Vec<_> = cursor.set_entries().filter(|(key, _)| *key != "name").collect();
    match sources.as_slice() {
        // `claimName: PVC_NAME`, ClearML's way, is a stand-in
        [] | [("persistentVolumeClaim" | "ephemeral", _)] if claimed => {}
        [] => cursor.error("has no source, like emptyDir: {} or persistentVolumeClaim: {claimName: …}"),
        [(key, source)] if claimed => {
            source.error(format!("`claims` gives this volume its source: leave {key} out"));
        }
        [(key, source)] => {
            if let Some(said) = warnings::deprecated_source(key) {
                source.error(format!("is {said}: {WARNS}"));
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
        seconds.error("goes with effect NoExecute only");
    }
}

fn check_requirement(cursor: &Cursor<'_>) {
    let values = cursor.get("values").filter(|values| !values.node.is_empty());
    let count = values.as_ref().map_or(0, |values| values.items().len());
    match cursor.get("operator").and_then(|operator| operator.as_text()) {
        Some("In" | "NotIn") if values.is_none() => cursor.error("key `values` is missing: In and NotIn need some"),
        Some(operator @ ("Exists" | "DoesNotExist")) => {
            if let Some(values) = values {
                values.error(format!("operator {operator} takes no values"));
            }
        }
        Some("Gt" | "Lt") if count != 1 => cursor.error("Gt and Lt need one value, a whole number in quotes"),
        _ => {}
    }
}

/// The spec of a `PersistentVolumeClaim`.
fn check_claim(cursor: &Cursor<'_>) {
    let modes = cursor.get("accessModes").filter(|modes| !modes.node.is_empty());
    match modes {
        Some(modes) => {
            let items = modes.items();
            if let Some(alone) = items.iter().find(|mode| items.len() > 1 && mode.is_text("ReadWriteOncePod")) {
                alone.error("ReadWriteOncePod stands alone");
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
