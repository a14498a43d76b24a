//! `make run`: the main job on real input, shown step by step. `tests/demo/run.sh` compiles it and starts it.
//!
//! A kube-apiserver with its etcd and kube-controller-manager on loopback, podgraft registered through the
//! manifests of `deploy/`, and a task pod of the open-source ClearML agent, created as the agent's account.
//! Ends by itself with exit code 0 and leaves nothing behind.

#![allow(clippy::panic, reason = "the harness panics where it cannot go on, and this shows why")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bumpalo::Bump;
use podgraft::cli::diff::{self, Side};
use podgraft::json::Json;
use podgraft::merge::layer::Source;
use podgraft::mutate::provenance::Change;
use podgraft_testkit::control_plane::{ControlPlane, Options};
use podgraft_testkit::install::{self, Install};
use podgraft_testkit::process::wait_until;
use podgraft_testkit::root;
use podgraft_testkit::server::Podgraft;
use serde_json::{Value, json};

type Outcome<T> = Result<T, String>;

const NAMESPACE: &str = "clearml";
const POD: &str = "clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60";
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut story = Story { began: Instant::now(), step: None, times: Vec::new() };
    match run(&mut story) {
        Ok(()) => {
            story.end();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nmake run failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(story: &mut Story) -> Outcome<()> {
    story.step("start etcd, kube-apiserver, kube-controller-manager");
    let cluster = ControlPlane::start(Options::default())?;
    for (program, time) in cluster.ready_times() {
        println!("   {program:<24} ready after {:.1} s", time.as_secs_f64());
    }
    cluster.create_namespace(NAMESPACE);
    cluster.create_storage_class();
    let agent = agent(&cluster);
    // The same pod without podgraft, for the comparison: a dry run before the webhook is registered.
    let before = dry_run(&cluster, &agent, &manifest("small"))?;

    story.step("start podgraft and register it through deploy/kustomize/base");
    let tls = cluster.dir().join("tls");
    let certificate = install::serving_certificate(&tls)?;
    let log = cluster.dir().join("podgraft.log");
    let base = root().join("deploy/kustomize/base");
    cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: podgraft}");
    configure(&cluster, &config())?;
    modules(&cluster, "podgraft-modules", &[("inject-nfs.wasm", module("inject-nfs.wasm")?)])?;
    let install = |port| Install { cluster: &cluster, base: &base, port, ca_pem: &certificate.ca_pem() }.apply();
    install(1)?; // the ServiceAccount and its rights must be there before the process asks for them
    configure(&cluster, &config())?;
    let kubeconfig = cluster.service_account_kubeconfig("podgraft", "podgraft");
    let podgraft = Podgraft::start(&tls, &log, Some(&kubeconfig), &["--namespace", "podgraft"])?;
    install(podgraft.port)?;
    configure(&cluster, &config())?;
    println!(
        "   podgraft ready after {} ms, {:.0} MiB resident",
        podgraft.ready_after.as_millis(),
        podgraft.resident_mib()
    );

    story.step("create the task pod as the ClearML agent does");
    wait_until("the registration's first effect", SOON, || {
        let pod = dry_run(&cluster, &agent, &manifest("small"))?;
        Ok((applied(&pod).contains("module/nfs-mount")).then_some(()))
    })?;
    let created = cluster.kubectl_stdin_as(&agent, &["apply", "-n", NAMESPACE, "-f", "-"], &manifest("small"));
    println!("   $ kubectl apply -f pod.yaml      (as {})\n   {}", account(), created.stdout.trim());
    quiet(&created.stderr)?;
    let after = cluster.get_json(&["pod", POD, "-n", NAMESPACE]);
    anstream::println!("\n{}", compared(&before, &after)?);
    let claim = format!("{POD}-task-pvc");
    wait_until("the claim", SOON, || {
        Ok(cluster.kubectl(&["get", "pvc", &claim, "-n", NAMESPACE]).success().then_some(()))
    })?;
    println!("   Kubernetes made the claim {claim}");
    let again = cluster.kubectl_stdin_as(&agent, &["apply", "-n", NAMESPACE, "-f", "-"], &manifest("small"));
    quiet(&again.stderr)?;
    println!("   applied again: {}", again.stdout.trim());
    println!(
        "   That matters: the spec of a stored pod is immutable, so the same manifest applied a second time fails (422)"
    );
    println!("   if it sets a field that a layer has changed; `podgraft check` names the layers that would do that.");

    story.step("ask why: podgraft explain, of the manifest that the agent submitted");
    let manifest_file = "tests/fixtures/clearml/pod-small.yaml";
    shown(&["explain", "-f", manifest_file, "--config", "tests/demo/podgraft.yaml", "--policies", "policies"])?;

    story.step("edit the ConfigMap: the next pod shows it");
    let edited = config().replace("value: WARN", "value: TRACE");
    configure(&cluster, &edited)?;
    let next = wait_until("NCCL_DEBUG=TRACE", SOON, || {
        let pod = dry_run(&cluster, &agent, &another("next"))?;
        Ok((env(&pod, "NCCL_DEBUG") == "TRACE").then_some(pod))
    })?;
    println!("   next pod: NCCL_DEBUG={} (was {})", env(&next, "NCCL_DEBUG"), env(&after, "NCCL_DEBUG"));

    story.step("break the ConfigMap: the last valid configuration goes on serving");
    configure(
        &cluster,
        &edited.replace("volumeMounts:\n        - {name: task-pvc", "volumeMount:\n        - {name: task-pvc"),
    )?;
    let problem = podgraft.logged("volumeMount")?;
    println!("   podgraft says: {}", problem.trim());
    let pod = dry_run(&cluster, &agent, &another("broken-config"))?;
    println!("   next pod: NCCL_DEBUG={}, {}", env(&pod, "NCCL_DEBUG"), applied(&pod));
    expect(env(&pod, "NCCL_DEBUG") == "TRACE" && applied(&pod).contains("queue/"), "the last valid queue serves")?;

    story.step("add a queue whose module loops: its pods are denied by name, the others go on");
    modules(&cluster, "podgraft-loop", &[("loop.wasm", assembled("loop.wat")?)])?;
    let added = edited
        .replace("\nqueues:\n", "\nqueues:\n  loops: {modules: [looping]}\n")
        .replace("\nmodules:\n", "\nmodules:\n  looping: {wasm: loop.wasm, budget: {time: 100ms}}\n");
    configure(&cluster, &added)?;
    let looping = another("looping").replace("gpu-queue-for-team-a", "loops");
    let denied = wait_until("the denial", SOON, || {
        let output = cluster.kubectl_stdin_as(&agent, &["create", "--dry-run=server", "-f", "-"], &looping);
        Ok(output.stderr.contains("looping").then_some(output.stderr))
    })?;
    println!("   kubectl says: {}", denied.trim());
    let pod = dry_run(&cluster, &agent, &another("beside-the-loop"))?;
    println!("   next pod of the other queue: {}", applied(&pod));
    expect(applied(&pod).contains("module/nfs-mount"), "the other queue serves beside the looping one")?;

    story.step("delete the pod: its claim goes with it");
    cluster.kubectl_ok(&["delete", "pod", POD, "-n", NAMESPACE, "--force", "--grace-period=0"]);
    wait_until("the claim's end", SOON, || {
        Ok((!cluster.kubectl(&["get", "pvc", &claim, "-n", NAMESPACE]).success()).then_some(()))
    })?;
    println!("   {claim} is gone");

    story.step("stop podgraft: pods are created as submitted, or denied where the namespace requires podgraft");
    let ended = podgraft.terminate()?;
    expect(ended.success(), "podgraft drains and ends with 0")?;
    without_podgraft(&cluster, &agent)?;

    story.step("stop everything");
    drop(cluster);
    Ok(())
}

/// The two entries of the registration, while no webhook answers: `Ignore`, and `Fail` for a labelled namespace.
fn without_podgraft(cluster: &ControlPlane, agent: &Path) -> Outcome<()> {
    let output = cluster.kubectl_stdin_as(agent, &["create", "-o", "json", "-f", "-"], &another("podgraft-is-down"));
    expect(output.success(), &output.stderr)?;
    let pod: Value = serde_json::from_str(&output.stdout).map_err(|error| error.to_string())?;
    expect(applied(&pod).is_empty() && env(&pod, "NCCL_DEBUG").is_empty(), "the pod is created as submitted")?;
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).stdout;
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("apiserver_admission_webhook_fail_open_count{name=\"optional.podgraft.io\""))
        .ok_or("the API server does not count the pod")?;
    println!("   failurePolicy: Ignore: the pod is created without NCCL_DEBUG and without podgraft.io/applied;");
    println!("   only the API server tells of it: {counted}");

    cluster.kubectl_ok(&["label", "namespace", NAMESPACE, "podgraft.io/required="]);
    println!("   $ kubectl label namespace {NAMESPACE} podgraft.io/required=");
    let denied = wait_until("the denial", SOON, || {
        let output = cluster.kubectl_stdin_as(agent, &["create", "--dry-run=server", "-f", "-"], &another("required"));
        Ok(output.stderr.contains("required.podgraft.io").then_some(output.stderr))
    })?;
    println!("   failurePolicy: Fail: kubectl says: {}", denied.trim());
    Ok(())
}

