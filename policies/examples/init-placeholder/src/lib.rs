//! Replaces a placeholder in init containers: in `command`, in `env` values, and in `mountPath` and `subPath` of their
//! mounts.
//!
//! `args` are not replaced, because podgraft hides them from modules.

use podgraft_sdk::serde_json::{Value, json};
use podgraft_sdk::{Fragment, Input, OrDeny, Outcome, Result, config_text};
use serde::Deserialize;

/// `modules.<name>.params`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    placeholder: String,
    value: Option<String>,
    /// path of `task_config` with the value; `value` is its default
    config: Option<String>,
    /// name of the only init container to change; all if absent
    init_container: Option<String>,
}

#[derive(Deserialize)]
struct Template {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    volume_mounts: Vec<Value>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: Option<String>,
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let params: Params = input.params()?;
    let containers = input.template::<Template>()?.spec.init_containers;
    let meant = |container: &&Container| params.init_container.as_ref().is_none_or(|name| *name == container.name);
    let used: Vec<&Container> =
        containers.iter().filter(meant).filter(|container| container.holds(&params.placeholder)).collect();
    if used.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    let swap = Swap { value: value(&params)?, placeholder: params.placeholder };
    let changes = used.into_iter().map(|container| container.changes(&swap));
    Ok(changes.fold(Fragment::new(), Fragment::init_container).into())
}

/// Returns the placeholder's value. Only tasks with the placeholder need one.
fn value(params: &Params) -> Result<String> {
    let found = params.config.as_deref().map(config_text).transpose()?.flatten();
    let missing = match &params.config {
        Some(path) => format!("task_config {path} is missing, which stands for {}", params.placeholder),
        None => format!("params has neither value nor config for {}", params.placeholder),
    };
    let value = found.or_else(|| params.value.clone()).or_deny(&missing)?;
    if params.placeholder.is_empty() {
        return Err("params.placeholder is empty".into());
    }
    // a second call would replace the placeholder within the value
    if value.contains(&params.placeholder) {
        return Err(format!("the value for {} holds {0} itself", params.placeholder).into());
    }
    Ok(value)
}

/// A placeholder and its value.
struct Swap {
    placeholder: String,
    value: String,
}

impl Swap {
    fn in_text(&self, text: &str) -> String {
        text.replace(&self.placeholder, &self.value)
    }
}

const MOUNT_PATHS: [&str; 2] = ["mountPath", "subPath"];

impl Container {
    fn holds(&self, placeholder: &str) -> bool {
        let mounts = self.volume_mounts.iter().flat_map(|mount| MOUNT_PATHS.map(|field| mount[field].as_str()));
        let env = self.env.iter().map(|variable| variable.value.as_deref());
        let command = self.command.iter().map(|word| Some(word.as_str()));
        command.chain(env).chain(mounts).flatten().any(|text| text.contains(placeholder))
    }

    /// Returns the container's entry of the fragment: the changed fields and their merge keys.
    fn changes(&self, swap: &Swap) -> Value {
        let mut entry = json!({"name": self.name});
        if self.command.iter().any(|word| word.contains(&swap.placeholder)) {
            entry["command"] = self.command.iter().map(|word| swap.in_text(word)).collect();
        }
        let env: Vec<Value> = self.env.iter().filter_map(|variable| variable.changed(swap)).collect();
        let mounts: Vec<Value> = self.volume_mounts.iter().flat_map(|mount| changed_mount(mount, swap)).collect();
        for (field, list) in [("env", env), ("volumeMounts", mounts)] {
            if !list.is_empty() {
                entry[field] = list.into();
            }
        }
        entry
    }
}

impl Variable {
    fn changed(&self, swap: &Swap) -> Option<Value> {
        let value = self.value.as_ref().filter(|value| value.contains(&swap.placeholder))?;
        Some(json!({"name": self.name, "value": swap.in_text(value)}))
    }
}

/// Returns the changes of a mount. Its path is its merge key, so a mount whose path changes is deleted and added.
fn changed_mount(mount: &Value, swap: &Swap) -> Vec<Value> {
    let mut changed = mount.clone();
    for field in MOUNT_PATHS {
        if let Some(text) = mount[field].as_str() {
            changed[field] = swap.in_text(text).into();
        }
    }
    if changed == *mount {
        return Vec::new();
    }
    if changed["mountPath"] == mount["mountPath"] {
        return vec![changed];
    }
    vec![json!({"mountPath": mount["mountPath"], "$patch": "delete"}), changed]
}

podgraft_sdk::hook!(update_template);

#[cfg(test)]
mod tests {
    use podgraft_sdk::testing::Call;

    use super::*;

    fn call(params: Value) -> Result<Value> {
        let mounts = json!([
            {"name": "a", "mountPath": "/x/MY_VAR", "subPath": "MY_VAR"}, {"name": "b", "mountPath": "/b", "subPath": "MY_VAR"},
            {"name": "c", "mountPath": "/c"},
        ]);
        let env = json!([{"name": "V", "value": "MY_VAR/MY_VAR"}, {"name": "W", "value": "w"}, {"name": "F", "valueFrom": {}}]);
        let init = json!([
            {"name": "prepare", "command": ["sh", "-c", "echo MY_VAR > MY_VAR"], "env": env, "volumeMounts": mounts},
            {"name": "other", "command": ["echo", "MY_VAR"]}, {"name": "plain", "command": ["true"]},
        ]);
        Call::new().template(json!({"spec": {"initContainers": init}})).params(params).run(update_template)
    }

    #[test]
    fn every_placeholder_is_replaced_and_nothing_else_changes() {
        let fragment = call(json!({"placeholder": "MY_VAR", "value": "seven"})).unwrap();
        let expected = json!([
            {"name": "prepare", "command": ["sh", "-c", "echo seven > seven"], "env": [{"name": "V", "value": "seven/seven"}],
             "volumeMounts": [
                {"mountPath": "/x/MY_VAR", "$patch": "delete"}, {"name": "a", "mountPath": "/x/seven", "subPath": "seven"},
                {"name": "b", "mountPath": "/b", "subPath": "seven"},
             ]},
            {"name": "other", "command": ["echo", "seven"]},
        ]);
        assert_eq!(fragment, json!({"spec": {"initContainers": expected}}));
    }

    #[test]
    fn one_container_can_be_selected() {
        let fragment = call(json!({"placeholder": "MY_VAR", "value": "7", "initContainer": "other"})).unwrap();
        assert_eq!(fragment["spec"]["initContainers"], json!([{"name": "other", "command": ["echo", "7"]}]));
    }

    #[test]
    fn a_task_without_the_placeholder_needs_no_value() {
        assert_eq!(call(json!({"placeholder": "NOT_THERE"})), Ok(Value::Null));
    }

    #[test]
    fn invalid_values_are_errors() {
        let wrong = |params: Value| call(params).unwrap_err().to_string();
        assert_eq!(wrong(json!({"placeholder": "MY_VAR"})), "params has neither value nor config for MY_VAR");
        assert_eq!(
            wrong(json!({"placeholder": "MY_VAR", "config": "a.b"})),
            "task_config a.b is missing, which stands for MY_VAR"
        );
        assert_eq!(
            wrong(json!({"placeholder": "MY_VAR", "value": "MY_VAR_2"})),
            "the value for MY_VAR holds MY_VAR itself"
        );
        assert_eq!(wrong(json!({"placeholder": "", "value": "x"})), "params.placeholder is empty");
    }
}
