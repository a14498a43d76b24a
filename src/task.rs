//! What a pod says of itself, read once at the edge.
//!
//! Adding a task system is a row in [`TABLE`] and a fixture. A pod's labels are its creator's word: which
//! queue it names is taken as it is, but who its task and its user are counts only from a submitter.

mod clearml;

use crate::json::Json;
use crate::mutate::{Reason, Rejection};
use crate::review::Review;
use crate::snapshot::{Snapshot, System, SystemKind};

/// How the pods of one task system are told and read.
struct Row {
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
    /// env names that do
    identity_env: &'static [&'static str],
    /// env names whose values are credentials: a module never sees them
    secret_env: &'static [&'static str],
    /// `-e` of the task's owner is env on the pod, and beats a template there
    owner_sets_env: bool,
}

/// The task systems, in the order in which they are tried.
static TABLE: &[Row] = &[
    Row {
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
        identity_env: &["CLEARML_WORKER_ID", "CLEARML_TASK_ID", "CLEARML_AUTH_TOKEN"],
        secret_env: &["CLEARML_AUTH_TOKEN", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"],
        owner_sets_env: true,
    },
    Row {
        kind: SystemKind::Generic,
        labels: &[QUEUE, ENVIRONMENT],
        queue_id: None,
        queue_name: QUEUE,
        no_queue_name: None,
        task_id: |_, _| Ok(None),
        identity_labels: &[QUEUE, ENVIRONMENT],
        identity_env: &[],
        secret_env: &[],
        owner_sets_env: false,
    },
];

/// Label: the queue of a pod whose system has no label for it.
pub const QUEUE: &str = "podgraft.io/queue";
/// Label: the environment that a pod asks for by name.
pub const ENVIRONMENT: &str = "podgraft.io/environment";
/// Annotation: which container is the primary one.
pub const PRIMARY_CONTAINER: &str = "podgraft.io/primary-container";
/// Annotation: the user that a task runs for; a submitter is believed.
pub const USER: &str = "podgraft.io/user";

/// Every label that makes a pod a task pod: what the webhook's `matchConditions` select by.
pub fn selecting_labels() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|row| row.labels).copied()
}

/// The pod of a review, and where it was sent.
#[derive(Clone, Copy)]
pub struct Pod<'a> {
    /// the submitted pod
    pub object: Json<'a>,
    /// the request's namespace
    pub namespace: &'a str,
}

impl<'a> Pod<'a> {
    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.object.at(&["metadata", "labels", key])?.as_str()
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.object.at(&["metadata", "annotations", key])?.as_str()
    }

    /// The containers, without the init containers.
    pub fn containers(&self) -> &'a [Json<'a>] {
        self.object.at(&["spec", "containers"]).map_or(&[], |list| list.items())
    }

    /// `metadata.name`, when the submitter chose one.
    pub fn name(&self) -> Option<&'a str> {
        self.object.at(&["metadata", "name"])?.as_str().filter(|name| !name.is_empty())
    }

    /// The name of the object that controls the pod: a Job's pod has no name of its own yet.
    pub fn owner(&self) -> Option<&'a str> {
        let owners = self.object.at(&["metadata", "ownerReferences"])?;
        let controller = owners.items().iter().find(|owner| owner.get("controller") == Some(Json::Bool(true)))?;
        controller.get("name")?.as_str()
    }

    /// The literal value of an env variable of a container; of a name that stands twice, the last.
    pub fn env(container: &Json<'a>, name: &str) -> Option<&'a str> {
        let env = container.get("env")?;
        let entry = env.items().iter().rev().find(|entry| entry.get("name") == Some(Json::Str(name)))?;
        entry.get("value")?.as_str()
    }

    fn has_container(&self, name: &str) -> bool {
        self.containers().iter().any(|container| container.get("name") == Some(Json::Str(name)))
    }
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
    row: &'static Row,
    own: Option<&'a str>,
    /// whether nobody can say which container is the task's
    unclear: bool,
}

