//! Sets variables of the task's container by name; the others and their order stay.

use podgraft_sdk::serde_json::{Value, json};
use podgraft_sdk::{Fragment, Input, OrDeny, Outcome, Result, config_text};
use serde::Deserialize;

/// `modules.<name>.params`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    env: Vec<Variable>,
    /// true to set variables that the pod has already, too
    #[serde(default = "yes")]
    overwrite: bool,
}

/// A variable in the form of a pod's spec; `config` is a path of `task_config`, and `value` is its default.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Variable {
    name: String,
    value: Option<String>,
    value_from: Option<Value>,
    config: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    primary_container: Option<String>,
}

#[derive(Deserialize)]
struct Template {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    env: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

fn yes() -> bool {
    true
}

fn update_template(input: Input<'_>) -> Result<Outcome> {
    let params: Params = input.params()?;
    let own = if params.overwrite { Vec::new() } else { own_env(input)? };
    let mut fragment = Fragment::new();
    for variable in params.env.into_iter().filter(|variable| !own.iter().any(|own| own.name == variable.name)) {
        fragment = fragment.env_with(variable.resolve()?);
    }
    Ok(fragment.into())
}

/// Returns the variables that the task's container has already.
fn own_env(input: Input<'_>) -> Result<Vec<Named>> {
    let primary =
        input.request::<Request>()?.primary_container.or_deny("the primary container cannot be determined")?;
    let containers = input.template::<Template>()?.spec.containers;
    Ok(containers.into_iter().find(|container| container.name == primary).map_or_else(Vec::new, |found| found.env))
}

impl Variable {
    fn resolve(self) -> Result<Value> {
        let Self { name, value, value_from, config } = self;
        if let Some(source) = value_from {
            if value.is_some() || config.is_some() {
                return Err(format!("params.env {name} has valueFrom beside value or config").into());
            }
            return Ok(json!({"name": name, "valueFrom": source}));
        }
        let missing = match &config {
            Some(path) => format!("task_config {path} is missing, and params.env {name} has no value for that case"),
            None => format!("params.env {name} has neither value, valueFrom nor config"),
        };
        let found = config.as_deref().map(config_text).transpose()?.flatten();
        Ok(json!({"name": name, "value": found.or(value).or_deny(&missing)?}))
    }
}

podgraft_sdk::hook!(update_template);

#[cfg(test)]
mod tests {
    use podgraft_sdk::testing::Call;

    use super::*;

    fn call(params: Value) -> Result<Value> {
        let pod = json!({"spec": {"containers": [{"name": "other"}, {"name": "main", "env": [{"name": "OWN"}]}]}});
        Call::new().template(pod).task_config(json!({"proxy": {"port": 3128}})).params(params).run(update_template)
    }

    fn env(params: Value) -> Value {
        call(params).unwrap()["spec"]["containers"][0]["env"].take()
    }

    #[test]
    fn variables_come_from_params_and_from_the_configuration() {
        let params = json!({"env": [
            {"name": "FOO", "value": "bar"},
            {"name": "PORT", "config": "proxy.port", "value": "80"},
            {"name": "HOST", "config": "proxy.host", "value": "proxy"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]});
        let expected = json!([
            {"name": "FOO", "value": "bar"},
            {"name": "PORT", "value": "3128"},
            {"name": "HOST", "value": "proxy"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]);
        assert_eq!(env(params), expected);
    }

    #[test]
    fn without_overwrite_the_pods_own_variable_stays() {
        let params = |overwrite: bool| json!({"overwrite": overwrite, "env": [{"name": "OWN", "value": "x"}]});
        assert_eq!(call(params(false)), Ok(Value::Null));
        assert_eq!(env(params(true)), json!([{"name": "OWN", "value": "x"}]));
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let wrong = |variable: Value| call(json!({"env": [variable]})).unwrap_err().to_string();
        assert_eq!(wrong(json!({"name": "FOO"})), "params.env FOO has neither value, valueFrom nor config");
        assert_eq!(
            wrong(json!({"name": "FOO", "config": "proxy.user"})),
            "task_config proxy.user is missing, and params.env FOO has no value for that case"
        );
        assert_eq!(
            wrong(json!({"name": "FOO", "value": "", "valueFrom": {}})),
            "params.env FOO has valueFrom beside value or config"
        );
        assert!(wrong(json!({"nmae": "FOO"})).starts_with("params: unknown field `nmae`, expected one of `name`"));
    }
}