// === output ===

struct Story {
    began: Instant,
    step: Option<(&'static str, Instant)>,
    times: Vec<(&'static str, Duration)>,
}

impl Story {
    fn step(&mut self, what: &'static str) {
        self.close();
        println!("\n== {what}");
        self.step = Some((what, Instant::now()));
    }

    fn close(&mut self) {
        if let Some((what, began)) = self.step.take() {
            self.times.push((what, began.elapsed()));
        }
    }

    fn end(mut self) {
        self.close();
        println!("\n== done");
        for (what, time) in &self.times {
            println!("   {:6.1} s  {what}", time.as_secs_f64());
        }
        println!("   {:6.1} s  in all; nothing is left running", self.began.elapsed().as_secs_f64());
        let program = podgraft_testkit::program();
        let program = program.strip_prefix(root()).unwrap_or(&program).display();
        println!("\n== what to do next");
        println!(
            "   edit tests/demo/podgraft.yaml, the configuration of this story, and see the errors or the changes:"
        );
        println!("     {program} check --config tests/demo/podgraft.yaml --policies policies");
        println!("     {program} render -f POD.yaml --config tests/demo/podgraft.yaml --policies policies -o diff");
        println!("   README.md installs podgraft on a cluster; policies/README.md is about modules of your own");
    }
}

/// Runs podgraft in the repository, and shows the command with what it prints.
fn shown(arguments: &[&str]) -> Outcome<()> {
    println!("   $ podgraft {}", arguments.join(" "));
    let status = Command::new(podgraft_testkit::program()).args(arguments).current_dir(root()).status();
    expect(status.map_err(|error| error.to_string())?.success(), "podgraft fails")
}

/// Before and after as YAML; each changed line with who made it, as podgraft's own render tells it.
fn compared(before: &Value, after: &Value) -> Outcome<String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (pod, config) = (folder.path().join("pod.json"), folder.path().join("podgraft.yaml"));
    std::fs::write(&pod, before.to_string()).map_err(|error| error.to_string())?;
    std::fs::write(&config, self::config()).map_err(|error| error.to_string())?;
    let output = Command::new(podgraft_testkit::program())
        .args(["render", "-o", "provenance", "-f"])
        .arg(&pod)
        .arg("--config")
        .arg(&config)
        .arg("--policies")
        .arg(root().join("policies"))
        .output()
        .map_err(|error| error.to_string())?;
    expect(output.status.success(), &String::from_utf8_lossy(&output.stderr))?;
    let touches: Vec<Change> = String::from_utf8_lossy(&output.stdout).lines().filter_map(change).collect();
    let (before, after) = (without_bookkeeping(before), without_bookkeeping(after));
    let arena = Bump::new();
    let side = |pod| Side::new(Json::borrowed(pod, &arena), &arena);
    Ok(diff::text(&side(&before), &side(&after), &touches, "# the API server"))
}

/// A line of `render -o provenance`: `spec.volumes[x] by queue/pvc-test`.
fn change(line: &str) -> Option<Change> {
    let (path, by) = line.split_once(" by ")?;
    let source = match by.split_once('/') {
        Some(("environment", name)) => Source::Environment(name.to_owned()),
        Some(("queue", name)) => Source::Queue(name.to_owned()),
        Some(("module", name)) => Source::Module(name.to_owned()),
        _ if by == "base" => Source::Base,
        _ => Source::Normalize,
    };
    Some(Change { path: path.trim_end_matches(" removed").to_owned(), source, removed: path.ends_with(" removed") })
}

/// Removes the fields that the API server writes into every stored pod, and the token volume's random name.
fn without_bookkeeping(pod: &Value) -> Value {
    let text = pod.to_string();
    let mut pod = pod.clone();
    if let Some((_, rest)) = text.split_once("kube-api-access-") {
        let suffix = &rest[..5];
        pod = serde_json::from_str(&text.replace(&format!("kube-api-access-{suffix}"), "kube-api-access-xxxxx"))
            .unwrap_or(pod);
    }
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
            metadata.remove(key);
        }
    }
    pod
}

