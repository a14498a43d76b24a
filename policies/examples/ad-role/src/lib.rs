//! Adds the volumes of the user's role to a task.
//!
//! The identity provider's data about the user (`providers_info`) name one role or several. A task whose user has no
//! role of `params.roles` is unchanged or denied.

use std::collections::BTreeMap;

use podgraft_sdk::serde_json::{Map, Value};
use podgraft_sdk::{Error, Fragment, Input, Outcome, Result};
use serde::Deserialize;

#[derive(Deserialize)]
struct Request {
    providers_info: Option<Map<String, Value>>,
}

/// `modules.<name>.params`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    /// key of `providers_info` with the role
    #[serde(default = "ad_role")]
    info: String,
    roles: BTreeMap<String, Role>,
    #[serde(default)]
    unknown_role: UnknownRole,
}

/// The volumes of a role, in the form of a pod's spec.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Role {
    #[serde(default)]
    volumes: Vec<Value>,
    #[serde(default)]
    volume_mounts: Vec<Value>,
}

/// The rule for a task whose user has no known role.
#[derive(Deserialize, Default, PartialEq)]
enum UnknownRole {
    #[default]
    Ignore,
    Deny,
}

fn ad_role() -> String {
    "ad-role".to_owned()
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let params: Params = input.params()?;
    let info = input.request::<Request>()?.providers_info.unwrap_or_default();
    let own = roles(info.get(&params.info), &params.info)?;
    let mut known = params.roles.into_iter().filter(|(name, _)| own.contains(&name.as_str())).peekable();
    if known.peek().is_none() && params.unknown_role == UnknownRole::Deny {
        return Err(Error::new(format!("the user has no role for this queue (providers_info {})", params.info)));
    }
    let fragment = known.fold(Fragment::new(), |fragment, (_, role)| {
        let fragment = role.volumes.into_iter().fold(fragment, Fragment::volume_with);
        role.volume_mounts.into_iter().fold(fragment, Fragment::mount_with)
    });
    Ok(fragment.into())
}

/// Returns the user's roles. A provider gives one role as text and several as a list.
fn roles<'i>(info: Option<&'i Value>, key: &str) -> Result<Vec<&'i str>> {
    let items = match info {
        None | Some(Value::Null) => &[],
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    texts.ok_or_else(|| Error::new(format!("providers_info {key} is neither text nor a list of texts")))
}

podgraft_sdk::hook!(update_template);

#[cfg(test)]
mod tests {
    use podgraft_sdk::serde_json::json;
    use podgraft_sdk::testing::Call;

    use super::*;

    fn call(info: Value, unknown_role: &str) -> Result<Value> {
        let volume = |name: &str| json!({"volumes": [{"name": name, "emptyDir": {}}], "volumeMounts": []});
        let roles = json!({"analyst": volume("reports"), "engineer": volume("models")});
        let params = json!({"roles": roles, "unknownRole": unknown_role});
        Call::new().params(params).request("providers_info", info).run(update_template)
    }

    fn volumes(info: Value) -> Vec<String> {
        let fragment = call(info, "Ignore").unwrap();
        let volumes = fragment["spec"]["volumes"].as_array().unwrap();
        volumes.iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_volumes_of_all_roles_are_added() {
        assert_eq!(volumes(json!({"ad-role": "analyst"})), ["reports"]);
        assert_eq!(volumes(json!({"ad-role": ["engineer", "guest", "analyst"]})), ["reports", "models"]);
    }

    #[test]
    fn a_user_without_a_known_role_is_ignored_or_denied() {
        for info in [json!({}), json!({"ad-role": null}), json!({"ad-role": "guest"})] {
            assert_eq!(call(info.clone(), "Ignore"), Ok(Value::Null));
            let denial = call(info, "Deny").unwrap_err().to_string();
            assert_eq!(denial, "the user has no role for this queue (providers_info ad-role)");
        }
    }

    #[test]
    fn an_invalid_role_is_an_error() {
        let wrong = call(json!({"ad-role": {"a": 1}}), "Ignore").unwrap_err().to_string();
        assert_eq!(wrong, "providers_info ad-role is neither text nor a list of texts");
    }
}
