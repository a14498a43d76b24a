//! What the trials share: one control plane, one podgraft that is installed in it, and a place for each trial.

use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::control_plane::{ControlPlane, Options, Output};
use super::https::{self, Reply};
use super::install::{self, Install, ServingCertificate};
use super::podgraft::{self, Podgraft};
use super::process::{PATIENCE, wait_until};

/// Why a trial failed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The account of the open chart's agent.
const AGENT: &str = "clearml-agent-sa";

/// What every task pod of every trial gets.
const BASE: &str = "basePodTemplate:\n  env: [{name: FROM_BASE, value: everywhere}]\n";

/// The control plane and podgraft. Fields are dropped in this order: clients before servers.
pub(crate) struct World {
    podgraft: Mutex<Option<Podgraft>>,
    certificate: Mutex<ServingCertificate>,
    pub(crate) cluster: ControlPlane,
    /// podgraft's port, also of the one that takes its place after [`Self::stop_podgraft`]
    pub(crate) port: u16,
    kubeconfig: PathBuf,
}

impl World {
    /// Starts everything as `deploy/kustomize/base` describes it.
    pub(crate) fn start() -> Outcome<Self> {
        let cluster = ControlPlane::start(Options::default())?;
        let certificate = install::serving_certificate(&cluster.dir().join("tls"))?;
        let port = podgraft::free_port()?;
        cluster.create_storage_class();
        let base = root().join("deploy/kustomize/base");
        Install { cluster: &cluster, base: &base, port, ca_pem: &certificate.ca_pem() }.apply()?;
        let kubeconfig = cluster.service_account_kubeconfig("podgraft", "podgraft");
        let (podgraft, certificate) = (Mutex::default(), Mutex::new(certificate));
        let world = Self { podgraft, certificate, cluster, port, kubeconfig };
        world.configure("podgraft-config", BASE)?;
        world.put("ConfigMap", "policies", &binary(&[("inject-nfs.wasm", committed("inject-nfs.wasm")?)]))?;
        world.start_podgraft()?;
        Ok(world)
    }

    /// Starts podgraft where it is expected.
    pub(crate) fn start_podgraft(&self) -> Outcome {
        self.start_podgraft_with(&[])
    }

    /// The same with further flags.
    pub(crate) fn start_podgraft_with(&self, flags: &[&str]) -> Outcome {
        let arguments = [&["--namespace", "podgraft"], flags].concat();
        let podgraft = Podgraft::start_on(self.port, &self.tls(), &self.log(), Some(&self.kubeconfig), &arguments)?;
        *lock(&self.podgraft) = Some(podgraft);
        Ok(())
    }

    /// Ends podgraft as a kubelet does.
    pub(crate) fn stop_podgraft(&self) -> Outcome {
        let podgraft = lock(&self.podgraft).take().ok_or("podgraft does not run")?;
        let status = podgraft.terminate()?;
        expect(status.success(), || format!("podgraft ended with {status}"))
    }

    /// Asks the podgraft that runs.
    pub(crate) fn podgraft<T>(&self, ask: impl FnOnce(&Podgraft) -> Outcome<T>) -> Outcome<T> {
        lock(&self.podgraft).as_ref().ok_or_else(|| "podgraft does not run".into()).and_then(ask)
    }

    /// Waits until podgraft has logged this.
    pub(crate) fn logged(&self, text: &str) -> Outcome {
        wait_until(&format!("{text:?} in podgraft's log"), PATIENCE, || {
            let log = fs::read_to_string(self.log()).map_err(|error| error.to_string())?;
            Ok(log.contains(text).then_some(()))
        })
    }

    fn log(&self) -> PathBuf {
        self.cluster.dir().join("podgraft.log")
    }

    /// The folder with podgraft's certificate.
    pub(crate) fn tls(&self) -> PathBuf {
        self.cluster.dir().join("tls")
    }

