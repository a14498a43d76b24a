//! Notices about the layers of a valid configuration.

use std::collections::BTreeSet;

use bumpalo::Bump;
use serde_json::Value;

use crate::config::Diagnostic;
use crate::config::{Position, is_file_volume};
use crate::explain::yaml;
use crate::json::Json;
use crate::merge::layer::{Conflict, Layer};
use crate::model::snapshot::{Snapshot, UnitSpec};

/// The boolean security settings of pods and containers. In a PodTemplate of Flyte, `true` replaces the pod's `false`.
const SECURITY: &[&str] = &[
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsNonRoot",
];

/// Fields that charts render as `null` if no value is chosen. The API server drops the `null`, so a layer sets the field;
/// kubectl's second patch would set it to `null` again.
const CLEARED: &[&str] = &["spec.priorityClassName", "spec.runtimeClassName"];

/// The number of paths that a notice names; it counts the others.
const NAMED: usize = 3;

/// Returns the notices of all layers, in the order of the configuration.
pub(super) fn layer_notices(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let base = snapshot.base.iter().filter_map(|unit| unit.last_valid.as_deref());
    let environments = snapshot.environments.iter().filter_map(|unit| unit.last_valid.as_deref());
    let queues = snapshot.queues.iter().filter_map(|unit| unit.last_valid.as_deref());
    let specs: Vec<&UnitSpec> =
        base.chain(environments.map(|environment| &environment.spec)).chain(queues.map(|queue| &queue.spec)).collect();
    specs.iter().flat_map(|spec| &spec.layers).flat_map(notices_of_layer).collect()
}

fn notices_of_layer(layer: &Layer) -> Vec<Diagnostic> {
    let arena = Bump::new();
    let lines = yaml::lines(Json::borrowed(&layer.fragment, &arena), &arena);
    let paths: BTreeSet<&str> = lines.iter().filter(|line| !line.text.ends_with(':')).map(|line| &*line.path).collect();
    let at = Position { line: layer.line, column: 0 };
    let notice = |message| Diagnostic::new(&layer.file, at, &layer.source.to_string(), message);
    let mut notices = Vec::new();
    let files = file_mounts(layer);
    let is_file = |path: &&str| files.iter().any(|file| file.contains(path));
    let replacing = paths.iter().copied().filter(|path| can_replace(path) && !is_file(path));
    let replacing: BTreeSet<&str> = replacing.map(replaced_element).collect();
    let overrides = |paths: &[&str]| {
        let paths = shortened(paths);
        format!("overrides {paths}: a second `kubectl apply` of a manifest with another value fails (422)")
    };
    if layer.conflict == Conflict::Override && !replacing.is_empty() {
        notices.push(notice(overrides(&replacing.into_iter().collect::<Vec<_>>())));
    }
    if layer.conflict == Conflict::Override && !files.is_empty() {
        let names: Vec<String> = files.iter().map(|file| format!("fileMounts[{}]", file.mount)).collect();
        let message = overrides(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let at = Position { line: layer.file_mounts.unwrap_or(layer.line), column: 0 };
        notices.push(Diagnostic::new(&layer.file, at, &layer.source.to_string(), message));
    }
    if layer.fragment.pointer("/spec/tolerations").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        notices.push(notice(
            "adds a toleration: a second `kubectl apply` of a manifest that sets any toleration fails (422)".to_owned(),
        ));
    }
    let cleared: Vec<&str> = CLEARED.iter().copied().filter(|path| paths.contains(path)).collect();
    if layer.conflict != Conflict::Override && !cleared.is_empty() {
        notices.push(notice(format!(
            "sets {}: a second `kubectl apply` of a manifest that sets it to null, as charts do, fails (422); remove the key from such manifests",
            shortened(&cleared)
        )));
    }
    let is_security = |path: &&str| SECURITY.iter().any(|key| path.ends_with(&format!(".{key}")));
    let security: Vec<&str> = paths.iter().copied().filter(is_security).collect();
    if layer.conflict == Conflict::Keep && !security.is_empty() {
        notices.push(notice(format!(
            "{} is only a default: a pod that sets it keeps its value; `conflict: Override` would replace it",
            shortened(&security)
        )));
    }
    notices
}

/// Returns true if a manifest can set the field to another value and no update of a pod may change it. Labels and
/// annotations may be changed; the key of a list element is equal in manifest and layer.
fn can_replace(path: &str) -> bool {
    let identifies = path.ends_with("].name") || path.ends_with("].mountPath") || path.ends_with("].key");
    path.starts_with("spec.") && !path.starts_with("spec.tolerations") && !identifies
}

/// Shortens the path of a field in a volume or env variable to the element, which is replaced as a whole.
fn replaced_element(path: &str) -> &str {
    let element = ["spec.volumes[", ".env["].into_iter().find_map(|list| Some(path.find(list)? + list.len()));
    let end = element.and_then(|from| Some(from + path[from..].find(']')? + 1));
    end.map_or(path, |end| &path[..end])
}

