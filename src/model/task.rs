//! What a pod says of itself, read once at the edge.
//!
//! Adding a task system is a row in [`TABLE`] and a fixture. A pod's labels are its creator's word: which
//! queue it names is taken as it is, but who its task and its user are counts only from a submitter.

mod clearml;

use crate::json::Json;
use crate::k8s::labels::{DEFAULT_CONTAINER, ENVIRONMENT, PRIMARY_CONTAINER, QUEUE, USER};
use crate::k8s::validation::is_label_text;
use crate::model::denial::{Denial, Reason};
use crate::model::pod::Pod;
use crate::model::queue_name::repaired;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::system::{System, SystemKind};

/// How the pods of one task system are told and read.
struct SystemSpec {
    kind: SystemKind,
    /// a pod with one of these labels belongs to the system
    labels: &'static [&'static str],
    /// the label with the queue's id
    queue_id: Option<&'static str>,
    /// the label with the queue's name
    queue_name: &'static str,
    /// a name that is none: the agent writes it when its own look-up failed
    no_queue_name: Option<&'static str>,
    /// the task's id from a pod, or why the pod contradicts itself
    task_id: fn(&Pod<'_>, &System) -> Result<Option<String>, String>,
    /// labels that carry the task's identity and its queue: nobody may change them
    identity_labels: &'static [&'static str],
    /// the label whose value the system's agent may write as the API server refuses it
    repairs: Option<&'static str>,
    /// env names that do
    identity_env: &'static [&'static str],
    /// env names whose values are credentials: a module never sees them
    secret_env: &'static [&'static str],
    /// `-e` of the task's owner is env on the pod, and beats a template there
    owner_sets_env: bool,
}

/// The task systems, in the order in which they are tried.
static SYSTEMS: &[SystemSpec] = &[
    SystemSpec {
        kind: SystemKind::ClearML,
        // `CLEARML` alone is a pod whose queue the agent could not look up.
        labels: &["clearml-agent-queue", "clearml-agent-queue-name", "clearml-task-id", "CLEARML"],
        queue_id: Some("clearml-agent-queue"),
        queue_name: "clearml-agent-queue-name",
        no_queue_name: Some("k8s"),
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
        repairs: Some("clearml-agent-queue-name"),
        identity_env: &["CLEARML_WORKER_ID", "CLEARML_TASK_ID", "CLEARML_AUTH_TOKEN"],
        secret_env: &["CLEARML_AUTH_TOKEN", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"],
        owner_sets_env: true,
    },
    SystemSpec {
        kind: SystemKind::Generic,
        labels: &[QUEUE, ENVIRONMENT],
        queue_id: None,
        queue_name: QUEUE,
        no_queue_name: None,
        task_id: |_, _| Ok(None),
        identity_labels: &[QUEUE, ENVIRONMENT],
        repairs: None,
        identity_env: &[],
        secret_env: &[],
        owner_sets_env: false,
    },
];

/// Every label that makes a pod a task pod: what the webhook's `matchConditions` select by.
pub fn selecting_labels() -> impl Iterator<Item = &'static str> {
    SYSTEMS.iter().flat_map(|row| row.labels).copied()
}

/// A task pod, as far as podgraft understands it.
pub struct Task<'a, 's> {
    /// the instance that it belongs to
    pub system: &'s System,
    /// the queue's id, where the system has one
    pub queue_id: Option<&'a str>,
    /// the queue's name as the pod's label spells it
    pub queue_name: Option<&'a str>,
    /// the environment that the pod asks for
    pub environment: Option<&'a str>,
    /// the task's id; absent where nobody vouches for it
    pub id: Option<String>,
    /// the user; absent where nobody vouches for them
    pub user: Option<&'a str>,
    /// the primary container's name
    pub primary: Option<&'a str>,
    /// whether the sender's word counts for the task's id and user
    pub trusted: bool,
    row: &'static SystemSpec,
    /// the value of the label that may need repair
    repairable: Option<&'a str>,
    own: Option<&'a str>,
    /// whether nobody can say which container is the task's
    unclear: bool,
}

