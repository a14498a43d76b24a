//! `podgraft render` and the webhook give the same patch for one review, byte for byte, or the same denial.
//!
//! Every file of `tests/fixtures/reviews/` and every pod of `tests/fixtures/clearml/` is a trial; one `podgraft serve`
//! answers them all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use libtest_mimic::{Arguments, Failed, Trial};
use podgraft::cli::load::load;
use podgraft::explain::simulate::{self, Sender};
use podgraft::model::task_systems::selecting_labels;
use podgraft_testkit::install::{self, ServingCertificate};
use podgraft_testkit::server::Podgraft;
use podgraft_testkit::{Outcome, client, root};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let pair: Arc<LazyLock<Outcome<Pair>>> = Arc::new(LazyLock::new(Pair::start));
    let trials = fixtures("reviews", ".json").into_iter().chain(fixtures("clearml", ".yaml"));
    let conclusion = libtest_mimic::run(&arguments, trials.map(|path| trial(path, &pair)).collect());
    // Before the process ends, as the server is killed when it is dropped.
    drop(pair);
    conclusion.exit_code()
}

fn fixtures(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/fixtures").join(folder);
    let entries = fs::read_dir(&folder).expect("the fixtures can be listed");
    let paths = entries.map(|entry| entry.expect("the fixtures can be listed").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds fixtures", folder.display());
    paths
}

fn trial(path: PathBuf, pair: &Arc<LazyLock<Outcome<Pair>>>) -> Trial {
    let pair = Arc::clone(pair);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Trial::test(name, move || {
        let pair = LazyLock::force(&pair).as_ref()?;
        pair.compare(&path).map_err(Failed::from)
    })
}

/// A server, and the folder with its configuration and modules.
struct Pair {
    server: Podgraft,
    certificate: ServingCertificate,
    folder: TempDir,
}

impl Pair {
    fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let certificate = install::serving_certificate(&folder.path().join("tls"))?;
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes))
        };
        let nfs = fs::read(root().join("policies/inject-nfs.wasm")).map_err(|error| error.to_string())?;
        let trap = wat::parse_file(root().join("policies/misbehaving/trap.wat")).map_err(|error| error.to_string())?;
        put("config/podgraft.yaml", CONFIG.as_bytes())
            .and_then(|()| put("policies/inject-nfs.wasm", &nfs))
            .and_then(|()| put("policies/trap.wasm", &trap))
            .map_err(|error| error.to_string())?;
        let (config, policies) = (folder.path().join("config"), folder.path().join("policies"));
        let arguments = ["--config", &config.to_string_lossy(), "--policies", &policies.to_string_lossy()];
        let log = folder.path().join("podgraft.log");
        let server = Podgraft::start(&folder.path().join("tls"), &log, None, &arguments)?;
        Ok(Self { server, certificate, folder })
    }

    /// Compares the outputs of both; a denial is written as `render` prints it.
    fn compare(&self, path: &Path) -> Outcome {
        let rendered = self.render(path)?;
        let review = self.review(path)?;
        let replied = self.reply(&review)?;
        if rendered != replied {
            return Err(format!("render gives\n{rendered}\nthe webhook gives\n{replied}"));
        }
        match (replied.as_str(), is_tasks(&review)?) {
            ("[]", true) => Err("nothing is done to a task's pod".into()),
            (some, false) if some != "[]" => Err(format!("{some} is done to a pod that is no task's")),
            _ => Ok(()),
        }
    }

    fn render(&self, path: &Path) -> Outcome<String> {
        let output = Command::new(podgraft_testkit::program())
            .args(["render", "-o", "patch", "-f"])
            .arg(path)
            .arg("--config")
            .arg(self.folder.path().join("config"))
            .arg("--policies")
            .arg(self.folder.path().join("policies"))
            .output()
            .map_err(|error| error.to_string())?;
        let printed = if output.status.success() { output.stdout } else { output.stderr };
        Ok(String::from_utf8_lossy(&printed).trim_end_matches('\n').to_owned())
    }

    /// The review itself, or the one that the API server would send for a manifest.
    fn review(&self, path: &Path) -> Outcome<Vec<u8>> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        if path.to_string_lossy().ends_with(".json") {
            return Ok(text.into_bytes());
        }
        let manifest: Value = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        let (config, policies) = (self.folder.path().join("config"), self.folder.path().join("policies"));
        let snapshot = load(&config, Some(&policies)).map_err(|error| error.to_string())?;
        Ok(simulate::review(manifest, Sender::default(), &snapshot)?.to_string().into_bytes())
    }

    fn reply(&self, review: &[u8]) -> Outcome<String> {
        let reply = client::post(self.server.port, &self.certificate.ca_pem(), review)?;
        let reply: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
        let response = &reply["response"];
        if response["allowed"] == false {
            let status = &response["status"];
            let text = |key: &str| status[key].as_str().unwrap_or_default();
            return Ok(format!("denied ({}, {}): {}", status["code"], text("reason"), text("message")));
        }
        let Some(patch) = response["patch"].as_str() else { return Ok("[]".to_owned()) };
        let patch = BASE64_STANDARD.decode(patch).map_err(|error| error.to_string())?;
        String::from_utf8(patch).map_err(|error| error.to_string())
    }
}

fn is_tasks(review: &[u8]) -> Outcome<bool> {
    let review: Value = serde_json::from_slice(review).map_err(|error| error.to_string())?;
    let labels = &review["request"]["object"]["metadata"]["labels"];
    Ok(selecting_labels().any(|label| labels.get(label).is_some()))
}

/// Something for the pods of every fixture that is a task's: layers that keep and override, a claim, a module that
/// returns a fragment, one that traps.
const CONFIG: &str = "
apiVersion: podgraft.io/v1alpha1
kind: GraftConfig
systems:
  clearml: {type: ClearML, submitters: [admin, 'system:serviceaccount:clearml:clearml-agent-sa']}
basePodTemplate:
  env: [{name: HF_HOME, value: /cache/hf}, {name: PYTHONUNBUFFERED, value: '1'}]
  volumes: [{name: hf-cache, persistentVolumeClaim: {claimName: hf-cache}}]
  volumeMounts: [{name: hf-cache, mountPath: /cache/hf}]
environments:
  everywhere:
    match: {namespaces: [a, b, clearml, relabel]}
    podTemplate:
      metadata: {labels: {tier: prod}}
      spec: {tolerations: [{key: prod, operator: Exists, effect: NoSchedule}]}
queues:
  1xGPU:
    merge: Strategic
    templateOverrides:
      resources: {limits: {nvidia.com/gpu: 2, cpu: 4}}
      nodeSelector: {accelerator: a100}
      env: [{name: NCCL_DEBUG, value: WARN}]
      volumes: [{name: task-pvc, persistentVolumeClaim: {claimName: PVC_NAME}}]
      volumeMounts: [{name: task-pvc, mountPath: /tmp/task/}]
    claims:
    - {volume: task-pvc, type: Ephemeral, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}}
    modules: [nfs]
  GPU Queue For Team.A: {modules: [nfs]}
  GPUs_with_shared_memory: {modules: [traps]}
  q: {podTemplate: {spec: {initContainers: [{name: proxy, image: proxy, restartPolicy: Always}]}}}
modules:
  nfs: {wasm: inject-nfs.wasm, when: has(task_config.nfs)}
  traps: {wasm: trap.wasm}
taskConfig:
- match: {namespaces: [a, clearml]}
  config: {nfs: {server: {ip: 10.0.0.7, path: /export/datasets}, mountPath: /mnt/datasets}}
";