impl<'a, 's> Task<'a, 's> {
    /// Reads the task from a pod. `None` is a pod that is no task's.
    ///
    /// # Errors
    /// A pod that contradicts itself.
    pub fn from_pod(review: &Review<'a>, snapshot: &'s Snapshot) -> Result<Option<Self>, Rejection> {
        let pod = Pod { object: review.object, namespace: review.namespace };
        let Some((row, system)) = recognise(&pod, snapshot) else {
            return Ok(None);
        };
        let claimed = (row.task_id)(&pod, system).map_err(|why| Rejection::new(Reason::IdentityContradiction, why))?;
        let trusted = is_submitter(review.user, system, snapshot);
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
            primary: primary_container(&pod),
            row,
            own: pod.name().or_else(|| pod.owner()).filter(|name| pod.has_container(name)),
            unclear: primary_container(&pod).is_none(),
        }))
    }

    /// Whether a container that was submitted may be the task itself: the primary one, the one that the system calls
    /// like the pod (an annotation may name another as primary), or any where nobody can say.
    pub fn may_be(&self, container: &str) -> bool {
        self.unclear || self.primary == Some(container) || self.own == Some(container)
    }

    /// Labels that nobody may change.
    pub fn identity_labels(&self) -> &'static [&'static str] {
        self.row.identity_labels
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

fn recognise<'s>(pod: &Pod<'_>, snapshot: &'s Snapshot) -> Option<(&'static Row, &'s System)> {
    TABLE.iter().filter(|row| row.labels.iter().any(|label| pod.label(label).is_some())).find_map(|row| {
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
pub fn a_submitter(pod: &Pod<'_>, snapshot: &Snapshot) -> Option<String> {
    recognise(pod, snapshot)?.1.submitters.first().cloned()
}

/// Whether the request comes from one of the system's submitters and not from inside a task of it: open
/// charts run the tasks under the agent's own account.
fn is_submitter(user: Json<'_>, system: &System, snapshot: &Snapshot) -> bool {
    let name = user.get("username").and_then(|name| name.as_str()).unwrap_or("");
    let pod = user.at(&["extra", "authentication.kubernetes.io/pod-name"]);
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
        .at(&["metadata", "generateName"])
        .and_then(|name| name.as_str())
        .map(|name| name.trim_end_matches('-'));
    let named = [
        pod.annotation(PRIMARY_CONTAINER),
        pod.annotation("kubectl.kubernetes.io/default-container"),
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

/// A queue's name as the agent's label spells it: `_safe_k8s_label_value` of clearml-agent, bit by bit. Lossy, and
/// the result need not be a valid label: letters beyond ASCII survive inside, and the cut may leave a `-` at the end.
pub fn canonical_queue_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let ends = lower.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let mut canonical = String::with_capacity(ends.len());
    for c in ends.chars().map(|c| if is_word(c) { c } else { '-' }) {
        if c != '-' || !canonical.ends_with('-') {
            canonical.push(c);
        }
    }
    canonical.chars().take(63).collect()
}

/// Python's `\w` without the underscore. Rust also counts circled letters and vowel signs as alphabetic; the signs are
/// left at that, as a label with such letters is refused by the API server anyway.
fn is_word(c: char) -> bool {
    let circled = matches!(c, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}');
    c.is_alphanumeric() && !circled
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The right side is what clearml-agent's own function gave.
    #[test]
    fn queue_names_are_what_the_agent_makes_of_them() {
        let long = "a".repeat(70);
        let cut_at_a_dash = format!("k-{}_b", "a".repeat(60));
        let table = [
            ("1xGPU", "1xgpu"),
            ("GPU Queue For Team.A", "gpu-queue-for-team-a"),
            ("GPUs_with_shared_memory", "gpus-with-shared-memory"),
            ("gpu-fraction-1_000", "gpu-fraction-1-000"),
            ("team.a", "team-a"),
            ("Größe XL", "größe-xl"),
            ("学習キュー", ""),
            ("очередь gpu 1", "gpu-1"),
            ("GPU_1", "gpu-1"),
            ("  __a--_-.b__ ", "a-b"),
            ("ÖL", "l"),
            ("İx1", "i-x1"),
            ("gpu Ⓐ 1", "gpu-1"),
            ("x①y", "x①y"),
            ("e\u{308}x1e\u{308}", "e-x1e"),
            ("Ⅷa Ⅷ b", "a-ⅷ-b"),
            ("a²b", "a²b"),
            ("a\u{a0}b", "a-b"),
            (&cut_at_a_dash, &cut_at_a_dash[..63].replace('_', "-")),
            (&long, &long[..63]),
        ];
        for (name, label) in table {
            assert_eq!(canonical_queue_name(name), label, "{name}");
        }
    }

    const AGENT: &str = "system:serviceaccount:clearml:clearml-agent-sa";
    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn snapshot() -> Snapshot {
        let system = |name: &str, kind: SystemKind, prefix: &str, submitters: &[&str]| System {
            name: name.to_owned(),
            kind,
            namespaces: Vec::new(),
            pod_name_prefix: prefix.to_owned(),
            submitters: submitters.iter().map(|user| (*user).to_owned()).collect(),
        };
        let clearml = system("clearml", SystemKind::ClearML, "clearml-id-", &[AGENT]);
        Snapshot { systems: vec![clearml, system("generic", SystemKind::Generic, "", &["ops"])], ..Snapshot::default() }
    }

    /// What is read from a pod, as one line: system, queue id and name, task id, user, primary container.
    fn read(pod: &Value, user: &Value) -> String {
        let request = json!({"uid": "u", "kind": {"version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "clearml",
            "userInfo": user, "object": pod});
        let body =
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string();
        let arena = bumpalo::Bump::new();
        let snapshot = snapshot();
        let review = Review::parse(body.as_bytes(), &arena).unwrap();
        match Task::from_pod(&review, &snapshot) {
            Ok(None) => "no task".to_owned(),
            Err(rejection) => rejection.message,
            Ok(Some(task)) => format!(
                "{} {} {} {} {} {}",
                task.system.name,
                task.queue_id.unwrap_or("-"),
                task.queue_name.unwrap_or("-"),
                task.id.as_deref().unwrap_or("-"),
                task.user.unwrap_or("-"),
                task.primary.unwrap_or("-")
            ),
        }
    }

    fn by_agent() -> Value {
        json!({"username": AGENT, "extra": {"authentication.kubernetes.io/pod-name": ["clearml-agent-7f9c"]}})
    }

    fn fixture(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn pods_of_the_real_agent_are_read() {
        let small = fixture(include_str!("../tests/fixtures/clearml/pod-small.yaml"));
        let large = fixture(include_str!("../tests/fixtures/clearml/pod-large.yaml"));
        let entrypoint = fixture(include_str!("../tests/fixtures/clearml/pod-entrypoint.yaml"));
        let line = |queue: &str, id: &str| format!("clearml {queue} {id} - clearml-id-{id}");
        assert_eq!(
            read(&small, &by_agent()),
            line("3f9a1c0d5b7e42d8a6c4e2f01b8d7a95 gpu-queue-for-team-a", "6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60")
        );
        assert_eq!(
            read(&large, &by_agent()),
            line("8d2e6f4a1b3c4957b0a8c7d6e5f40312 1xgpu", "c0a8e7d6b5f44e3392817a6b5c4d3e2f")
        );
        assert_eq!(
            read(&entrypoint, &by_agent()),
            line("b7c6d5e4f3a24190886f5e4d3c2b1a09 gpus-with-shared-memory", "9e8d7c6b5a4f43e2a1b0c9d8e7f6a5b4")
        );
    }

    /// As the Job controller makes it of the real agent's Job: no name yet, and the controller as its creator.
    #[test]
    fn a_jobs_pod_is_a_task_that_nobody_vouches_for() {
        let job = fixture(include_str!("../tests/fixtures/clearml/job.yaml"));
        let mut pod = job["spec"]["template"].clone();
        let name = job["metadata"]["name"].clone();
        pod["metadata"]["generateName"] = json!(format!("{}-", name.as_str().unwrap()));
        pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": name, "controller": true}]);
        let controller = json!({"username": "system:serviceaccount:kube-system:job-controller"});
        assert_eq!(
            read(&pod, &controller),
            "clearml b7c6d5e4f3a24190886f5e4d3c2b1a09 gpus-with-shared-memory - - clearml-id-2a4c6e8f0b1d43579f8e7d6c5b4a3928"
        );
    }

    fn clearml(change: impl FnOnce(&mut Value)) -> Value {
        let name = format!("clearml-id-{ID}");
        let env = json!([{"name": "CLEARML_WORKER_ID", "value": format!("w:{ID}")}]);
        let mut pod = json!({"metadata": {"name": name, "labels": {"clearml-agent-queue-name": "gpu"}, "annotations": {"podgraft.io/user": "ada"}},
            "spec": {"containers": [{"name": name, "env": env}]}});
        change(&mut pod);
        pod
    }

    #[test]
    fn identity_counts_only_from_a_submitter_that_is_no_task_itself() {
        let pod = clearml(|_| ());
        let name = format!("clearml-id-{ID}");
        assert_eq!(read(&pod, &by_agent()), format!("clearml - gpu {ID} ada {name}"));
        let anonymous = format!("clearml - gpu - - {name}");
        assert_eq!(read(&pod, &json!({"username": "mallory"})), anonymous);
        assert_eq!(read(&pod, &Value::Null), anonymous);
        // Task pods of the open chart run under the agent's own account, and may create pods.
        let from_a_task =
            json!({"username": AGENT, "extra": {"authentication.kubernetes.io/pod-name": ["clearml-id-ffff"]}});
        assert_eq!(read(&pod, &from_a_task), anonymous);
    }

    #[test]
    fn a_pod_that_names_two_tasks_is_refused() {
        let other = "f".repeat(32);
        let label = clearml(|pod| pod["metadata"]["labels"]["clearml-task-id"] = json!(other));
        assert_eq!(read(&label, &by_agent()), "the label clearml-task-id names another task than the pod's name does");
        let worker = clearml(|pod| pod["spec"]["containers"][0]["env"][0]["value"] = json!(format!("w:{other}")));
        assert_eq!(read(&worker, &by_agent()), "CLEARML_WORKER_ID names another task than the pod's name does");
        let lie =
            clearml(|pod| pod["spec"]["containers"][0]["env"][0] = json!({"name": "CLEARML_TASK_ID", "value": other}));
        assert_eq!(
            read(&lie, &by_agent()),
            format!("clearml - gpu {ID} ada clearml-id-{ID}"),
            "that one is a submitter's to set"
        );
        let rank = clearml(|pod| pod["metadata"]["name"] = json!(format!("clearml-id-{ID}-12")));
        assert_eq!(read(&rank, &by_agent()), format!("clearml - gpu {ID} ada clearml-id-{ID}"), "a node of several");
    }

    #[test]
    fn a_queue_that_the_agent_could_not_look_up_has_no_name() {
        let pod = clearml(|pod| {
            pod["metadata"]["labels"] = json!({"clearml-agent-queue-name": "k8s", "clearml-agent-queue": "5f0e"});
        });
        assert_eq!(read(&pod, &by_agent()), format!("clearml 5f0e - {ID} ada clearml-id-{ID}"));
        let bare = clearml(|pod| pod["metadata"]["labels"] = json!({"CLEARML": "agent"}));
        assert_eq!(read(&bare, &by_agent()), format!("clearml - - {ID} ada clearml-id-{ID}"));
    }

    #[test]
    fn labels_make_any_pod_a_task_pod() {
        let pod = |labels: Value| json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(read(&pod(json!({"podgraft.io/queue": "batch"})), &Value::Null), "generic - batch - - a");
        assert_eq!(read(&pod(json!({"podgraft.io/environment": "x"})), &Value::Null), "generic - - - - a");
        assert_eq!(read(&pod(json!({"app": "web"})), &Value::Null), "no task");
        assert_eq!(read(&json!({"metadata": {}}), &Value::Null), "no task");
    }

    #[test]
    fn the_primary_container_is_found_in_the_documented_order() {
        let primary = |metadata: Value, names: &[&str]| {
            let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            let pod = json!({"metadata": metadata, "spec": {"containers": containers}});
            let arena = bumpalo::Bump::new();
            let seen = Pod { object: Json::lift(&pod, &arena), namespace: "x" };
            primary_container(&seen).unwrap_or("-").to_owned()
        };
        let both = json!({"podgraft.io/primary-container": "b", "kubectl.kubernetes.io/default-container": "a"});
        assert_eq!(primary(json!({"annotations": both}), &["a", "b"]), "b");
        assert_eq!(
            primary(json!({"annotations": {"kubectl.kubernetes.io/default-container": "a"}, "name": "b"}), &["a", "b"]),
            "a"
        );
        assert_eq!(
            primary(json!({"annotations": {"podgraft.io/primary-container": "gone"}, "name": "b"}), &["a", "b"]),
            "b"
        );
        assert_eq!(primary(json!({"ownerReferences": [{"name": "b", "controller": true}]}), &["a", "b"]), "b");
        assert_eq!(primary(json!({"generateName": "b-"}), &["a", "b"]), "b");
        assert_eq!(primary(json!({}), &["a", "primary"]), "primary");
        assert_eq!(primary(json!({}), &["only"]), "only");
        assert_eq!(primary(json!({}), &["a", "b"]), "-");
    }
}
