//! Inputs of both benchmarks: reviews of several sizes, and configurations that give about 35 operations.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use podgraft::merge::layer::{Conflict, Layer, Source};
use podgraft::model::hook::Budget;
use podgraft::model::hook::Execution;
use podgraft::model::snapshot::{Environment, Match, Module, OnError, Queue, Snapshot, Unit, UnitSpec, Vault};
use podgraft::model::system::{System, SystemKind};
use podgraft::mutate::{self, Answer, Verdict};
use podgraft::wasm::{Engine, sha256_hex};
use serde_json::{Value, json};

const SUBMITTER: &str = "system:serviceaccount:clearml:clearml-agent-sa";

/// The queues that the fixtures' pods name: `bare-apply-clearml.json`, `pod-small.yaml`, `pod-large.yaml`.
const QUEUES: &[&str] = &["1xgpu", "gpu-queue-for-team-a"];

// === reviews ===

/// A review as `kubectl apply` causes it, of 4.6 KB, with `env` more variables and `volumes` more mounted volumes.
pub(crate) fn review(env: usize, volumes: usize) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(&read("tests/fixtures/reviews/bare-apply-clearml.json")).unwrap();
    review["request"]["userInfo"]["username"] = json!(SUBMITTER);
    let pod = &mut review["request"]["object"];
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    for number in 0..volumes {
        let volume = format!("own-{number}");
        let source = json!({"claimName": format!("claim-of-team-{number}"), "readOnly": true});
        push(&mut pod["spec"]["volumes"], json!({"name": volume, "persistentVolumeClaim": source}));
        let mount = json!({"name": volume, "readOnly": true, "mountPath": format!("/data/{volume}")});
        push(&mut pod["spec"]["containers"][0]["volumeMounts"], mount);
        let written = &mut pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        written["f:volumes"][format!("k:{{\"name\":\"{volume}\"}}")] =
            json!({".": {}, "f:name": {}, "f:persistentVolumeClaim": {".": {}, "f:claimName": {}, "f:readOnly": {}}});
        written["f:containers"][format!("k:{{\"name\":\"{name}\"}}")]["f:volumeMounts"]
            [format!("k:{{\"mountPath\":\"/data/{volume}\"}}")] =
            json!({".": {}, "f:mountPath": {}, "f:name": {}, "f:readOnly": {}});
    }
    for number in 0..env {
        let variable = format!("OWN_{number}");
        push(
            &mut pod["spec"]["containers"][0]["env"],
            json!({"name": variable, "value": format!("https://example.com/{number}")}),
        );
        let written = &mut pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        written["f:containers"][format!("k:{{\"name\":\"{name}\"}}")]["f:env"]
            [format!("k:{{\"name\":\"{variable}\"}}")] = json!({".": {}, "f:name": {}, "f:value": {}});
    }
    serde_json::to_vec(&review).unwrap()
}

/// The review that most figures are about.
pub(crate) fn ordinary_review() -> Vec<u8> {
    review(19, 4)
}

/// A review of a pod in another queue.
pub(crate) fn review_for(queue: &str) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(&ordinary_review()).unwrap();
    let labels = &mut review["request"]["object"]["metadata"]["labels"];
    labels["clearml-agent-queue-name"] = json!(queue);
    serde_json::to_vec(&review).unwrap()
}

