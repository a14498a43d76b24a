//! Makes the pod that the Job controller would create for a Job.

use serde_json::{Map, Value, json};

/// The user that creates a Job's pods.
pub(super) const CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";

/// The uid of a Job that was never created.
const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Returns the Job's first pod, as the API server sends it to the webhook.
pub(super) fn pod(job: &Value) -> Result<Value, String> {
    let template = &job["spec"]["template"];
    if !template["spec"].is_object() {
        return Err("the Job has no spec.template.spec".to_owned());
    }
    let prefix = || job["metadata"]["generateName"].as_str().map(|prefix| prefix.trim_end_matches('-'));
    let name = job["metadata"]["name"].as_str().or_else(prefix).ok_or("the Job has no metadata.name")?;
    let uid = job["metadata"]["uid"].as_str().unwrap_or(NO_UID);
    let mut metadata = json!({
        "generateName": format!("{name}-"),
        "labels": labels(job, name, uid),
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": true}],
        "finalizers": ["batch.kubernetes.io/job-tracking"],
    });
    for (key, value) in
        [("namespace", &job["metadata"]["namespace"]), ("annotations", &template["metadata"]["annotations"])]
    {
        if !value.is_null() {
            metadata[key] = value.clone();
        }
    }
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
    if job["spec"]["completionMode"] == "Indexed" {
        set_index(&mut pod, name);
    }
    Ok(pod)
}

fn labels(job: &Value, name: &str, uid: &str) -> Map<String, Value> {
    let mut labels = job["spec"]["template"]["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if job["spec"]["manualSelector"] != true {
        let both = |key: &str, value: &str| {
            [key, &format!("batch.kubernetes.io/{key}")].map(|key| (key.to_owned(), json!(value)))
        };
        labels.extend(both("controller-uid", uid).into_iter().chain(both("job-name", name)));
    }
    labels
}

/// Sets the index 0 of `completionMode: Indexed` in the name, the labels, the annotations and every container's env.
fn set_index(pod: &mut Value, name: &str) {
    set(&mut pod["metadata"], "generateName", json!(format!("{name}-0-")));
    set(&mut pod["metadata"]["labels"], INDEX, json!("0"));
    set(&mut pod["metadata"]["annotations"], INDEX, json!("0"));
    set(&mut pod["spec"], "hostname", json!(format!("{name}-0")));
    let field = json!({"name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX}']")}}});
    let lists = ["/spec/initContainers", "/spec/containers"];
    for list in lists {
        for container in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            match container.get_mut("env").and_then(Value::as_array_mut) {
                Some(env) => env.push(field.clone()),
                None => set(container, "env", json!([field])),
            }
        }
    }
}

/// Sets a member. An invalid manifest may have another value in place of the object: it stays.
fn set(object: &mut Value, key: &str, value: Value) {
    match object {
        Value::Object(members) => _ = members.insert(key.to_owned(), value),
        Value::Null => *object = json!({key: value}),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/fixtures/reviews/job.json` was sent by a real API server for the first pod of a real Job.
    #[test]
    fn the_pod_equals_the_one_of_a_real_job_controller() {
        let sent: Value = serde_json::from_str(include_str!("../../../tests/fixtures/reviews/job.json")).unwrap();
        let mut sent = sent["request"]["object"].clone();
        let owner = &sent["metadata"]["ownerReferences"][0];
        let labels = json!({"clearml-agent-queue-name": "1xgpu"});
        let job = json!({"kind": "Job",
            "metadata": {"name": owner["name"], "uid": owner["uid"], "namespace": sent["metadata"]["namespace"]},
            "spec": {"template": {"metadata": {"labels": labels}, "spec": sent["spec"]}}});
        sent["metadata"].as_object_mut().unwrap().remove("managedFields");
        sent.as_object_mut().unwrap().remove("status");
        assert_eq!(pod(&job).unwrap(), sent);
    }

    #[test]
    fn an_indexed_jobs_first_pod_has_its_index() {
        let job = json!({"metadata": {"name": "many"}, "spec": {"completionMode": "Indexed", "manualSelector": true,
            "template": {"spec": {"containers": [{"name": "a"}]}}}});
        let pod = pod(&job).unwrap();
        assert_eq!(pod["metadata"]["generateName"], "many-0-");
        assert_eq!(pod["metadata"]["labels"], json!({INDEX: "0"}), "a manual selector adds no labels");
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
        assert!(pod["spec"].get("initContainers").is_none());
    }

    #[test]
    fn a_job_without_a_template_or_a_name_is_an_error() {
        let error = |job: Value| pod(&job).unwrap_err();
        assert_eq!(error(json!({"kind": "Job"})), "the Job has no spec.template.spec");
        assert_eq!(error(json!({"spec": {"template": {"spec": {}}}})), "the Job has no metadata.name");
    }
}
