//! The supported task systems: the labels and env by which each is recognised, and its protected identity.
//!
//! A new task system is an entry of [`SYSTEMS`] and a fixture.

mod clearml;

use crate::k8s::labels::{ENVIRONMENT, QUEUE};
use crate::model::pod::Pod;
use crate::model::system::{System, SystemKind};

/// The labels and env of one task system's pods.
pub(super) struct SystemSpec {
    pub(super) kind: SystemKind,
    /// a pod with one of these labels belongs to the system
    pub(super) labels: &'static [&'static str],
    /// the label with the queue's id
    pub(super) queue_id: Option<&'static str>,
    /// the label with the queue's name
    pub(super) queue_name: &'static str,
    /// the value that the agent writes when it cannot look up the name
    pub(super) unknown_queue_name: Option<&'static str>,
    /// reads the task's id from a pod; an error if the pod names two tasks
    pub(super) task_id: fn(&Pod<'_>, &System) -> Result<Option<String>, String>,
    /// protected labels: the task's identity and its queue
    pub(super) identity_labels: &'static [&'static str],
    /// the label whose value the agent may write in a form that the API server denies
    pub(super) repairable_label: Option<&'static str>,
    /// protected env names: the task's identity
    pub(super) identity_env: &'static [&'static str],
    /// env names whose values are credentials, hidden from modules
    pub(super) secret_env: &'static [&'static str],
    /// true if env on the pod is the user's choice (`-e`), which takes precedence over layers
    pub(super) user_sets_env: bool,
}

/// The supported task systems, in the order of detection.
pub(super) static SYSTEMS: &[SystemSpec] = &[
    SystemSpec {
        kind: SystemKind::ClearML,
        // A pod with `CLEARML` alone is one whose queue the agent could not look up.
        labels: &["clearml-agent-queue", "clearml-agent-queue-name", "clearml-task-id", "CLEARML"],
        queue_id: Some("clearml-agent-queue"),
        queue_name: "clearml-agent-queue-name",
        unknown_queue_name: Some("k8s"),
        task_id: clearml::task_id,
        identity_labels: &[
            "CLEARML",
            "clearml-agent-queue",
            "clearml-agent-queue-name",
            "clearml-parent-task-id",
            "clearml-task-id",
            "ai.allegro.agent.serial",
            "ai.clearml.agent.serial",
        ],
        repairable_label: Some("clearml-agent-queue-name"),
        identity_env: &["CLEARML_WORKER_ID", "CLEARML_TASK_ID", "CLEARML_AUTH_TOKEN"],
        secret_env: &["CLEARML_AUTH_TOKEN", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"],
        user_sets_env: true,
    },
    SystemSpec {
        kind: SystemKind::Generic,
        labels: &[QUEUE, ENVIRONMENT],
        queue_id: None,
        queue_name: QUEUE,
        unknown_queue_name: None,
        task_id: |_, _| Ok(None),
        identity_labels: &[QUEUE, ENVIRONMENT],
        repairable_label: None,
        identity_env: &[],
        secret_env: &[],
        user_sets_env: false,
    },
];

/// Returns every label that makes a pod a task pod; the webhook's `matchConditions` select by them.
pub fn selecting_labels() -> impl Iterator<Item = &'static str> {
    SYSTEMS.iter().flat_map(|spec| spec.labels).copied()
}