/// The review around a pod of the ClearML agent, with the annotation that `kubectl apply` leaves on it or without.
pub(crate) fn clearml_review(pod: &str, with_last_applied: bool) -> Vec<u8> {
    let text = String::from_utf8(read(&format!("tests/fixtures/clearml/{pod}.yaml"))).unwrap();
    let mut pod: Value = serde_saphyr::from_str(&text).unwrap();
    if with_last_applied {
        let copy = json!(format!("{pod}\n"));
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = copy;
    }
    let sender = podgraft::explain::simulate::Sender { namespace: None, user: Some(SUBMITTER) };
    let review = podgraft::explain::simulate::review(pod, sender, &Snapshot::default()).unwrap();
    serde_json::to_vec(&review).unwrap()
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

// === configurations ===

/// `layers` layers in the order in which they are applied. Ten of them make 36 operations; the eleventh writes what the
/// first does, with other values, and so on.
pub(crate) fn layers(layers: usize) -> Vec<Layer> {
    let all = (0..layers).map(|number| {
        let source = match number {
            0 => Source::Base,
            _ if number + 1 == layers => Source::Queue("1xgpu".to_owned()),
            _ => Source::Environment(format!("environment-{:02}", number / 2)),
        };
        let conflict = if number % 2 == 0 { Conflict::Keep } else { Conflict::Override };
        Layer {
            source,
            file: "podgraft.yaml".into(),
            line: 1,
            file_mounts: None,
            conflict,
            explicit: false,
            placeholders: false,
            unknown: false,
            fragment: fragment(number),
        }
    });
    let (keep, override_): (Vec<Layer>, Vec<Layer>) = all.partition(|layer| layer.conflict == Conflict::Keep);
    keep.into_iter().chain(override_).collect()
}

fn fragment(number: usize) -> Value {
    let (part, round) = (number % 10, number / 10);
    let value = format!("value-{round}");
    let mut primary =
        json!({"name": "primary", "env": [{"name": format!("LAYER_{part}"), "value": format!("/mnt/layers/{value}")}]});
    let mut spec = json!({});
    match part {
        0..4 => {
            let volume = format!("layer-{part}");
            spec["volumes"] = json!([{"name": volume, "emptyDir": {"sizeLimit": format!("{}Gi", round + 1)}}]);
            primary["volumeMounts"] = json!([{"name": volume, "mountPath": format!("/mnt/{volume}")}]);
        }
        4 => spec["tolerations"] = json!([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]),
        5 => spec["nodeSelector"] = json!({"example.com/accelerator": value}),
        // the pod has a value of its own: `Keep` asks managedFields who wrote it
        6 => primary["resources"] = json!({"limits": {"cpu": "1"}}),
        7 => primary["resources"] = json!({"limits": {"cpu": "8", "memory": "64Gi"}}),
        8 => push(&mut primary["env"], json!({"name": "LAYER_10", "value": value})),
        _ => {}
    }
    spec["containers"] = json!([primary]);
    json!({"metadata": {"labels": {format!("example.com/layer-{part}"): value}}, "spec": spec})
}

/// A configuration with these layers, `queues` queues, and modules that run for the pods of the first ones.
pub(crate) fn snapshot(layers: &[Layer], queues: usize, modules: &[Arc<Module>]) -> Snapshot {
    let of = |wanted: fn(&Source) -> bool| layers.iter().filter(move |layer| wanted(&layer.source)).cloned();
    let base: Vec<Layer> = of(|source| *source == Source::Base).collect();
    let queue_layers: Vec<Layer> = of(|source| matches!(source, Source::Queue(_))).collect();
    let mut environments: Vec<Unit<Environment>> = Vec::new();
    for layer in of(|source| matches!(source, Source::Environment(_))) {
        let alike = environments.iter_mut().find(|unit| unit.source == layer.source);
        if let Some(unit) = alike {
            Arc::get_mut(unit.last_valid.as_mut().unwrap()).unwrap().spec.layers.push(layer);
            continue;
        }
        let matches = Match { namespaces: vec!["a".to_owned(), "clearml".to_owned()], ..Match::default() };
        let source = layer.source.clone();
        let spec = UnitSpec { layers: vec![layer], modules: Vec::new() };
        environments.push(unit(source.clone(), Environment { name: source.to_string(), priority: 0, matches, spec }));
    }
    environments.sort_by(|a, b| a.source.cmp(&b.source));
    let mut snapshot = Snapshot {
        generation: 1,
        digest: "0123456789ab".to_owned(),
        namespace: "podgraft".to_owned(),
        systems: vec![System {
            name: "clearml".to_owned(),
            kind: SystemKind::ClearML,
            namespaces: Vec::new(),
            pod_name_prefix: "clearml-id-".to_owned(),
            submitters: vec![SUBMITTER.to_owned()],
        }],
        environments,
        task_config: vec![Vault { namespaces: Vec::new(), queue: None, user: None, config: Arc::new(task_config()) }],
        ..Snapshot::default()
    };
    for number in 0..queues {
        let name = QUEUES.get(number).map_or_else(|| format!("queue-{number}"), |name| (*name).to_owned());
        let modules = if number < QUEUES.len() { modules.to_vec() } else { Vec::new() };
        add_queue(&mut snapshot, &name, base.first(), UnitSpec { layers: queue_layers.clone(), modules });
    }
    snapshot.base = (!base.is_empty()).then(|| unit(Source::Base, UnitSpec { layers: base, modules: Vec::new() }));
    snapshot
}

/// Adds a queue with these modules only.
pub(crate) fn add_module_queue(snapshot: &mut Snapshot, name: &str, modules: Vec<Arc<Module>>) {
    let base = snapshot.base.as_ref().and_then(|unit| unit.last_valid.as_ref()?.layers.first().cloned());
    add_queue(snapshot, name, base.as_ref(), UnitSpec { layers: Vec::new(), modules });
}

fn add_queue(snapshot: &mut Snapshot, name: &str, base: Option<&Layer>, spec: UnitSpec) {
    let source = Source::Queue(name.to_owned());
    let queue =
        Queue { name: name.to_owned(), id: None, system: None, matches: Match::default(), base: base.cloned(), spec };
    snapshot.queues.by_name.insert(name.to_owned(), unit(source, queue));
}

fn unit<T>(source: Source, value: T) -> Unit<T> {
    Unit { source, last_valid: Some(Arc::new(value)), error: None, claimed_match: None }
}

// === modules ===

/// The committed module that returns a fragment.
pub(crate) fn fragment_module() -> Vec<u8> {
    read("policies/inject-nfs.wasm")
}

/// The module that returns the whole template; run.sh builds it.
pub(crate) fn template_module() -> Vec<u8> {
    let path = output().join("whole-template.wasm");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; tests/perf/bench/run.sh builds it", path.display()))
}

/// A module that does not behave.
pub(crate) fn misbehaving_module(name: &str) -> Vec<u8> {
    wat::parse_bytes(&read(&format!("policies/misbehaving/{name}.wat"))).unwrap().into_owned()
}

/// Writes a configuration for the program itself, with ten different modules of which one runs for the fixtures' pods.
pub(crate) fn ten_modules(folder: &Path) -> PathBuf {
    let folder = folder.join("config");
    fs::create_dir_all(&folder).unwrap();
    let mut modules = json!({});
    for number in 0..10 {
        let name = format!("module-{number}");
        let mut bytes = fragment_module();
        bytes.extend([0, 3, 1, b'n', number]); // a custom section: another digest
        fs::write(folder.join(format!("{name}.wasm")), bytes).unwrap();
        modules[&name] = json!({"wasm": format!("{name}.wasm")});
    }
    let config = json!({
        "apiVersion": "podgraft.io/v1alpha1",
        "kind": "GraftConfig",
        "systems": {"clearml": {"type": "ClearML", "submitters": [SUBMITTER]}},
        "basePodTemplate": {"env": [{"name": "HF_HOME", "value": "/cache/hf"}]},
        "queues": {QUEUES[0]: {"modules": ["module-0"]}},
        "modules": modules,
        "taskConfig": [{"config": task_config()}],
    });
    fs::write(folder.join("podgraft.yaml"), config.to_string()).unwrap(); // JSON is YAML
    folder
}

fn task_config() -> Value {
    json!({"nfs": {"server": {"ip": "10.0.0.7", "path": "/export/data"}, "mountPath": "/mnt/nfs"}})
}

/// Compiles what a configuration would name.
pub(crate) fn compile(engine: &Engine, name: &str, bytes: &[u8]) -> Arc<Module> {
    Arc::new(Module {
        name: name.to_owned(),
        digest: sha256_hex(bytes),
        when: None,
        params: Value::Null,
        may_remove: false,
        on_error: OnError::Fail,
        budget: Budget::default(),
        hook: engine.compile(name, bytes).unwrap(),
    })
}

// === answers ===

/// An answer that may take its time.
pub(crate) fn answer(body: &[u8], snapshot: &Snapshot, arena: &Bump) -> Answer {
    let left = || Duration::from_secs(10);
    match mutate::answer(body, snapshot, Execution::Pooled(&left), arena) {
        Verdict::Done(answer) => answer,
        Verdict::NeedsPool(module) => panic!("{module} is slow"),
    }
}

/// The pod that the API server would store after this reply to this review.
pub(crate) fn patched(review: &[u8], reply: &[u8]) -> Value {
    use base64::Engine as _;
    let reply: Value = serde_json::from_slice(reply).unwrap();
    assert_eq!(reply["response"]["allowed"], true, "{reply}");
    let mut pod = serde_json::from_slice::<Value>(review).unwrap()["request"]["object"].take();
    let patch = base64::engine::general_purpose::STANDARD.decode(reply["response"]["patch"].as_str().unwrap()).unwrap();
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    pod
}

// === files ===

fn read(path: &str) -> Vec<u8> {
    fs::read(podgraft_testkit::root().join(path)).unwrap()
}

/// The folder for results, which run.sh sets.
pub(crate) fn output() -> PathBuf {
    let default = || podgraft_testkit::root().join("target/bench");
    std::env::var_os("PODGRAFT_BENCH_OUT").map_or_else(default, PathBuf::from)
}
