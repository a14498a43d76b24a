//! Simulates the webhook: makes the review that the API server would send for a manifest, and answers it with
//! [`mutate`]. `render`, `check`, `test` and `explain` use it.

mod job;

use std::time::Duration;

use bumpalo::Bump;
use serde_json::{Value, json};

use crate::config::{Diagnostic, Position, parse_all};
use crate::json::Json;
use crate::k8s::patch::{Action, display_path};
use crate::model::denial::Denial;
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::task;
use crate::mutate::provenance::Change;
use crate::mutate::{LayerMode, ModuleRun, MutateError, Mutation, mutate};

/// The user who creates a manifest's pod, and its namespace.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sender<'s> {
    /// the namespace; if absent the manifest's own, or else `default`
    pub namespace: Option<&'s str>,
    /// the user; if absent a submitter of the pod's task system, and for a Job's pod the Job controller
    pub user: Option<&'s str>,
}

/// One object of a file.
#[derive(Debug)]
pub struct Document {
    /// its first line, from 1
    pub line: u32,
    /// the object
    pub object: Value,
}

/// Reads the objects of a JSON text or of the documents of a YAML text. A `List` gives its items.
///
/// # Errors
/// The text is neither JSON nor YAML. The error has the position, and does not quote the text.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>, Diagnostic> {
    if let Ok(object) = serde_json::from_str(text) {
        return Ok(items(Document { line: 1, object }));
    }
    let nodes = parse_all(text).map_err(|error| diagnostic(file, error.at, error.message))?;
    let documents = nodes.iter().map(|node| Document { line: node.at.line, object: node.to_json() });
    Ok(documents.flat_map(items).collect())
}

fn diagnostic(file: &str, at: Position, message: String) -> Diagnostic {
    Diagnostic { file: file.into(), line: at.line, column: at.column, path: String::new(), message }
}

fn items(Document { line, mut object }: Document) -> Vec<Document> {
    if !matches!(object["kind"].as_str(), Some("List" | "PodList" | "JobList")) {
        return vec![Document { line, object }];
    }
    match object["items"].take() {
        Value::Array(items) => items.into_iter().map(|object| Document { line, object }).collect(),
        _ => Vec::new(),
    }
}

/// The end of an error about an object of another kind.
pub const EXPECTED: &str = "a Pod, a Job or an AdmissionReview is expected";

/// Returns the review of an object: an AdmissionReview with the sender's user and namespace, or a new one for a pod or
/// the first pod of a Job.
///
/// # Errors
/// The object is of another kind, or incomplete.
pub fn review(object: Value, sender: Sender<'_>, snapshot: &Snapshot) -> Result<Value, String> {
    match object["kind"].as_str() {
        Some("AdmissionReview") => {
            let mut review = object;
            if !review["request"].is_object() {
                return Err("the AdmissionReview has no request".to_owned());
            }
            if let Some(user) = sender.user {
                review["request"]["userInfo"] = json!({"username": user});
            }
            if let Some(namespace) = sender.namespace {
                review["request"]["namespace"] = json!(namespace);
            }
            Ok(review)
        }
        Some("Pod") => Ok(review_of_pod(&without_nulls(object), sender, snapshot)),
        Some("Job") => {
            let user = sender.user.or(Some(job::CONTROLLER));
            Ok(review_of_pod(&job::pod(&without_nulls(object))?, Sender { user, ..sender }, snapshot))
        }
        Some(other) => Err(format!("it is a {other}; {EXPECTED}")),
        None => Err(format!("it has no kind; {EXPECTED}")),
    }
}

fn review_of_pod(pod: &Value, sender: Sender<'_>, snapshot: &Snapshot) -> Value {
    let own = pod["metadata"]["namespace"].as_str();
    let namespace = sender.namespace.or(own).unwrap_or("default").to_owned();
    let user = sender.user.map(str::to_owned).or_else(|| {
        let arena = Bump::new();
        task::default_submitter(&Pod { object: Json::borrowed(pod, &arena), namespace: &namespace }, snapshot)
    });
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "offline",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": pod["metadata"]["name"],
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": user.unwrap_or_default()},
            "object": pod,
        }
    })
}

/// Removes nulls, like the API server: many charts write them.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| !member.is_null());
            Value::Object(kept.map(|(key, member)| (key, without_nulls(member))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

// === answers ===

/// The time for each module without a cluster: long enough for all of its budget.
pub(crate) const OFFLINE_TIMEOUT: Duration = Duration::from_secs(10);

/// A review with its mutation.
pub struct SimulatedReview<'a> {
    /// the review
    pub review: Review<'a>,
    /// the modules that ran
    pub runs: Vec<ModuleRun>,
    /// the mutation, `None` for a skipped pod, or the denial
    pub result: Result<Option<Mutation<'a>>, Denial>,
}

impl<'a> SimulatedReview<'a> {
    /// Returns the resulting pod; of a skipped or denied pod, the submitted one.
    pub fn pod(&self) -> Json<'a> {
        match &self.result {
            Ok(Some(mutation)) => mutation.steps.last(),
            _ => self.review.object,
        }
    }
}

