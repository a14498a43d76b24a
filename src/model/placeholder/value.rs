//! Looks up the value of a placeholder.

use serde_json::Value;

use super::{Facts, Field, Operator, Placeholder, PlaceholderError, look_up};

impl Placeholder<'_> {
    pub(super) fn value(&self, facts: &Facts<'_>) -> Result<String, PlaceholderError> {
        let error = |message: &str| PlaceholderError { text: self.text.to_owned(), message: message.to_owned() };
        let value = match self.field {
            Field::TaskId => facts.task_id.map(str::to_owned).ok_or(NOT_TRUSTED),
            Field::User => facts.user.map(str::to_owned).ok_or(NOT_TRUSTED),
            Field::QueueId => facts.queue_id.map(str::to_owned).ok_or("is empty: the pod's queue has no id"),
            Field::QueueName => facts.queue_name.map(str::to_owned).ok_or("is empty: the pod names no queue"),
            Field::PodName => facts.pod_name.map(str::to_owned).ok_or(NO_NAME),
            Field::Namespace => Ok(facts.namespace.to_owned()),
            Field::Environment => facts.environment.map(str::to_owned).ok_or("is empty: no environment applies"),
            Field::WorkerId => facts.worker_id.map(str::to_owned).ok_or("is empty: the pod has no CLEARML_WORKER_ID"),
            Field::TaskConfig => {
                in_tree(facts.task_config, self.path, "has no value: taskConfig has no such key for the pod")
            }
            Field::ProvidersInfo => {
                in_tree(facts.providers_info, self.path, "has no value: providersInfo has no such key for the pod")
            }
        };
        let value = value.or_else(|message| self.default.map(str::to_owned).ok_or_else(|| error(message)))?;
        Ok(self.operators.iter().fold(value, |value, operator| operator.apply(&value)))
    }
}

const NOT_TRUSTED: &str = "has no value: the pod was not created by a trusted submitter (systems.<name>.submitters)";
const NO_NAME: &str = "has no value: the pod's name is not generated yet";

/// Returns a scalar as text, a list of scalars with commas between.
fn in_tree(tree: &Value, path: &str, missing: &'static str) -> Result<String, &'static str> {
    match look_up(tree, path) {
        None | Some(Value::Null) => Err(missing),
        Some(Value::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            texts.map(|texts| texts.join(",")).ok_or("is a list whose elements are not plain values")
        }
        Some(value) => scalar(value).ok_or("is a map; only a plain value or a list can be inserted into a text"),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

impl Operator {
    fn apply(self, value: &str) -> String {
        match self {
            Operator::Strip => value.trim().to_owned(),
            Operator::Lower => value.to_lowercase(),
            Operator::Capitalize => {
                let mut letters = value.chars();
                let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
                first + &letters.as_str().to_lowercase()
            }
            Operator::RemoveNewlines => value.replace(['\r', '\n'], ""),
            Operator::Raw => value.to_owned(),
        }
    }
}
