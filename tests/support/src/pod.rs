//! Pods of tests: writing one, and reading what became of it.

use serde_json::{Value, json};

/// The `ServiceAccount` of the open chart's agent.
pub const AGENT: &str = "clearml-agent-sa";

/// The smallest pod that is one of a ClearML task, with a container besides the task's.
pub fn task_pod(name: &str, queue: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"CLEARML": "agent", "clearml-agent-queue-name": queue}},
        "spec": {
            "serviceAccountName": AGENT,
            "containers": [{"name": "beside", "image": "busybox"}, {"name": name, "image": "busybox"}],
        },
    })
}

/// The element of this name.
pub fn named<'p>(list: &'p Value, name: &str) -> &'p Value {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().find(|item| item["name"] == name).unwrap_or(&Value::Null)
}

/// The container that the task runs in.
pub fn primary(pod: &Value) -> &Value {
    named(&pod["spec"]["containers"], pod["metadata"]["name"].as_str().unwrap_or_default())
}

/// The value of a variable of the task.
pub fn env<'p>(pod: &'p Value, name: &str) -> &'p str {
    named(&primary(pod)["env"], name)["value"].as_str().unwrap_or("absent")
}

/// Returns what was applied, as the pod's annotation says.
pub fn applied(pod: &Value) -> &str {
    pod["metadata"]["annotations"]["podgraft.io/applied"].as_str().unwrap_or("nothing")
}