impl<'a, 's> Task<'a, 's> {
    /// Reads the task from a pod. `None` is a pod that is no task's.
    ///
    /// # Errors
    /// A pod that contradicts itself.
    pub fn from_pod(pod: &Pod<'a>, review: &Review<'a>, snapshot: &'s Snapshot) -> Result<Option<Self>, Denial> {
        let Some((row, system)) = detect_system(pod, snapshot) else {
            return Ok(None);
        };
        let claimed = (row.task_id)(pod, system).map_err(|why| Denial::new(Reason::IdentityContradiction, why))?;
        let trusted = is_submitter(review.user, system, snapshot);
        let primary = primary_container(pod);
        Ok(Some(Self {
            system,
            queue_id: row.queue_id.and_then(|label| pod.label(label)),
            queue_name: pod
                .label(row.queue_name)
                .filter(|name| Some(*name) != row.no_queue_name)
                .or_else(|| pod.label(QUEUE)),
            environment: pod.label(ENVIRONMENT),
            id: claimed.filter(|_| trusted),
            user: pod.annotation(USER).filter(|_| trusted),
            primary,
            trusted,
            row,
            repairable: row.repairs.and_then(|label| pod.label(label)),
            own: pod.name().or_else(|| pod.owner()).filter(|name| pod.has_container(name)),
            unclear: primary.is_none(),
        }))
    }

    /// Whether a container that was submitted may be the task itself: the primary one, the one that the system calls
    /// like the pod (an annotation may name another as primary), or any where nobody can say.
    pub fn is_task_container(&self, container: &str) -> bool {
        self.unclear || self.primary == Some(container) || self.own == Some(container)
    }

    /// Labels that nobody may change.
    pub fn identity_labels(&self) -> &'static [&'static str] {
        self.row.identity_labels
    }

    /// The label whose value the agent wrote as no label can be, and what it becomes.
    pub fn repaired_label(&self) -> Option<(&'static str, String)> {
        let (label, value) = (self.row.repairs?, self.repairable?);
        let repaired = (!is_label_text(value)).then(|| repaired(value))?;
        (!repaired.is_empty()).then_some((label, repaired))
    }

    /// Env of the primary container that nobody may change.
    pub fn identity_env(&self) -> &'static [&'static str] {
        self.row.identity_env
    }

    /// Env whose values no module may see.
    pub fn secret_env(&self) -> &'static [&'static str] {
        self.row.secret_env
    }

    /// Whether env on the pod is the task owner's own choice.
    pub fn owner_sets_env(&self) -> bool {
        self.row.owner_sets_env
    }
}

fn detect_system<'s>(pod: &Pod<'_>, snapshot: &'s Snapshot) -> Option<(&'static SystemSpec, &'s System)> {
    SYSTEMS.iter().filter(|row| row.labels.iter().any(|label| pod.label(label).is_some())).find_map(|row| {
        let here = |system: &&System| {
            system.kind == row.kind
                && (system.namespaces.is_empty()
                    || system.namespaces.iter().any(|namespace| namespace == pod.namespace))
        };
        // An instance that names the namespace is meant before one that lives anywhere.
        let instances = || snapshot.systems.iter().filter(here);
        let system = instances().find(|system| !system.namespaces.is_empty()).or_else(|| instances().next());
        system.map(|system| (row, system))
    })
}

/// Somebody whose word counts for this pod's task, if its system names anybody: whom `render` stands in for.
pub fn default_submitter(pod: &Pod<'_>, snapshot: &Snapshot) -> Option<String> {
    detect_system(pod, snapshot)?.1.submitters.first().cloned()
}

/// Whether the request comes from one of the system's submitters and not from inside a task of it: open
/// charts run the tasks under the agent's own account.
fn is_submitter(user: Json<'_>, system: &System, snapshot: &Snapshot) -> bool {
    let name = user.get("username").and_then(|name| name.as_str()).unwrap_or("");
    let pod = user.get_path(&["extra", "authentication.kubernetes.io/pod-name"]);
    let from_task = pod.is_some_and(|names| {
        // Of any instance: several may share an account.
        let is_task = |name: &str| snapshot.systems.iter().any(|system| is_task_pod_name(name, system));
        names.items().iter().any(|name| name.as_str().is_some_and(is_task))
    });
    !from_task && system.submitters.iter().any(|submitter| submitter == name)
}

fn is_task_pod_name(name: &str, system: &System) -> bool {
    !system.pod_name_prefix.is_empty() && name.starts_with(&system.pod_name_prefix)
}

/// The container that the task itself runs in (design section 4, "Primary container").
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
        pod.owner(),
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
