//! Points a volume, which is found by its name, at the task's own claim.

use podgraft_sdk::serde_json::{Map, Value, json};
use podgraft_sdk::{Error, Fragment, Input, OrDeny, Outcome, Result};
use serde::Deserialize;

/// `modules.<name>.params`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    volume: String,
    /// name of the claim
    #[serde(default = "claim_name")]
    claim: String,
    /// `subPath` of the task's mounts of the volume
    sub_path: Option<String>,
}

/// The placeholder of the task's id in `params`.
const ID: &str = "{id}";

/// Returns the default name of a claim, which is the agent's name of the task's pod.
fn claim_name() -> String {
    format!("clearml-id-{ID}")
}

#[derive(Deserialize)]
struct Request {
    task_data: TaskData,
    primary_container: Option<String>,
}

#[derive(Deserialize)]
struct TaskData {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Template {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    volumes: Vec<Volume>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    volume_mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    name: String,
    mount_path: String,
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let params: Params = input.params()?;
    let spec = input.template::<Template>()?.spec;
    let Some(volume) = spec.volumes.into_iter().find(|volume| volume.name == params.volume) else {
        return Ok(Outcome::Unchanged);
    };
    let Some(mut claim) = volume.persistent_volume_claim else {
        return Err(Error::new(format!("the volume {} is not over a claim (persistentVolumeClaim)", params.volume)));
    };
    let request: Request = input.request()?;
    let id = request.task_data.id.as_deref();
    claim.insert("claimName".to_owned(), with_id(&params.claim, id)?.into());
    let mut fragment = Fragment::new().volume(&params.volume, "persistentVolumeClaim", Value::Object(claim));
    if let Some(sub_path) = &params.sub_path {
        let sub_path = with_id(sub_path, id)?;
        let primary = request.primary_container.or_deny("the primary container cannot be determined")?;
        let mounts = mounts(spec.containers, &primary, &params.volume);
        if mounts.is_empty() {
            return Err(Error::new(format!("the task's container does not mount the volume {}", params.volume)));
        }
        let with_path = |mount: Mount| json!({"name": mount.name, "mountPath": mount.mount_path, "subPath": sub_path});
        fragment = mounts.into_iter().map(with_path).fold(fragment, Fragment::mount_with);
    }
    Ok(fragment.into())
}

/// Returns the mounts of a volume in a container; there may be several at different paths.
fn mounts(containers: Vec<Container>, container: &str, volume: &str) -> Vec<Mount> {
    let found = containers.into_iter().find(|other| other.name == container);
    let mounts = found.map_or_else(Vec::new, |found| found.volume_mounts);
    mounts.into_iter().filter(|mount| mount.name == volume).collect()
}

fn with_id(text: &str, id: Option<&str>) -> Result<String> {
    if !text.contains(ID) {
        return Ok(text.to_owned());
    }
    Ok(text
        .replace(ID, id.or_deny("the task's id is not known: the pod does not come from a submitter of its system")?))
}

podgraft_sdk::hook!(update_template);

#[cfg(test)]
mod tests {
    use podgraft_sdk::testing::Call;

    use super::*;

    fn call(params: Value, id: Option<&str>) -> Result<Value> {
        let volumes = json!([
            {"name": "kube-api-access-x", "projected": {}}, {"name": "tmp", "emptyDir": {}},
            {"name": "task-pvc", "persistentVolumeClaim": {"claimName": "placeholder", "readOnly": true}},
        ]);
        let mounts = json!([
            {"name": "tmp", "mountPath": "/tmp"}, {"name": "task-pvc", "mountPath": "/a"}, {"name": "task-pvc", "mountPath": "/b"},
        ]);
        let pod = json!({"spec": {"volumes": volumes, "containers": [{"name": "side"}, {"name": "main", "volumeMounts": mounts}]}});
        Call::new().template(pod).params(params).request("task_data", json!({"id": id})).run(update_template)
    }

    #[test]
    fn the_volume_keeps_its_other_fields() {
        let fragment = call(json!({"volume": "task-pvc"}), Some("42")).unwrap();
        let claim = json!({"claimName": "clearml-id-42", "readOnly": true});
        assert_eq!(fragment, json!({"spec": {"volumes": [{"name": "task-pvc", "persistentVolumeClaim": claim}]}}));
    }

    #[test]
    fn every_mount_of_the_volume_gets_the_sub_path() {
        let params = json!({"volume": "task-pvc", "claim": "shared", "subPath": "tasks/{id}"});
        let fragment = call(params, Some("42")).unwrap();
        assert_eq!(fragment["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "shared");
        let mount = |path: &str| json!({"name": "task-pvc", "mountPath": path, "subPath": "tasks/42"});
        assert_eq!(fragment["spec"]["containers"][0]["volumeMounts"], json!([mount("/a"), mount("/b")]));
    }

    #[test]
    fn a_pod_without_the_volume_is_unchanged() {
        assert_eq!(call(json!({"volume": "other"}), None), Ok(Value::Null));
    }

    #[test]
    fn invalid_pods_and_params_are_errors() {
        let wrong = |params: Value, id: Option<&str>| call(params, id).unwrap_err().to_string();
        assert_eq!(
            wrong(json!({"volume": "tmp"}), Some("42")),
            "the volume tmp is not over a claim (persistentVolumeClaim)"
        );
        assert_eq!(
            wrong(json!({"volume": "task-pvc"}), None),
            "the task's id is not known: the pod does not come from a submitter of its system"
        );
        assert_eq!(wrong(json!({}), Some("42")), "params: missing field `volume`");
    }
}
