//! Mounts the NFS export of the task's configuration into the task's container.
//!
//! ```yaml
//! nfs: {server: {ip: 10.0.0.7, path: /export/data}, mountPath: /mnt/nfs}
//! ```
//!
//! A task without an `nfs` section is unchanged. The module's `params` may have a default `mountPath` for sections
//! without one, and `volume`, the volume's name.

use podgraft_sdk::serde_json::json;
use podgraft_sdk::{Fragment, Input, OrDeny, Outcome, Result, config};
use serde::Deserialize;

/// `task_config.nfs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Nfs {
    server: Option<Server>,
    mount_path: Option<String>,
}

#[derive(Deserialize)]
struct Server {
    ip: Option<String>,
    path: Option<String>,
}

/// `modules.<name>.params`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    mount_path: Option<String>,
    volume: Option<String>,
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let Some(nfs) = config::<Nfs>("nfs")? else {
        return Ok(Outcome::Unchanged);
    };
    let params: Params = input.params()?;
    let volume = params.volume.as_deref().unwrap_or("custom-mount");

    let (server, path) = nfs.server.map_or((None, None), |server| (server.ip, server.path));
    let server = given(server, "task_config nfs.server.ip")?;
    let path = given(path, "task_config nfs.server.path")?;
    let mount_path = given(nfs.mount_path.or(params.mount_path), "task_config nfs.mountPath (or params.mountPath)")?;

    Ok(Fragment::new().volume(volume, "nfs", json!({"server": server, "path": path})).mount(volume, &mount_path).into())
}

/// Returns a value that is present and not empty.
fn given(value: Option<String>, name: &str) -> Result<String> {
    value.filter(|value| !value.is_empty()).or_deny(&format!("{name} is missing"))
}

podgraft_sdk::hook!(update_template);

#[cfg(test)]
mod tests {
    use podgraft_sdk::serde_json::Value;
    use podgraft_sdk::testing::Call;

    use super::*;

    fn call(nfs: &Value) -> Result<Value> {
        Call::new().params(json!({"mountPath": "/mnt/nfs"})).task_config(json!({"nfs": nfs})).run(update_template)
    }

    #[test]
    fn the_export_becomes_a_volume_and_a_mount() {
        let fragment = call(&json!({"server": {"ip": "10.0.0.7", "path": "/export"}})).unwrap();
        let volume = json!({"name": "custom-mount", "nfs": {"server": "10.0.0.7", "path": "/export"}});
        assert_eq!(fragment["spec"]["volumes"], json!([volume]));
        let mount = json!({"name": "custom-mount", "mountPath": "/mnt/nfs"});
        assert_eq!(fragment["spec"]["containers"][0]["volumeMounts"], json!([mount]));
    }

    #[test]
    fn a_task_without_nfs_is_unchanged_and_an_incomplete_one_is_denied() {
        assert_eq!(call(&Value::Null), Ok(Value::Null));
        let denial = call(&json!({"server": {"ip": "", "path": "/export"}})).unwrap_err().to_string();
        assert_eq!(denial, "task_config nfs.server.ip is missing");
    }
}
