//! The task of a pod, read once at the start of a request.
//!
//! A pod's labels are set by its creator: the queue is taken from any creator, the task's id and user only from a
//! submitter.

use crate::json::Json;
use crate::k8s::labels::{DEFAULT_CONTAINER, ENVIRONMENT, PRIMARY_CONTAINER, QUEUE, USER};
use crate::k8s::validation::is_label_text;
use crate::model::denial::{Denial, Reason};
use crate::model::pod::Pod;
use crate::model::queue_name::repair_label;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::system::System;
use crate::model::task_systems::{SYSTEMS, SystemSpec};

/// The task of a pod.
pub struct Task<'a, 's> {
    /// the task system that it belongs to
    pub system: &'s System,
    /// the queue's id, if the system has ids
    pub queue_id: Option<&'a str>,
    /// the queue's name in the pod's label
    pub queue_name: Option<&'a str>,
    /// the environment that the pod asks for
    pub environment: Option<&'a str>,
    /// the task's id; absent without a submitter
    pub id: Option<String>,
    /// the task's user; absent without a submitter
    pub user: Option<&'a str>,
    /// the primary container's name
    pub primary: Option<&'a str>,
    /// true if a submitter created the pod
    pub trusted: bool,
    spec: &'static SystemSpec,
    /// the value of the label that may need repair
    repairable: Option<&'a str>,
    /// the container named like the pod
    named_like_pod: Option<&'a str>,
}

impl<'a, 's> Task<'a, 's> {
    /// Reads the task from a pod. Returns `None` for a pod that is not a task pod.
    ///
    /// # Errors
    /// The pod names two different tasks.
    pub fn from_pod(pod: &Pod<'a>, review: &Review<'a>, snapshot: &'s Snapshot) -> Result<Option<Self>, Denial> {
        let Some((spec, system)) = detect_system(pod, snapshot) else {
            return Ok(None);
        };
        let claimed =
            (spec.task_id)(pod, system).map_err(|message| Denial::new(Reason::IdentityContradiction, message))?;
        let trusted = is_submitter(review.user, system, snapshot);
        let primary = primary_container(pod);
        Ok(Some(Self {
            system,
            queue_id: spec.queue_id.and_then(|label| pod.label(label)),
            queue_name: pod
                .label(spec.queue_name)
                .filter(|name| Some(*name) != spec.unknown_queue_name)
                .or_else(|| pod.label(QUEUE)),
            environment: pod.label(ENVIRONMENT),
            id: claimed.filter(|_| trusted),
            user: pod.annotation(USER).filter(|_| trusted),
            primary,
            trusted,
            spec,
            repairable: spec.repairable_label.and_then(|label| pod.label(label)),
            named_like_pod: pod.name().or_else(|| pod.controller_name()).filter(|name| pod.has_container(name)),
        }))
    }

    /// Returns true if a submitted container may be the task's: the primary container, the one named like the pod (an
    /// annotation may name another as primary), or any one if the primary container cannot be determined.
    pub fn is_task_container(&self, container: &str) -> bool {
        self.primary.is_none() || self.primary == Some(container) || self.named_like_pod == Some(container)
    }

    /// Returns the protected labels.
    pub fn identity_labels(&self) -> &'static [&'static str] {
        self.spec.identity_labels
    }

    /// Returns the label that the agent wrote with an invalid value, and its repaired value.
    pub fn repaired_label(&self) -> Option<(&'static str, String)> {
        let (label, value) = (self.spec.repairable_label?, self.repairable?);
        let repaired = (!is_label_text(value)).then(|| repair_label(value))?;
        (!repaired.is_empty()).then_some((label, repaired))
    }

    /// Returns the protected env names of the primary container.
    pub fn identity_env(&self) -> &'static [&'static str] {
        self.spec.identity_env
    }

    /// Returns the env names whose values are hidden from modules.
    pub fn secret_env(&self) -> &'static [&'static str] {
        self.spec.secret_env
    }

    /// Returns true if env on the pod is the user's own choice.
    pub fn user_sets_env(&self) -> bool {
        self.spec.user_sets_env
    }
}

fn detect_system<'s>(pod: &Pod<'_>, snapshot: &'s Snapshot) -> Option<(&'static SystemSpec, &'s System)> {
    SYSTEMS.iter().filter(|spec| spec.labels.iter().any(|label| pod.label(label).is_some())).find_map(|spec| {
        let is_here = |system: &&System| {
            system.kind == spec.kind
                && (system.namespaces.is_empty()
                    || system.namespaces.iter().any(|namespace| namespace == pod.namespace))
        };
        // A system that lists the namespace takes precedence over one for all namespaces.
        let instances = || snapshot.systems.iter().filter(is_here);
        let system = instances().find(|system| !system.namespaces.is_empty()).or_else(|| instances().next());
        system.map(|system| (spec, system))
    })
}

/// Returns the first configured submitter of the pod's task system; `render` impersonates it.
pub fn default_submitter(pod: &Pod<'_>, snapshot: &Snapshot) -> Option<String> {
    detect_system(pod, snapshot)?.1.submitters.first().cloned()
}

/// Returns true if the request comes from one of the system's submitters and not from inside a task: open charts run
/// the tasks under the agent's service account.
fn is_submitter(user: Json<'_>, system: &System, snapshot: &Snapshot) -> bool {
    let name = user.get("username").and_then(|name| name.as_str()).unwrap_or("");
    let pod = user.get_path(&["extra", "authentication.kubernetes.io/pod-name"]);
    let from_task = pod.is_some_and(|names| {
        // Of any system: several may share a service account.
        let is_task = |name: &str| snapshot.systems.iter().any(|system| is_task_pod_name(name, system));
        names.items().iter().any(|name| name.as_str().is_some_and(is_task))
    });
    !from_task && system.submitters.iter().any(|submitter| submitter == name)
}

fn is_task_pod_name(name: &str, system: &System) -> bool {
    !system.pod_name_prefix.is_empty() && name.starts_with(&system.pod_name_prefix)
}

/// Finds the task's container: the first of these names that a container has, or the only container.
fn primary_container<'a>(pod: &Pod<'a>) -> Option<&'a str> {
    let generated = pod
        .object
        .get_path(&["metadata", "generateName"])
        .and_then(|name| name.as_str())
        .map(|name| name.trim_end_matches('-'));
    let named = [
        pod.annotation(PRIMARY_CONTAINER),
        pod.annotation(DEFAULT_CONTAINER),
        pod.name(),
        pod.controller_name(),
        generated,
        Some("primary"),
    ];
    named.into_iter().flatten().find(|name| pod.has_container(name)).or(match pod.containers() {
        [only] => only.get("name").and_then(|name| name.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
