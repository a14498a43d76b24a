//! A layer's placeholders, filled for one pod.

use std::sync::Arc;

use serde_json::Value;

use super::placeholder_check::first_invalid_value;
use super::{Reason, Denial, Work};
use crate::json::Json;
use crate::mutate::plan;
use crate::model::placeholder::{self, Facts};
use crate::mutate::redact::Redactor;
use crate::model::snapshot::Layer;
use crate::model::task::Pod;

/// What the configuration knows of a pod's user, queue and namespace.
pub(super) struct TaskFacts {
    pub(super) task_config: Arc<Value>,
    pub(super) providers: Arc<Value>,
}

impl<'w, 'a> Work<'w, 'a> {
    /// What the configuration knows, gathered when the first layer or module asks.
    pub(super) fn task_facts(&self) -> &'w TaskFacts {
        self.known.get_or_init(|| TaskFacts {
            task_config: layers::vault(&self.snapshot.task_config, self.task, &self.pod, self.plan.queue),
            providers: layers::vault(&self.snapshot.providers_info, self.task, &self.pod, self.plan.queue),
        })
    }

    /// The queue's name as it is configured, or else as the pod spells it.
    pub(super) fn queue_name(&self) -> Option<&'w str> {
        self.plan.queue.map_or(self.task.queue_name, |queue| Some(queue.name.as_str()))
    }

    /// ClearML's `<worker>:<task id>`.
    pub(super) fn worker_id(&self) -> Option<&'a str> {
        let is_primary =
            |container: &&Json<'a>| container.get("name").is_some_and(|name| name.as_str() == self.task.primary);
        Pod::env(self.pod.containers().iter().find(is_primary)?, "CLEARML_WORKER_ID")
    }

    pub(super) fn fill_placeholders(&self, layer: &'a Layer) -> Result<Json<'a>, Denial> {
        let known = self.task_facts();
        let facts = Facts {
            task_id: self.task.id.as_deref(),
            user: self.task.user,
            queue_id: self.task.queue_id.or_else(|| self.plan.queue.and_then(|queue| queue.id.as_deref())),
            queue_name: self.queue_name(),
            pod_name: self.pod.display_name(),
            namespace: self.pod.namespace,
            environment: self.plan.environment,
            worker_id: self.worker_id(),
            task_config: &known.task_config,
            providers_info: &known.providers,
        };
        let refused = |what: String| {
            let message = format!("{} ({}:{}): {what}", layer.source, layer.file, layer.line);
            Denial::new(Reason::Placeholder, message)
        };
        let filled = placeholder::fill(&layer.fragment, &facts, self.arena);
        let filled = filled.map_err(|unfilled| refused(unfilled.to_string()))?;
        first_invalid_value(&layer.fragment, filled).map_or(Ok(filled), |what| Err(refused(what)))
    }

    /// A refusal may name a path, and a path may hold what a placeholder was filled with.
    pub(super) fn redact_denial(&self, rejection: Denial) -> Denial {
        if rejection.reason == Reason::Placeholder || !self.plan.layers.iter().any(|layer| layer.placeholders) {
            return rejection;
        }
        let known = self.task_facts();
        let redactor = Redactor::new(&[], &[&known.task_config, &known.providers], self.arena);
        Denial { message: redactor.text(&rejection.message), ..rejection }
    }
}
