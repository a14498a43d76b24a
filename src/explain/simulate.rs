//! The review that the API server would send for a manifest, and what comes of it: what `render`, `check`, `test`
//! and `explain` look at. The answer itself is [`mutate`]'s, as in the webhook.

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
use crate::model::task::{self};
use crate::mutate::provenance::Change;
use crate::mutate::{LayerMode, ModuleRun, MutateError, Mutation, mutate};

/// Who sends a manifest, and where to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sender<'s> {
    /// the namespace; the manifest's own, else `default`, if absent
    pub namespace: Option<&'s str>,
    /// the user; if absent a submitter of the pod's task system, and for a Job's pod the Job controller
    pub user: Option<&'s str>,
}

/// One object of a file.
#[derive(Debug)]
pub struct Document {
    /// where it begins, from 1
    pub line: u32,
    /// the object
    pub object: Value,
}

/// The objects of a JSON text or of the documents of a YAML text; a `List` gives its items.
///
/// # Errors
/// What is wrong with the text and where; it does not quote it.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>, Diagnostic> {
    if let Ok(object) = serde_json::from_str(text) {
        return Ok(items(Document { line: 1, object }));
    }
    let nodes = parse_all(text).map_err(|error| problem(file, error.at, error.message))?;
    let documents = nodes.iter().map(|node| Document { line: node.at.line, object: node.to_json() });
    Ok(documents.flat_map(items).collect())
}

fn problem(file: &str, at: Position, message: String) -> Diagnostic {
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

/// What can be rendered, for an error.
pub const EXPECTED: &str = "a Pod, a Job or an AdmissionReview is expected";

/// The review of an object: an AdmissionReview as it is (but for what the sender says), or one made around a pod or
/// the first pod of a Job.
///
/// # Errors
/// The object is something else.
pub fn review(given: Value, sender: Sender<'_>, snapshot: &Snapshot) -> Result<Value, String> {
    match given["kind"].as_str() {
        Some("AdmissionReview") => {
            let mut review = given;
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
        Some("Pod") => Ok(around(&without_nulls(given), sender, snapshot)),
        Some("Job") => {
            let user = sender.user.or(Some(job::CONTROLLER));
            Ok(around(&job::pod(&without_nulls(given))?, Sender { user, ..sender }, snapshot))
        }
        Some(other) => Err(format!("it is a {other}; {EXPECTED}")),
        None => Err(format!("it has no kind; {EXPECTED}")),
    }
}

fn around(pod: &Value, sender: Sender<'_>, snapshot: &Snapshot) -> Value {
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

/// The API server drops `null` from what it is sent, and charts render many.
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

/// Nobody waits behind an offline render: modules may take all of their budget.
pub(crate) const OFFLINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a review.
pub struct Answered<'a> {
    /// the review
    pub review: Review<'a>,
    /// the modules that ran
    pub runs: Vec<ModuleRun>,
    /// as [`mutate`] gives it
    pub result: Result<Option<Mutation<'a>>, Denial>,
}

impl<'a> Answered<'a> {
    /// The pod that comes back; as it was sent, where it is left alone or refused.
    pub fn pod(&self) -> Json<'a> {
        match &self.result {
            Ok(Some(mutation)) => mutation.steps.last(),
            _ => self.review.object,
        }
    }
}

/// Answers the bytes of a review.
///
/// # Errors
/// They are no review.
pub fn answer<'a>(body: &'a [u8], snapshot: &'a Snapshot, arena: &'a Bump) -> Result<Answered<'a>, String> {
    let review = Review::parse(body, arena)?;
    let mut runs = Vec::new();
    let result =
        match mutate(&review, snapshot, Execution::Pooled(&|| OFFLINE_TIMEOUT), LayerMode::PerLayer, &mut runs, arena)
            .map_err(|failure| failure.error)
        {
            Ok(mutation) => Ok(mutation),
            Err(MutateError::Denied(rejection)) => Err(rejection),
            Err(MutateError::NeedsPool(module)) => return Err(format!("module {module} did not run")),
        };
    Ok(Answered { review, runs, result })
}

/// What came of a review, once and twice; nothing in it is borrowed.
#[derive(Debug)]
pub struct Simulation {
    /// the pod that comes back, made by applying the patch; or the refusal
    pub result: Result<Value, Denial>,
    /// who did what
    pub touches: Vec<Change>,
    /// what the manifest sets and comes back otherwise or not at all
    pub replaced: Vec<String>,
    /// what is done to the result when it is sent again: nothing, where all is well
    pub second_run: Result<Vec<Change>, Denial>,
    /// whether the pod is a task's
    pub is_task_pod: bool,
    /// what is worth knowing of a pod that went through
    pub note: Option<String>,
}

/// Answers a review, and the same review with what came out in place of its pod.
///
/// # Errors
/// It is no review.
pub fn simulate(review: &Value, snapshot: &Snapshot) -> Result<Simulation, String> {
    let first = run_once(review, snapshot)?;
    let again = match &first.result {
        Ok(pod) if first.is_task_pod => {
            let mut second = review.clone();
            second["request"]["object"] = pod.clone();
            let second = run_once(&second, snapshot)?;
            second.result.map(|again| if again == *pod { Vec::new() } else { second.touches })
        }
        _ => Ok(Vec::new()),
    };
    Ok(Simulation { second_run: again, ..first })
}

fn run_once(review: &Value, snapshot: &Snapshot) -> Result<Simulation, String> {
    let arena = Bump::new();
    let body = review.to_string();
    let answered = answer(body.as_bytes(), snapshot, &arena)?;
    let mut simulation = Simulation {
        result: Ok(review["request"]["object"].clone()),
        touches: Vec::new(),
        replaced: Vec::new(),
        second_run: Ok(Vec::new()),
        is_task_pod: !matches!(answered.result, Ok(None)),
        note: None,
    };
    match answered.result {
        Ok(Some(mutation)) => {
            if let Ok(pod) = &mut simulation.result {
                apply(pod, &mutation)?;
            }
            simulation.touches = mutation.steps.changes(&arena);
            let replaced = mutation.operations.iter().filter(|operation| operation.action != Action::Add);
            simulation.replaced = replaced.map(|operation| display_path(operation.path)).collect();
            simulation.note = mutation.notice;
        }
        Ok(None) => {}
        Err(rejection) => simulation.result = Err(rejection),
    }
    Ok(simulation)
}

/// As the API server does it: by the patch, and not by the tree that the patch was made from.
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
    fn what_is_no_yaml_is_told_with_its_place_and_without_its_text() {
        let problem = documents("pod.yaml", "kind: Pod\nspec: [secret\n").unwrap_err().to_string();
        assert!(problem.starts_with("pod.yaml:2:7: "), "{problem}");
        assert!(!problem.contains("secret"), "{problem}");
    }
}