    /// podgraft's own kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// podgraft's certificate, to rotate it.
    pub(crate) fn certificate(&self) -> MutexGuard<'_, ServingCertificate> {
        lock(&self.certificate)
    }

    /// The registration with these authorities.
    pub(crate) fn trust(&self, ca_pem: &str) -> Outcome {
        let base = root().join("deploy/kustomize/base");
        Install { cluster: &self.cluster, base: &base, port: self.port, ca_pem }.update_webhooks()
    }

    /// Writes a GraftConfig into a ConfigMap of podgraft's namespace.
    pub(crate) fn configure(&self, name: &str, sections: &str) -> Outcome {
        self.put("ConfigMap", name, &json!({"data": {"podgraft.yaml": graft_config(sections)}}))
    }

    /// Applies an object of podgraft's namespace.
    pub(crate) fn put(&self, kind: &str, name: &str, content: &Value) -> Outcome {
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
    pub(crate) fn post(&self, review: &[u8]) -> Outcome<Reply> {
        self.post_to(self.port, review)
    }

    /// Posts a review to the podgraft on this port.
    pub(crate) fn post_to(&self, port: u16, review: &[u8]) -> Outcome<Reply> {
        let authority = self.certificate().ca_pem();
        https::post(port, &authority, review)
    }

    /// What podgraft says of a pod of this queue now: the layers and modules that it applies with the patch that they
    /// make, or why it refuses.
    pub(crate) fn says(&self, namespace: &str, queue: &str) -> Outcome<String> {
        self.says_on(self.port, namespace, queue)
    }

    /// What the podgraft on this port says.
    pub(crate) fn says_on(&self, port: u16, namespace: &str, queue: &str) -> Outcome<String> {
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "probe", "operation": "CREATE", "namespace": namespace, "userInfo": {"username": "nobody"},
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

    /// Waits until podgraft says this of a queue's pods: the configuration is live.
    pub(crate) fn until_says(&self, namespace: &str, queue: &str, text: &str) -> Outcome {
        wait_until(&format!("{text:?} for {queue}"), PATIENCE, || {
            let said = self.says(namespace, queue)?;
            if said.contains(text) { Ok(Some(())) } else { Err(said) }
        })
    }

    /// The audit event of a pod's creation; dry runs have one each.
    pub(crate) fn audited(&self, namespace: &str, pod: &str) -> Outcome<Value> {
        wait_until(&format!("the audit event of {namespace}/{pod}"), PATIENCE, || {
            let is_it = |event: &Value| {
                let object = &event["objectRef"];
                event["verb"] == "create" && object["namespace"] == namespace && object["name"] == pod
            };
            Ok(self.cluster.audit_events().into_iter().rfind(is_it))
        })
    }

    /// A namespace with an agent in it, and a configuration of its own: these sections, in which `NAMESPACE` is its
    /// name.
    pub(crate) fn place(&self, name: &'static str, sections: &str) -> Outcome<Place<'_>> {
        let place = self.unconfigured_place(name)?;
        place.configure(sections)?;
        Ok(place)
    }

    /// A namespace with an agent in it.
    pub(crate) fn unconfigured_place(&self, name: &'static str) -> Outcome<Place<'_>> {
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
        Ok(Place { world: self, name, agent })
    }
}

/// Where a trial creates its pods.
pub(crate) struct Place<'w> {
    pub(crate) world: &'w World,
    pub(crate) name: &'static str,
    /// the agent's kubeconfig
    pub(crate) agent: PathBuf,
}

impl Place<'_> {
    /// The place's own configuration: a ClearML installation whose agent is a submitter, and these sections.
    pub(crate) fn configure(&self, sections: &str) -> Outcome {
        let account = format!("system:serviceaccount:NAMESPACE:{AGENT}");
        let system =
            format!("systems: {{NAMESPACE: {{type: ClearML, namespaces: [NAMESPACE], submitters: ['{account}']}}}}");
        let text = format!("{system}\n{sections}").replace("NAMESPACE", self.name);
        self.world.configure(self.name, &text)
    }

    /// Waits until this is applied to a queue's pods, or said of them.
    pub(crate) fn until_says(&self, queue: &str, text: &str) -> Outcome {
        self.world.until_says(self.name, queue, text)
    }

    /// `kubectl` as the agent.
    pub(crate) fn kubectl(&self, arguments: &[&str], stdin: &str) -> Output {
        let arguments = [&["-n", self.name], arguments].concat();
        self.world.cluster.kubectl_stdin_as(&self.agent, &arguments, stdin)
    }

    /// Creates a pod as the agent, and gives it as it was stored.
    pub(crate) fn create(&self, pod: &Value) -> Outcome<Value> {
        as_json(&self.kubectl(&["create", "-o", "json", "-f", "-"], &pod.to_string()))
    }

    /// Creates a pod of a queue as the agent.
    pub(crate) fn create_in(&self, queue: &str, pod: &str) -> Outcome<Value> {
        self.create(&task_pod(pod, queue))
    }

    /// Tries to create a pod, and gives what kubectl says of the refusal.
    pub(crate) fn refusal(&self, pod: &Value) -> Outcome<String> {
        let output = self.kubectl(&["create", "-f", "-"], &pod.to_string());
        expect(!output.success(), || format!("it was created: {}", output.stdout))?;
        Ok(output.stderr.trim().to_owned())
    }

    /// A pod as it is stored.
    pub(crate) fn stored(&self, pod: &str) -> Value {
        self.world.cluster.get_json(&["pod", pod, "-n", self.name])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A trial that panicked leaves nothing half done in there.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === what goes in ===

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sections as a whole GraftConfig.
pub(crate) fn graft_config(sections: &str) -> String {
    format!("apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n{sections}\n")
}

/// The smallest pod that is one of a ClearML task, with a container besides the task's.
pub(crate) fn task_pod(name: &str, queue: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"CLEARML": "agent", "clearml-agent-queue-name": queue}},
        "spec": {
            "serviceAccountName": AGENT,
            "containers": [{"name": "beside", "image": "busybox"}, {"name": name, "image": "busybox"}],
        },
    })
}

