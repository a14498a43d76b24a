//! Calls a hook natively, for `cargo test` in a module's crate without wasm.

use std::cell::RefCell;

use serde_json::{Map, Value, json};

use crate::bindings::podgraft::template::host::Level;
use crate::error::read;
use crate::{Input, Outcome, Result};

/// The arguments of one call. The defaults are those of a pod without configuration: empty `params`,
/// `providers_info` and `task_config`, a null `task_data.id`, a pod with one container called `main`.
///
/// ```
/// use podgraft_sdk::{Fragment, Input, Outcome, Result, config_text, serde_json::json, testing::Call};
///
/// fn update_template(_: Input<'_>) -> Result<Outcome> {
///     Ok(config_text("proxy")?.map_or(Outcome::Unchanged, |proxy| Fragment::new().env("HTTPS_PROXY", &proxy).into()))
/// }
///
/// assert_eq!(Call::new().run(update_template), Ok(json!(null)));
/// let fragment = Call::new().task_config(json!({"proxy": "http://proxy:3128"})).run(update_template).unwrap();
/// assert_eq!(fragment["spec"]["containers"][0]["env"][0]["value"], "http://proxy:3128");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a call does nothing until it is run"]
pub struct Call {
    request: Map<String, Value>,
    template: Value,
    task_config: Value,
}

impl Default for Call {
    fn default() -> Self {
        Self::new()
    }
}

impl Call {
    /// Creates a call with the defaults.
    pub fn new() -> Self {
        let fields = [
            ("queue", Value::Null),
            ("queue_name", Value::Null),
            ("task_data", json!({"id": null, "user": null})),
            ("providers_info", json!({})),
            ("worker", json!({"worker_id": null, "namespace": "default", "kind": "Pod"})),
            ("params", json!({})),
            ("environment", Value::Null),
            ("namespace", json!("default")),
            ("primary_container", json!("main")),
            ("dry_run", json!(false)),
        ];
        Self {
            request: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            template: json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main"}]}}),
            task_config: json!({}),
        }
    }

    /// Sets the `params`.
    pub fn params(self, params: Value) -> Self {
        self.request("params", params)
    }

    /// Sets a field of the request: `queue_name`, `task_data`, `providers_info` and so on.
    pub fn request(mut self, field: &str, value: Value) -> Self {
        self.request.insert(field.to_owned(), value);
        self
    }

    /// Sets the tree that [`config`](crate::config) reads.
    pub fn task_config(mut self, tree: Value) -> Self {
        self.task_config = tree;
        self
    }

    /// Sets the pod.
    pub fn template(mut self, pod: Value) -> Self {
        self.template = pod;
        self
    }

    /// Calls the hook; returns its fragment or template, or null for [`Outcome::Unchanged`]. The hook's log goes to
    /// stderr.
    pub fn run(&self, hook: impl FnOnce(Input<'_>) -> Result<Outcome>) -> Result<Value> {
        TASK_CONFIG.set(self.task_config.clone());
        let (request, template) = (Value::Object(self.request.clone()).to_string(), self.template.to_string());
        match hook(Input::new(&request, &template))? {
            Outcome::Unchanged => Ok(Value::Null),
            Outcome::Template(text) => read(&text, "the template that the hook returned"),
            Outcome::Fragment(text) => read(&text, "the fragment that the hook returned"),
        }
    }
}

thread_local! {
    /// The configuration of this thread's call; each test has a thread of its own.
    static TASK_CONFIG: RefCell<Value> = const { RefCell::new(Value::Null) };
}

/// The host's `config-get`.
pub(crate) fn config_get(path: &str) -> Option<String> {
    TASK_CONFIG.with_borrow(|tree| look_up(tree, path).map(Value::to_string))
}

/// The host's `log`.
pub(crate) fn log(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

fn look_up<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    let (element, rest) = match path.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => path.split_at(path.find('.').unwrap_or(path.len())),
    };
    let value = tree.as_object()?.get(element)?;
    if rest.is_empty() { Some(value) } else { look_up(value, rest.strip_prefix('.')?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, config_text};

    #[test]
    fn the_configuration_is_looked_up_by_path() {
        let call = Call::new().task_config(json!({"a": {"b": 1, "c": null}, "x.y": {"z": ["l"]}, "flag": true}));
        let outcome = call.run(|_| {
            assert_eq!(config::<u8>("a.b")?, Some(1));
            assert_eq!(config::<u8>("a.c")?, None);
            assert_eq!(config::<u8>("a.b.c")?, None);
            assert_eq!(config::<Vec<String>>("\"x.y\".z")?, Some(vec!["l".to_owned()]));
            assert_eq!((config_text("flag")?, config_text("a.b")?), (Some("true".to_owned()), Some("1".to_owned())));
            let wrong = config::<u8>("flag").unwrap_err().to_string();
            assert_eq!(wrong, "task_config flag: invalid type: boolean `true`, expected u8");
            assert_eq!(config_text("a").unwrap_err().to_string(), "task_config a is a map, text is expected");
            Ok(Outcome::Unchanged)
        });
        assert_eq!(outcome, Ok(Value::Null));
    }

    #[test]
    fn a_result_that_is_not_json_is_an_error() {
        let error = Call::new().run(|_| Ok(Outcome::Fragment("{".to_owned()))).unwrap_err();
        assert_eq!(error.to_string(), "the fragment that the hook returned: EOF while parsing an object");
    }
}
