//! The value of one placeholder.

use serde_json::Value;

use super::{Facts, Field, Operator, Placeholder, Unfilled, look_up};

impl Placeholder<'_> {
    pub(super) fn value(&self, facts: &Facts<'_>) -> Result<String, Unfilled> {
        let unfilled = |why: &str| Unfilled { text: self.text.to_owned(), why: why.to_owned() };
        let known = match self.field {
            Field::TaskId => facts.task_id.map(str::to_owned).ok_or(NOBODY_VOUCHES),
            Field::User => facts.user.map(str::to_owned).ok_or(NOBODY_VOUCHES),
            Field::QueueId => facts.queue_id.map(str::to_owned).ok_or("is empty: the pod's queue has no id"),
            Field::QueueName => facts.queue_name.map(str::to_owned).ok_or("is empty: the pod names no queue"),
            Field::PodName => facts.pod_name.map(str::to_owned).ok_or(NO_NAME),
            Field::Namespace => Ok(facts.namespace.to_owned()),
            Field::Environment => facts.environment.map(str::to_owned).ok_or("is empty: no environment applies"),
            Field::WorkerId => facts.worker_id.map(str::to_owned).ok_or("is empty: the pod has no CLEARML_WORKER_ID"),
            Field::TaskConfig => {
                in_tree(facts.task_config, self.path, "has no value: taskConfig has nothing of that name for the pod")
            }
            Field::ProvidersInfo => in_tree(
                facts.providers_info,
                self.path,
                "has no value: providersInfo has nothing of that name for the pod",
            ),
        };
        let value = known.or_else(|why| self.default.map(str::to_owned).ok_or_else(|| unfilled(why)))?;
        Ok(self.operators.iter().fold(value, |value, operator| operator.applied(&value)))
    }
}

const NOBODY_VOUCHES: &str = "is not known: nobody whose word counts (systems.<name>.submitters) made the pod";
const NO_NAME: &str = "is not known: the pod's name is not made yet";

/// A scalar as text, a list of them with commas between.
fn in_tree(tree: &Value, path: &str, missing: &'static str) -> Result<String, &'static str> {
    match look_up(tree, path) {
        None | Some(Value::Null) => Err(missing),
        Some(Value::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            texts.map(|texts| texts.join(",")).ok_or("is a list of more than plain values")
        }
        Some(value) => scalar(value).ok_or("is a map, and a text can hold a plain value or a list only"),
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
    fn applied(self, value: &str) -> String {
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
