//! my-module: mounts the claim that the task's configuration names (`cache.claim`) into the task's container.

use podgraft_sdk::{Fragment, Input, OrDeny, Outcome, Result, config_text};
use serde::Deserialize;

/// `modules.<name>.params` of podgraft's configuration.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    mount_path: Option<String>,
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let Some(claim) = config_text("cache.claim")? else {
        return Ok(Outcome::Unchanged); // this task has no cache
    };
    let path = input
        .params::<Params>()?
        .mount_path
        .or_deny("params.mountPath is missing")?;
    Ok(Fragment::new()
        .claim("cache", &claim)
        .mount("cache", &path)
        .env("CACHE_DIR", &path)
        .into())
}

podgraft_sdk::hook!(update_template);

#[cfg(test)]
mod tests {
    use podgraft_sdk::serde_json::{Value, json};
    use podgraft_sdk::testing::Call;

    use super::*;

    #[test]
    fn the_claim_is_mounted() {
        let call = Call::new()
            .params(json!({"mountPath": "/cache"}))
            .task_config(json!({"cache": {"claim": "team-a"}}));
        let fragment = call.run(update_template).unwrap();
        let volume = json!({"name": "cache", "persistentVolumeClaim": {"claimName": "team-a"}});
        assert_eq!(fragment["spec"]["volumes"], json!([volume]));
        assert_eq!(
            fragment["spec"]["containers"][0]["volumeMounts"],
            json!([{"name": "cache", "mountPath": "/cache"}])
        );
    }

    #[test]
    fn a_task_without_a_cache_is_unchanged() {
        assert_eq!(Call::new().run(update_template), Ok(Value::Null));
    }
}
