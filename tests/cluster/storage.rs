//! Existing claims, and claims that Kubernetes creates with the pod.

use serde_json::json;

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{quiet, same};
use podgraft_testkit::installation::Installation;
use podgraft_testkit::pod::{named, primary};
use podgraft_testkit::process::{PATIENCE, wait_until};

const CONFIG: &str = "
queues:
  scratch-disk:
    templateOverrides:
      volumes: [{name: task-pvc, persistentVolumeClaim: {claimName: PVC_NAME}}]
      volumeMounts: [{name: task-pvc, mountPath: /tmp/task}]
    claims:
    - volume: task-pvc
      type: Ephemeral
      labels: {made-by: podgraft}
      spec: {accessModes: [ReadWriteOnce], storageClassName: standard, resources: {requests: {storage: 1Gi}}}
  datasets:
    templateOverrides:
      volumes: [{name: data, persistentVolumeClaim: {claimName: PVC_NAME}}]
      volumeMounts: [{name: data, mountPath: /data}]
    claims: [{volume: data, type: Existing, name: datasets}]
";

pub(crate) fn an_ephemeral_claim_lives_as_long_as_its_pod(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("storage", CONFIG)?;
    ns.until_webhook_says("scratch-disk", "queue/scratch-disk")?;
    let pod = ns.create_in("scratch-disk", "one")?;
    let mount = named(&primary(&pod)["volumeMounts"], "task-pvc");
    same("the mount", mount, &json!({"name": "task-pvc", "mountPath": "/tmp/task"}))?;

    let claim = wait_until("the claim", PATIENCE, || {
        let list = installation.cluster.get_json(&["persistentvolumeclaims", "-n", ns.name]);
        Ok(list["items"].get(0).cloned())
    })?;
    same("the claim's name", &claim["metadata"]["name"], &json!("one-task-pvc"))?;
    same("the claim's labels", &claim["metadata"]["labels"], &json!({"made-by": "podgraft"}))?;
    let owner = &claim["metadata"]["ownerReferences"][0];
    same("the claim's owner", &owner["uid"], &pod["metadata"]["uid"])?;
    same("the claim's owner's kind", &owner["kind"], &json!("Pod"))?;
    let spec = &claim["spec"];
    same("the access modes", &spec["accessModes"], &json!(["ReadWriteOnce"]))?;
    same("the storage class", &spec["storageClassName"], &json!("standard"))?;
    same("the size", &spec["resources"]["requests"]["storage"], &json!("1Gi"))?;

    quiet_delete(&ns)?;
    wait_until("the claim's end", PATIENCE, || {
        let list = installation.cluster.get_json(&["persistentvolumeclaims", "-n", ns.name]);
        Ok(list["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;

    let pod = ns.create_in("datasets", "two")?;
    let volume = named(&pod["spec"]["volumes"], "data");
    same("the volume", volume, &json!({"name": "data", "persistentVolumeClaim": {"claimName": "datasets"}}))
}

/// Deletes the pod with a grace period, as there is no kubelet. kubectl warns of `--force`, so that is not used.
fn quiet_delete(ns: &podgraft_testkit::installation::TestNamespace<'_>) -> Outcome {
    quiet(&ns.kubectl(&["delete", "pod", "one", "--grace-period=1", "--wait=false"], "")).map(drop)
}