// === the cluster ===

/// The open chart's agent: an account that may create pods in its namespace.
fn agent(cluster: &ControlPlane) -> PathBuf {
    cluster.apply(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: clearml-agent-sa, namespace: clearml}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: clearml-agent, namespace: clearml}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}\n\
         subjects: [{kind: ServiceAccount, name: clearml-agent-sa, namespace: clearml}]\n",
    );
    let kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, "clearml-agent-sa");
    let may = || cluster.kubectl_as(&kubeconfig, &["auth", "can-i", "create", "pods", "-n", NAMESPACE]).success();
    wait_until("the agent's rights", SOON, || Ok(may().then_some(()))).unwrap_or_else(|error| panic!("{error}"));
    kubeconfig
}

fn account() -> &'static str {
    "system:serviceaccount:clearml:clearml-agent-sa"
}

fn configure(cluster: &ControlPlane, text: &str) -> Outcome<()> {
    server_side(
        cluster,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "podgraft-config", "namespace": "podgraft"},
        "data": {"podgraft.yaml": text}}),
    )
}

fn modules(cluster: &ControlPlane, name: &str, files: &[(&str, Vec<u8>)]) -> Outcome<()> {
    let data: serde_json::Map<String, Value> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), json!(BASE64_STANDARD.encode(bytes)))).collect();
    server_side(
        cluster,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "podgraft"}, "binaryData": data}),
    )
}

