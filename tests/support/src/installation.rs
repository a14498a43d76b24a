//! A control plane with podgraft installed in it, and namespaces for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};

use crate::client::{self, Reply};
use crate::control_plane::{ControlPlane, Options, Output};
use crate::expect::{as_json, expect};
use crate::fixtures::{committed, graft_config};
use crate::install::{self, Install, ServingCertificate};
use crate::pod::{AGENT, task_pod};
use crate::process::{PATIENCE, wait_until};
use crate::server::{Podgraft, free_port};
use crate::{Outcome, root};

/// The layer of every task pod of every test.
const BASE: &str = "basePodTemplate:\n  env: [{name: FROM_BASE, value: everywhere}]\n";

/// The control plane and podgraft. Fields are dropped in this order: clients before servers.
pub struct Installation {
    podgraft: Mutex<Option<Podgraft>>,
    certificate: Mutex<ServingCertificate>,
    /// The control plane.
    pub cluster: ControlPlane,
    /// The port that podgraft serves on, also after a restart.
    pub port: u16,
    kubeconfig: PathBuf,
}

impl Installation {
    /// Starts everything as `deploy/kustomize/base` describes it.
    pub fn start() -> Outcome<Self> {
        let cluster = ControlPlane::start(Options::default())?;
        let certificate = install::serving_certificate(&cluster.dir().join("tls"))?;
        let port = free_port()?;
        cluster.create_storage_class();
        let base = root().join("deploy/kustomize/base");
        Install { cluster: &cluster, base: &base, port, ca_pem: &certificate.ca_pem() }.apply()?;
        let kubeconfig = cluster.service_account_kubeconfig("podgraft", "podgraft");
        let (podgraft, certificate) = (Mutex::default(), Mutex::new(certificate));
        let installation = Self { podgraft, certificate, cluster, port, kubeconfig };
        installation.configure("podgraft-config", BASE)?;
        installation.put("ConfigMap", "policies", &binary(&[("inject-nfs.wasm", committed("inject-nfs.wasm")?)]))?;
        installation.start_podgraft()?;
        Ok(installation)
    }

    /// Starts podgraft on its port.
    pub fn start_podgraft(&self) -> Outcome {
        self.start_podgraft_with(&[])
    }

    /// Starts podgraft on its port, with further flags.
    pub fn start_podgraft_with(&self, flags: &[&str]) -> Outcome {
        let arguments = [&["--namespace", "podgraft"], flags].concat();
        let podgraft = Podgraft::start_on(self.port, &self.tls(), &self.log(), Some(&self.kubeconfig), &arguments)?;
        *lock(&self.podgraft) = Some(podgraft);
        Ok(())
    }

    /// Ends podgraft as a kubelet does.
    pub fn stop_podgraft(&self) -> Outcome {
        let podgraft = lock(&self.podgraft).take().ok_or("podgraft does not run")?;
        let status = podgraft.terminate()?;
        expect(status.success(), || format!("podgraft ended with {status}"))
    }

    /// Asks the podgraft that runs.
    pub fn podgraft<T>(&self, ask: impl FnOnce(&Podgraft) -> Outcome<T>) -> Outcome<T> {
        lock(&self.podgraft).as_ref().ok_or_else(|| "podgraft does not run".into()).and_then(ask)
    }

    /// Waits until podgraft has logged this.
    pub fn logged(&self, text: &str) -> Outcome {
        wait_until(&format!("{text:?} in podgraft's log"), PATIENCE, || {
            let log = fs::read_to_string(self.log()).map_err(|error| error.to_string())?;
            Ok(log.contains(text).then_some(()))
        })
    }

    fn log(&self) -> PathBuf {
        self.cluster.dir().join("podgraft.log")
    }

    /// The folder with podgraft's certificate.
    pub fn tls(&self) -> PathBuf {
        self.cluster.dir().join("tls")
    }

