//! The review that the API server would send for a manifest: what `render` and the case folders answer.

use bumpalo::Bump;
use serde_json::{Value, json};

use crate::json::Json;
use crate::snapshot::Snapshot;
use crate::task::{self, Pod};

/// Who sends a manifest, and where to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sender<'s> {
    /// the namespace; the manifest's own, else `default`, if absent
    pub namespace: Option<&'s str>,
    /// the user; a submitter of the pod's task system if absent
    pub user: Option<&'s str>,
}

/// The review of what a file holds: an AdmissionReview as it is (but for what the sender says), or one made
/// around a pod.
///
/// # Errors
/// The file holds something else.
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
        Some(other) => Err(format!("it is a {other}; a Pod or an AdmissionReview is expected")),
        None => Err("it has no kind; a Pod or an AdmissionReview is expected".to_owned()),
    }
}

fn around(pod: &Value, sender: Sender<'_>, snapshot: &Snapshot) -> Value {
    let own = pod["metadata"]["namespace"].as_str();
    let namespace = sender.namespace.or(own).unwrap_or("default").to_owned();
    let user = sender.user.map(str::to_owned).or_else(|| {
        let arena = Bump::new();
        task::a_submitter(&Pod { object: Json::lift(pod, &arena), namespace: &namespace }, snapshot)
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