/// A file of `fileMounts`, with the volume that the layer made of it.
struct FileMount<'l> {
    volume: &'l str,
    mount: &'l str,
}

impl FileMount<'_> {
    /// Returns true if a path is in the volume or mount of the file.
    fn contains(&self, path: &str) -> bool {
        path.contains(&format!(".volumes[{}]", self.volume)) || path.contains(&format!(".volumeMounts[{}]", self.mount))
    }
}

fn file_mounts(layer: &Layer) -> Vec<FileMount<'_>> {
    let containers = layer.fragment.pointer("/spec/containers").filter(|_| layer.file_mounts.is_some());
    let containers = containers.and_then(Value::as_array).into_iter().flatten();
    let mounts = containers.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    let mounts = mounts.filter_map(|mount| Some((mount["name"].as_str()?, mount["mountPath"].as_str()?)));
    mounts.filter(|(volume, _)| is_file_volume(volume)).map(|(volume, mount)| FileMount { volume, mount }).collect()
}

/// Joins the first [`NAMED`] paths, and counts the others.
pub(super) fn shortened(paths: &[&str]) -> String {
    let named = paths.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::merge::layer::Source;

    fn notices(conflict: Conflict, spec: &Value) -> Vec<String> {
        let (source, fragment) = (Source::Queue("q".into()), json!({"metadata": {"labels": {"a": "b"}}, "spec": spec}));
        let layer = Layer {
            source,
            file: "x.yaml".into(),
            line: 7,
            file_mounts: Some(9),
            conflict,
            explicit: false,
            placeholders: false,
            unknown: false,
            fragment,
        };
        notices_of_layer(&layer).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_security_boolean_in_a_layer_that_keeps_is_only_a_default() {
        let spec = || json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 7}, "hostIPC": false});
        let note = "x.yaml:7: queue/q: spec.hostIPC, spec.securityContext.runAsNonRoot is only a default: \
            a pod that sets it keeps its value; `conflict: Override` would replace it";
        assert_eq!(notices(Conflict::Keep, &spec()), [note]);
        assert!(notices(Conflict::Override, &spec()).iter().all(|notice| !notice.contains("default")));
    }

    #[test]
    fn overridden_paths_are_named_by_element_and_counted() {
        let spec = json!({"containers": [{"name": "primary", "env": [{"name": "A", "value": "1"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
            "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}], "nodeSelector": {"x": "y"}});
        let found = notices(Conflict::Override, &spec);
        let note = "x.yaml:7: queue/q: overrides spec.containers[primary].env[A], \
            spec.containers[primary].resources.limits.cpu, spec.containers[primary].resources.limits.memory and 2 more: \
            a second `kubectl apply` of a manifest with another value fails (422)";
        assert_eq!(found, [note]);
    }

    #[test]
    fn a_file_is_named_by_its_key_and_not_by_its_volume() {
        let spec = json!({"containers": [{"name": "primary", "volumeMounts": [
                {"name": "file-1de426f79d4dd18d", "mountPath": "/etc/pip.conf", "subPath": "file", "readOnly": true},
                {"name": "file-server", "mountPath": "/srv"}]}],
            "volumes": [{"name": "file-1de426f79d4dd18d", "configMap": {"name": "c"}}, {"name": "file-server", "emptyDir": {}}]});
        let note = |line: u32, paths: &str| {
            format!(
                "x.yaml:{line}: queue/q: overrides {paths}: a second `kubectl apply` of a manifest with another value fails (422)"
            )
        };
        let notes = [note(7, "spec.volumes[file-server]"), note(9, "fileMounts[/etc/pip.conf]")];
        assert_eq!(notices(Conflict::Override, &spec), notes);
    }

    #[test]
    fn a_class_that_a_manifest_may_set_to_null_gets_a_notice() {
        let spec = || json!({"priorityClassName": "high", "runtimeClassName": "nvidia"});
        let note = "x.yaml:7: queue/q: sets spec.priorityClassName, spec.runtimeClassName: a second `kubectl apply` of a \
            manifest that sets it to null, as charts do, fails (422); remove the key from such manifests";
        assert_eq!(notices(Conflict::Keep, &spec()), [note]);
        assert_eq!(notices(Conflict::Override, &spec()).len(), 1, "the notice about overrides covers every field");
    }

    #[test]
    fn labels_get_no_notice_and_a_toleration_gets_one() {
        assert_eq!(notices(Conflict::Override, &json!({})), Vec::<String>::new());
        let note = "x.yaml:7: queue/q: adds a toleration: a second `kubectl apply` of a manifest that sets any toleration fails (422)";
        assert_eq!(notices(Conflict::Keep, &json!({"tolerations": [{"key": "gpu"}]})), [note]);
    }
}