    /// podgraft's own kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// podgraft's certificate, to rotate it.
    pub fn certificate(&self) -> MutexGuard<'_, ServingCertificate> {
        lock(&self.certificate)
    }

    /// Lets the API server trust these authorities of the webhook's certificate.
    pub fn trust(&self, ca_pem: &str) -> Outcome {
        let base = root().join("deploy/kustomize/base");
        Install { cluster: &self.cluster, base: &base, port: self.port, ca_pem }.update_webhooks()
    }

    /// Writes a GraftConfig into a ConfigMap of podgraft's namespace.
    pub fn configure(&self, name: &str, sections: &str) -> Outcome {
        self.put("ConfigMap", name, &json!({"data": {"podgraft.yaml": graft_config(sections)}}))
    }

    /// Applies an object of podgraft's namespace.
    pub fn put(&self, kind: &str, name: &str, content: &Value) -> Outcome {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "podgraft"}});
        for (key, value) in content.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        // client-side apply keeps a copy in an annotation, for which modules are too large
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let output = self.cluster.kubectl_stdin(&arguments, &object.to_string());
        expect(output.success(), || output.stderr.clone())
    }

    /// Posts a review to podgraft, past the API server.
    pub fn post(&self, review: &[u8]) -> Outcome<Reply> {
        self.post_to(self.port, review)
    }

    /// Posts a review to the podgraft on this port.
    pub fn post_to(&self, port: u16, review: &[u8]) -> Outcome<Reply> {
        let authority = self.certificate().ca_pem();
        client::post(port, &authority, review)
    }

    /// Posts the review of a pod of this queue: the layers and modules that are applied, with the patch that they make,
    /// or the denial's message.
    pub fn webhook_says(&self, namespace: &str, queue: &str) -> Outcome<String> {
        self.webhook_says_on(self.port, namespace, queue)
    }

    /// Posts the review of a pod of this queue to the podgraft on this port.
    pub fn webhook_says_on(&self, port: u16, namespace: &str, queue: &str) -> Outcome<String> {
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "probe", "operation": "CREATE", "namespace": namespace, "userInfo": {"username": "probe"},
                "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": task_pod("probe", queue),
            }
        });
        let reply = self.post_to(port, review.to_string().as_bytes())?;
        let reply: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
        let response = &reply["response"];
        let text = response["auditAnnotations"]["applied"].as_str().or(response["status"]["message"].as_str());
        let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap_or_default());
        let patch = patch.map_err(|error| error.to_string())?;
        Ok(format!("{} {}", text.unwrap_or("nothing"), String::from_utf8_lossy(&patch)))
    }

    /// Waits until podgraft's answer for a pod of this queue holds this text: the configuration is live.
    pub fn until_webhook_says(&self, namespace: &str, queue: &str, text: &str) -> Outcome {
        wait_until(&format!("{text:?} for {queue}"), PATIENCE, || {
            let said = self.webhook_says(namespace, queue)?;
            if said.contains(text) { Ok(Some(())) } else { Err(said) }
        })
    }

    /// The audit event of a pod's creation; dry runs have one each.
    pub fn audited(&self, namespace: &str, pod: &str) -> Outcome<Value> {
        wait_until(&format!("the audit event of {namespace}/{pod}"), PATIENCE, || {
            let is_it = |event: &Value| {
                let object = &event["objectRef"];
                event["verb"] == "create" && object["namespace"] == namespace && object["name"] == pod
            };
            Ok(self.cluster.audit_events().into_iter().rfind(is_it))
        })
    }

    /// Creates a namespace with an agent in it and a configuration of its own: these sections, in which `NAMESPACE` is
    /// its name.
    pub fn create_namespace(&self, name: &'static str, sections: &str) -> Outcome<TestNamespace<'_>> {
        let ns = self.create_unconfigured_namespace(name)?;
        ns.configure(sections)?;
        Ok(ns)
    }

    /// Creates a namespace with an agent in it.
    pub fn create_unconfigured_namespace(&self, name: &'static str) -> Outcome<TestNamespace<'_>> {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"});
        let account = json!({"kind": "ServiceAccount", "name": AGENT, "namespace": name});
        let objects = json!([
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": AGENT, "namespace": name}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
             "metadata": {"name": "agent", "namespace": name}, "roleRef": role, "subjects": [account]},
        ]);
        self.cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
        let agent = self.cluster.service_account_kubeconfig(name, AGENT);
        wait_until("the agent's rights", PATIENCE, || {
            let answer = self.cluster.kubectl_as(&agent, &["auth", "can-i", "create", "pods", "-n", name]);
            Ok(answer.success().then_some(()))
        })?;
        Ok(TestNamespace { installation: self, name, agent })
    }
}