/// A manifest of the real agent, in another namespace and queue than the one that it was recorded in.
pub(crate) fn clearml_manifest(file: &str, namespace: &str) -> Outcome<String> {
    let path = root().join("tests/fixtures/clearml").join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.replace("\n  namespace: clearml\n", &format!("\n  namespace: {namespace}\n")))
}

/// `binaryData` of a ConfigMap.
pub(crate) fn binary(files: &[(&str, Vec<u8>)]) -> Value {
    let data: Map<String, Value> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), json!(BASE64_STANDARD.encode(bytes)))).collect();
    json!({"binaryData": data})
}

/// A module of the repository.
pub(crate) fn committed(name: &str) -> Outcome<Vec<u8>> {
    fs::read(root().join("policies").join(name)).map_err(|error| format!("{name}: {error}"))
}

/// A module that misbehaves.
pub(crate) fn misbehaving(name: &str) -> Outcome<Vec<u8>> {
    let path = root().join("policies/misbehaving").join(name).with_extension("wat");
    wat::parse_file(path).map_err(|error| error.to_string())
}

/// A module that returns this fragment, whatever it is asked.
pub(crate) fn returning(fragment: &Value) -> Outcome<Vec<u8>> {
    let path = root().join("policies/misbehaving/not-json.wat");
    let wat = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let text = fragment.to_string();
    let data = text.bytes().fold(String::new(), |mut data, byte| {
        let _ = write!(data, "\\{byte:02x}");
        data
    });
    let wat = wat
        .replace("\"not json\"", &format!("\"{data}\""))
        .replace("(i32.const 12) (i32.const 8)", &format!("(i32.const 12) (i32.const {})", text.len()));
    wat::parse_str(wat).map_err(|error| error.to_string())
}

// === what comes out ===

/// A call that succeeded and said nothing on stderr, which fails a ClearML task; its stdout.
pub(crate) fn quiet(output: &Output) -> Outcome<&str> {
    expect(output.success() && output.stderr.is_empty(), || {
        format!("kubectl: {}, on stderr: {:?}", output.status, output.stderr)
    })?;
    Ok(&output.stdout)
}

/// The same, of a call with `-o json`.
pub(crate) fn as_json(output: &Output) -> Outcome<Value> {
    serde_json::from_str(quiet(output)?).map_err(|error| error.to_string())
}

/// The element of this name.
pub(crate) fn named<'p>(list: &'p Value, name: &str) -> &'p Value {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().find(|item| item["name"] == name).unwrap_or(&Value::Null)
}

/// The container that the task runs in.
pub(crate) fn primary(pod: &Value) -> &Value {
    named(&pod["spec"]["containers"], pod["metadata"]["name"].as_str().unwrap_or_default())
}

/// The value of a variable of the task.
pub(crate) fn env<'p>(pod: &'p Value, name: &str) -> &'p str {
    named(&primary(pod)["env"], name)["value"].as_str().unwrap_or("absent")
}

/// What was applied, by the pod's own account.
pub(crate) fn applied(pod: &Value) -> &str {
    pod["metadata"]["annotations"]["podgraft.io/applied"].as_str().unwrap_or("nothing")
}

/// Fails with this text unless it holds.
pub(crate) fn expect(holds: bool, or_else: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(or_else()) }
}

/// Fails unless both are the same.
#[expect(clippy::needless_pass_by_value, reason = "as with assert_eq, callers have values as often as references")]
pub(crate) fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    expect(found == expected, || {
        let (found, expected) = (format!("{found:#?}"), format!("{expected:#?}"));
        if !found.contains('\n') && !expected.contains('\n') {
            return format!("{what}: found {found}, expected {expected}");
        }
        let difference = TextDiff::from_lines(&expected, &found);
        format!("{what}:\n{}", difference.unified_diff().header("expected", "found"))
    })
}

/// Fails unless the text holds this.
pub(crate) fn says(text: &str, expected: &str) -> Outcome {
    expect(text.contains(expected), || format!("{expected:?} is not in {text:?}"))
}