/// Answers a review.
///
/// # Errors
/// `body` is not a review, or a module did not run.
pub fn answer<'a>(body: &'a [u8], snapshot: &'a Snapshot, arena: &'a Bump) -> Result<SimulatedReview<'a>, String> {
    let review = Review::parse(body, arena)?;
    let mut runs = Vec::new();
    let result =
        match mutate(&review, snapshot, Execution::Pooled(&|| OFFLINE_TIMEOUT), LayerMode::PerLayer, &mut runs, arena)
            .map_err(|failure| failure.error)
        {
            Ok(mutation) => Ok(mutation),
            Err(MutateError::Denied(denial)) => Err(denial),
            Err(MutateError::NeedsPool(module)) => return Err(format!("module {module} did not run")),
        };
    Ok(SimulatedReview { review, runs, result })
}

/// The results of a review that is sent twice, the second time with the resulting pod.
#[derive(Debug)]
pub struct Simulation {
    /// the pod after the patch, or the denial
    pub result: Result<Value, Denial>,
    /// the changes, each with its source
    pub changes: Vec<Change>,
    /// the manifest's paths with a value that was replaced or removed
    pub replaced: Vec<String>,
    /// the changes of the second run: none if the result is stable
    pub second_run: Result<Vec<Change>, Denial>,
    /// true for a task pod
    pub is_task_pod: bool,
    /// the notice about a pod that was allowed
    pub note: Option<String>,
}

/// Answers a review, and then the review of the resulting pod.
///
/// # Errors
/// `review` is not a review, or a module did not run.
pub fn simulate(review: &Value, snapshot: &Snapshot) -> Result<Simulation, String> {
    let first = run_once(review, snapshot)?;
    let second_run = match &first.result {
        Ok(pod) if first.is_task_pod => {
            let mut second = review.clone();
            second["request"]["object"] = pod.clone();
            let second = run_once(&second, snapshot)?;
            second.result.map(|result| if result == *pod { Vec::new() } else { second.changes })
        }
        _ => Ok(Vec::new()),
    };
    Ok(Simulation { second_run, ..first })
}

fn run_once(review: &Value, snapshot: &Snapshot) -> Result<Simulation, String> {
    let arena = Bump::new();
    let body = review.to_string();
    let reviewed = answer(body.as_bytes(), snapshot, &arena)?;
    let mut simulation = Simulation {
        result: Ok(review["request"]["object"].clone()),
        changes: Vec::new(),
        replaced: Vec::new(),
        second_run: Ok(Vec::new()),
        is_task_pod: !matches!(reviewed.result, Ok(None)),
        note: None,
    };
    match reviewed.result {
        Ok(Some(mutation)) => {
            if let Ok(pod) = &mut simulation.result {
                apply(pod, &mutation)?;
            }
            simulation.changes = mutation.steps.changes(&arena);
            let replaced = mutation.operations.iter().filter(|operation| operation.action != Action::Add);
            simulation.replaced = replaced.map(|operation| display_path(operation.path)).collect();
            simulation.note = mutation.notice;
        }
        Ok(None) => {}
        Err(denial) => simulation.result = Err(denial),
    }
    Ok(simulation)
}

/// Applies the patch to the pod, like the API server.
fn apply(pod: &mut Value, mutation: &Mutation<'_>) -> Result<(), String> {
    let operations = serde_json::to_value(mutation.operations).map_err(|error| error.to_string())?;
    let patch: json_patch::Patch = serde_json::from_value(operations).map_err(|error| error.to_string())?;
    json_patch::patch(pod, &patch).map_err(|error| format!("the patch does not apply: {error}; please report this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_several_documents_and_lists() {
        let text = "---\n# nothing\n---\nkind: Pod\n---\nkind: List\nitems: [{kind: Job}, {kind: Service}]\n";
        let found: Vec<_> = documents("x.yaml", text)
            .unwrap()
            .iter()
            .map(|document| (document.line, document.object["kind"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(found, [(4, "Pod".to_owned()), (6, "Job".into()), (6, "Service".into())]);
        let json = documents("x.json", r#"{"kind":"PodList","items":[{"kind":"Pod"}]}"#).unwrap();
        assert_eq!((json.len(), &json[0].object), (1, &json!({"kind": "Pod"})));
        assert!(documents("x", "").unwrap().is_empty());
        assert_eq!(documents("x", "a: 1").unwrap()[0].object, json!({"a": 1}));
    }

    #[test]
    fn invalid_yaml_gives_an_error_with_its_position_and_without_its_text() {
        let error = documents("pod.yaml", "kind: Pod\nspec: [secret\n").unwrap_err().to_string();
        assert!(error.starts_with("pod.yaml:2:7: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