/// A namespace in which one test creates its pods.
pub struct TestNamespace<'w> {
    /// The installation that it belongs to.
    pub installation: &'w Installation,
    /// Its name.
    pub name: &'static str,
    /// The agent's kubeconfig.
    pub agent: PathBuf,
}

impl TestNamespace<'_> {
    /// Writes the namespace's own configuration: a ClearML installation whose agent is a submitter, and these sections.
    pub fn configure(&self, sections: &str) -> Outcome {
        let account = format!("system:serviceaccount:NAMESPACE:{AGENT}");
        let system =
            format!("systems: {{NAMESPACE: {{type: ClearML, namespaces: [NAMESPACE], submitters: ['{account}']}}}}");
        let text = format!("{system}\n{sections}").replace("NAMESPACE", self.name);
        self.installation.configure(self.name, &text)
    }

    /// Waits until podgraft's answer for a pod of this queue holds this text.
    pub fn until_webhook_says(&self, queue: &str, text: &str) -> Outcome {
        self.installation.until_webhook_says(self.name, queue, text)
    }

    /// Runs `kubectl` as the agent.
    pub fn kubectl(&self, arguments: &[&str], stdin: &str) -> Output {
        let arguments = [&["-n", self.name], arguments].concat();
        self.installation.cluster.kubectl_stdin_as(&self.agent, &arguments, stdin)
    }

    /// Creates a pod as the agent, and returns it as it was stored.
    pub fn create(&self, pod: &Value) -> Outcome<Value> {
        as_json(&self.kubectl(&["create", "-o", "json", "-f", "-"], &pod.to_string()))
    }

    /// Creates a pod of a queue as the agent.
    pub fn create_in(&self, queue: &str, pod: &str) -> Outcome<Value> {
        self.create(&task_pod(pod, queue))
    }

    /// Creates a pod as the agent, but stores nothing.
    pub fn dry_run(&self, pod: &Value) -> Output {
        self.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod.to_string())
    }

    /// Labels the namespace so that pods are denied when podgraft does not answer, and waits until the API server knows.
    pub fn require_podgraft(&self) -> Outcome {
        self.installation.cluster.kubectl_ok(&["label", "namespace", self.name, "podgraft.io/required="]);
        self.until_required()
    }

    /// Waits until the API server calls podgraft by the entry whose failure policy is `Fail`.
    pub fn until_required(&self) -> Outcome {
        wait_until("the entry with Fail", PATIENCE, || {
            let output = self.dry_run(&task_pod("probe", self.name));
            expect(output.success(), || output.stderr.clone())?;
            let annotations = &self.installation.audited(self.name, "probe")?["annotations"];
            Ok(annotations["required.podgraft.io/config"].is_string().then_some(()))
        })
    }

    /// Tries to create a pod as the agent; returns what kubectl prints of the denial.
    pub fn expect_denial(&self, pod: &Value) -> Outcome<String> {
        let output = self.kubectl(&["create", "-f", "-"], &pod.to_string());
        expect(!output.success(), || format!("it was created: {}", output.stdout))?;
        Ok(output.stderr.trim().to_owned())
    }

    /// Returns a pod as it is stored.
    pub fn stored(&self, pod: &str) -> Value {
        self.installation.cluster.get_json(&["pod", pod, "-n", self.name])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked leaves nothing half done in there.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `binaryData` of a `ConfigMap`.
pub fn binary(files: &[(&str, Vec<u8>)]) -> Value {
    let data: Map<String, Value> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), json!(BASE64_STANDARD.encode(bytes)))).collect();
    json!({"binaryData": data})
}
