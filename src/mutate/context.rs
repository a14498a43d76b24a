//! The values of one request that stay the same while the pod changes.

use std::cell::OnceCell;
use std::sync::Arc;

use bumpalo::Bump;
use serde_json::Value;

use super::applied::Applied;
use super::mutation::Mutation;
use super::placeholder_check::first_invalid_value;
use crate::json::Json;
use crate::k8s::managed_fields::ManagedFields;
use crate::merge::layer::Layer;
use crate::model::denial::{Denial, Reason};
use crate::model::hook::Execution;
use crate::model::placeholder::{self, Facts};
use crate::model::pod::Pod;
use crate::model::review::{Review, truncate};
use crate::model::snapshot::Snapshot;
use crate::model::task::Task;
use crate::mutate::plan::Plan;
use crate::mutate::redact::Redactor;
use crate::mutate::task_config;

/// Characters of a label's value that a notice repeats: as many as the API server allows.
const MAX_LABEL_CHARS: usize = 63;

/// One request, its task and its plan.
pub(super) struct Context<'w, 'a> {
    pub(super) arena: &'a Bump,
    pub(super) review: &'w Review<'a>,
    pub(super) pod: Pod<'a>,
    pub(super) task: &'w Task<'a, 'a>,
    pub(super) plan: &'w Plan<'a>,
    pub(super) managed_fields: &'w ManagedFields<'a>,
    pub(super) snapshot: &'a Snapshot,
    /// the place where hooks run
    pub(super) execution: Execution<'w>,
    pub(super) facts: OnceCell<TaskFacts>,
}

/// The part of `taskConfig` and `providersInfo` that is for one pod.
pub(super) struct TaskFacts {
    pub(super) task_config: Arc<Value>,
    pub(super) providers: Arc<Value>,
}

impl<'w, 'a> Context<'w, 'a> {
    /// Returns the configuration's facts about this pod. They are gathered when a layer or module first needs them.
    pub(super) fn task_facts(&self) -> &TaskFacts {
        self.facts.get_or_init(|| TaskFacts {
            task_config: task_config::vault(&self.snapshot.task_config, self.task, &self.pod, self.plan.queue),
            providers: task_config::vault(&self.snapshot.providers_info, self.task, &self.pod, self.plan.queue),
        })
    }

    /// Returns the queue's configured name, or the pod's spelling if the queue is not configured.
    pub(super) fn queue_name(&self) -> Option<&'w str> {
        self.plan.queue.map_or(self.task.queue_name, |queue| Some(queue.name.as_str()))
    }

    /// Returns ClearML's `<worker>:<task id>`.
    pub(super) fn worker_id(&self) -> Option<&'a str> {
        let is_primary =
            |container: &&Json<'a>| container.get("name").is_some_and(|name| name.as_str() == self.task.primary);
        Pod::env(self.pod.containers().iter().find(is_primary)?, "CLEARML_WORKER_ID")
    }

    /// Fills a layer's placeholders for this pod, and checks the result against the rules of its fields.
    pub(super) fn fill_placeholders(&self, layer: &'a Layer) -> Result<Json<'a>, Denial> {
        let configured = self.task_facts();
        let facts = Facts {
            task_id: self.task.id.as_deref(),
            user: self.task.user,
            queue_id: self.task.queue_id.or_else(|| self.plan.queue.and_then(|queue| queue.id.as_deref())),
            queue_name: self.queue_name(),
            pod_name: self.pod.display_name(),
            namespace: self.pod.namespace,
            environment: self.plan.environment,
            worker_id: self.worker_id(),
            task_config: &configured.task_config,
            providers_info: &configured.providers,
        };
        let denied = |what: String| {
            let message = format!("{} ({}:{}): {what}", layer.source, layer.file, layer.line);
            Denial::new(Reason::Placeholder, message)
        };
        let filled = placeholder::fill(&layer.fragment, &facts, self.arena);
        let filled = filled.map_err(|unfilled| denied(unfilled.to_string()))?;
        first_invalid_value(&layer.fragment, filled).map_or(Ok(filled), |what| Err(denied(what)))
    }

    /// Redacts a denial's text: a path in it may hold a placeholder's value.
    pub(super) fn redact_denial(&self, denial: Denial) -> Denial {
        if denial.reason == Reason::Placeholder || !self.plan.layers.iter().any(|layer| layer.placeholders) {
            return denial;
        }
        let facts = self.task_facts();
        let redactor = Redactor::new(&[], &[&facts.task_config, &facts.providers], self.arena);
        Denial { message: redactor.text(&denial.message), ..denial }
    }

    /// Turns the pod after the last step into the mutation that callers see.
    pub(super) fn mutation(&self, applied: Applied<'_, 'a>) -> Mutation<'a> {
        let unknown = self.plan.queue.is_none().then(|| self.task.queue_name.or(self.task.queue_id)).flatten();
        let notice = unknown
            .map(|name| format!("queue '{}' is not configured (unknownQueue: Base)", truncate(name, MAX_LABEL_CHARS)));
        Mutation {
            operations: applied.operations,
            steps: applied.steps,
            applied: applied.names,
            queue: self.plan.queue.map(|queue| queue.name.clone()),
            notice,
            fragments: applied.fragments,
            skipped_modules: applied.skipped_modules,
            primary: self.task.primary,
        }
    }
}
