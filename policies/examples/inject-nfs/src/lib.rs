//! Mounts the NFS export of the task's configuration into the task's container.
//!
//! ```yaml
//! nfs: {server: {ip: 10.0.0.7, path: /export/data}, mountPath: /mnt/nfs}
//! ```
//!
//! A task without an `nfs` section goes on as it is. The module's `params` may give `mountPath` for everybody whose
//! section has none, and `volume`, the volume's name.

use podgraft_sdk::serde_json::json;
use podgraft_sdk::{Fragment, Input, Outcome, Result, config};
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
#[serde(rename_all = "camelCase")]
struct Params {
    mount_path: Option<String>,
    volume: Option<String>,
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let Some(nfs) = config::<Nfs>("nfs")? else {
        return Ok(Outcome::Unchanged);
    };
    let params: Option<Params> = input.params()?;
    let (default_path, volume) = params.map_or((None, None), |params| (params.mount_path, params.volume));
    let volume = volume.as_deref().unwrap_or("custom-mount");

    let (server, path) = nfs.server.map_or((None, None), |server| (server.ip, server.path));
    let server = given(server, "task_config nfs.server.ip")?;
    let path = given(path, "task_config nfs.server.path")?;
    let mount_path = given(nfs.mount_path.or(default_path), "task_config nfs.mountPath (or params.mountPath)")?;

    Ok(Fragment::new().volume(volume, "nfs", json!({"server": server, "path": path})).mount(volume, &mount_path).into())
}

/// A value that is there and not empty.
fn given(value: Option<String>, name: &str) -> Result<String> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} is missing"))
}

podgraft_sdk::hook!(update_template);
