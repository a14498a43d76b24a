//! Submitters: a user's vault is for tasks that a submitter created for that user.

use std::path::Path;

use serde_json::{Value, json};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{as_json, same};
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::pod::{named, primary, task_pod};

const CONFIG: &str = "
queues: {identity: {modules: [identity]}}
modules: {identity: {wasm: inject-nfs.wasm, when: has(task_config.nfs)}}
taskConfig:
- match: {namespaces: [NAMESPACE], user: alice}
  config: {nfs: {server: {ip: 10.0.0.7, path: /home/alice}, mountPath: /home/alice}}
";

pub(crate) fn a_users_vault_is_for_what_the_agent_creates_for_that_user(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("identity", CONFIG)?;
    ns.until_webhook_says("identity", "base")?;
    installation.cluster.apply(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: intruder, namespace: identity}}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: intruder, namespace: identity}, \
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}, \
         subjects: [{kind: ServiceAccount, name: intruder, namespace: identity}]}\n",
    );
    let (agent, administrator) = (&ns.agent, &installation.cluster.kubeconfig());
    same("for alice", vault_of(&ns, agent, "clearml-id-one", Some("alice"))?, json!("/home/alice"))?;
    same("for bob", vault_of(&ns, agent, "clearml-id-two", Some("bob"))?, Value::Null)?;
    same("for no user", vault_of(&ns, agent, "clearml-id-three", None)?, Value::Null)?;

    // the same pod from a user with the right to create pods, from the administrator, and from the agent's service
    // account inside a task's pod
    let intruder = installation.cluster.service_account_kubeconfig(ns.name, "intruder");
    same("by an intruder", vault_of(&ns, &intruder, "clearml-id-four", Some("alice"))?, Value::Null)?;
    same("by a master", vault_of(&ns, administrator, "clearml-id-five", Some("alice"))?, Value::Null)?;
    let task = installation.cluster.pod_kubeconfig(ns.name, "clearml-agent-sa", "clearml-id-one");
    same("by a task", vault_of(&ns, &task, "clearml-id-six", Some("alice"))?, Value::Null)
}

/// Creates a task pod as this creator, for this user, and returns the path of the export that is mounted.
fn vault_of(ns: &TestNamespace<'_>, creator: &Path, name: &str, user: Option<&str>) -> Outcome<Value> {
    let mut pod = task_pod(name, "identity");
    pod["metadata"]["namespace"] = ns.name.into();
    pod["metadata"]["annotations"] = user.map_or(Value::Null, |user| json!({"podgraft.io/user": user}));
    let arguments = ["create", "-o", "json", "-f", "-"];
    let pod = as_json(&ns.installation.cluster.kubectl_stdin_as(creator, &arguments, &pod.to_string()))?;
    let mount = named(&primary(&pod)["volumeMounts"], "custom-mount");
    same("mount and volume", mount.is_null(), named(&pod["spec"]["volumes"], "custom-mount").is_null())?;
    Ok(mount["mountPath"].clone())
}