fn server_side(cluster: &ControlPlane, object: &Value) -> Outcome<()> {
    let output =
        cluster.kubectl_stdin(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &object.to_string());
    expect(output.success(), &output.stderr)
}

fn dry_run(cluster: &ControlPlane, agent: &Path, manifest: &str) -> Outcome<Value> {
    let output = cluster.kubectl_stdin_as(agent, &["create", "--dry-run=server", "-o", "json", "-f", "-"], manifest);
    expect(output.success(), &output.stderr)?;
    serde_json::from_str(&output.stdout).map_err(|error| error.to_string())
}

// === what goes in ===

fn config() -> String {
    include_str!("demo/podgraft.yaml").to_owned()
}

fn manifest(name: &str) -> String {
    let path = root().join(format!("tests/fixtures/clearml/pod-{name}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same task pod for another task.
fn another(name: &str) -> String {
    let id = name.bytes().fold(String::new(), |id, byte| id + &format!("{byte:02x}")) + &"0".repeat(32);
    manifest("small").replace("6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60", &id[..32])
}

fn module(name: &str) -> Outcome<Vec<u8>> {
    std::fs::read(root().join("policies").join(name)).map_err(|error| error.to_string())
}

fn assembled(name: &str) -> Outcome<Vec<u8>> {
    wat::parse_file(root().join("policies/misbehaving").join(name)).map_err(|error| error.to_string())
}

// === what comes out ===

fn applied(pod: &Value) -> String {
    pod["metadata"]["annotations"]["podgraft.io/applied"].as_str().unwrap_or("").to_owned()
}

fn env(pod: &Value, name: &str) -> String {
    let env = pod["spec"]["containers"][0]["env"].as_array();
    let entry = env.and_then(|env| env.iter().find(|entry| entry["name"] == name));
    entry.and_then(|entry| entry["value"].as_str()).unwrap_or("").to_owned()
}

fn expect(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The ClearML agent fails a task on any text on kubectl's stderr.
fn quiet(stderr: &str) -> Outcome<()> {
    expect(stderr.is_empty(), &format!("kubectl printed on stderr: {stderr}"))
}
