//! What is merged beforehand gives the same pod, and is refused with the same words.

use std::cell::Cell;
use std::sync::Arc;

use bumpalo::Bump;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::super::{LayerMode, MutateError, mutate};
use crate::merge::layer::{Conflict, Layer, Source};
use crate::merge::plan_cache::PlanCache;
use crate::model::hook::Execution;
use crate::model::review::Review;
use crate::model::snapshot::{Snapshot, Unit, UnitSpec};
use crate::model::system::{System, SystemKind};

/// Parts of a pod or of a fragment, with names that meet and values that agree although they are written otherwise.
fn template() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("example.com/[a-c]", "[x-z]", 0..3);
    let env = prop::collection::vec(("[A-C]", "[x-y]"), 0..4);
    let volumes = prop::collection::btree_map("[a-c]", 0..5_usize, 0..3);
    let mounts = prop::collection::btree_map("/[a-c]", "[a-c]", 0..2);
    let amounts = prop::collection::btree_map(prop_oneof![Just("cpu"), Just("memory")], 0..3_usize, 0..3);
    let tolerations = prop::collection::vec((0..4_usize, prop::option::of(prop_oneof![Just(300), Just(10)])), 0..2);
    let ports = prop::collection::btree_map(80..82_u16, prop::option::of("[a-b]"), 0..2);
    let others =
        (prop::collection::vec("[a-c]", 0..3), prop::option::of("[a-b]"), prop::collection::vec("[a-c]", 0..2));
    (labels, env, volumes, mounts, amounts, tolerations, ports, others).prop_map(
        |(labels, env, volumes, mounts, amounts, tolerations, ports, (secrets, class, sources))| {
            let sizes =
                [json!({}), json!({"sizeLimit": "1Gi"}), json!({"sizeLimit": "1024Mi"}), json!({"sizeLimit": "2Gi"})];
            let volumes = volumes.into_iter().map(|(name, size)| match sizes.get(size) {
                Some(dir) => json!({"name": name, "emptyDir": dir}),
                None => json!({"name": name, "nfs": {"server": "s", "path": "/"}}),
            });
            let keys = ["node.kubernetes.io/not-ready", "a", "b", ""];
            let tolerations = tolerations.into_iter().map(|(key, seconds)| {
                let mut toleration = json!({"key": keys[key], "operator": "Exists", "effect": "NoExecute"});
                if let Some(seconds) = seconds {
                    toleration["tolerationSeconds"] = json!(seconds);
                }
                toleration
            });
            let ports = ports.into_iter().map(|(port, name)| match name {
                Some(name) => json!({"containerPort": port, "protocol": "TCP", "name": name}),
                None => json!({"containerPort": port}),
            });
            let amounts: serde_json::Map<String, Value> =
                amounts.into_iter().map(|(name, it)| (name.to_owned(), json!(["1", "1000m", "2"][it]))).collect();
            let env = env.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
            let mounts = mounts.into_iter().map(|(path, name)| json!({"name": name, "mountPath": path}));
            let sources = sources.into_iter().map(|name| json!({"configMapRef": {"name": name}}));
            let secrets = secrets.into_iter().map(|name| json!({ "name": name }));
            let mut template = json!({
                "metadata": {"labels": labels},
                "spec": {
                    "volumes": volumes.collect::<Vec<_>>(),
                    "tolerations": tolerations.collect::<Vec<_>>(),
                    "imagePullSecrets": secrets.collect::<Vec<_>>(),
                    "containers": [{
                        "name": "primary",
                        "env": env.collect::<Vec<_>>(),
                        "volumeMounts": mounts.collect::<Vec<_>>(),
                        "ports": ports.collect::<Vec<_>>(),
                        "envFrom": sources.collect::<Vec<_>>(),
                        "resources": {"limits": amounts},
                    }],
                },
            });
            if let Some(class) = class {
                template["spec"]["priorityClassName"] = json!(class);
            }
            template
        },
    )
}

/// What keeps a layer by itself, sometimes.
fn odd(mut fragment: Value, kind: u8) -> Value {
    match kind {
        0 => fragment["spec"]["nodeSelector"] = json!({"a": null}),
        1 => fragment["spec"]["volumes"] = json!([{"name": "a", "$patch": "delete"}]),
        2 => fragment["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "main", "tty": true})),
        3 => fragment["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "side", "image": "s"})),
        4 => fragment["metadata"]["labels"]["of"] = json!("${pod.namespace}"),
        5 => fragment["spec"]["initContainers"] = json!([{"name": "first", "image": "i"}]),
        6 => {
            let terms = json!([{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]);
            fragment["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
                terms;
        }
        _ => {}
    }
    fragment
}

fn snapshot(layers: Vec<Layer>) -> Snapshot {
    let system = |name: &str, kind| System {
        name: name.to_owned(),
        kind,
        namespaces: Vec::new(),
        pod_name_prefix: "clearml-id-".to_owned(),
        submitters: Vec::new(),
    };
    let graft = UnitSpec { layers, modules: Vec::new() };
    let base = Unit { source: Source::Base, last_valid: Some(Arc::new(graft)), error: None, claimed_match: None };
    let systems = vec![system("clearml", SystemKind::ClearML), system("own", SystemKind::Generic)];
    Snapshot { systems, base: Some(base), ..Snapshot::default() }
}

fn layers(stack: Vec<(u8, bool, Value, u8)>) -> Vec<Layer> {
    let conflicts = [Conflict::Keep, Conflict::Override, Conflict::Deny];
    let layers = stack.into_iter().enumerate().map(|(number, (class, explicit, fragment, kind))| {
        let conflict = conflicts[usize::from(class / 3).min(2)];
        // What denies takes nothing away, and says little, or every pod would be refused.
        let fragment = match conflict {
            Conflict::Deny => json!({"metadata": {"labels": fragment["metadata"]["labels"]}}),
            _ => odd(fragment, kind),
        };
        let placeholders = crate::model::placeholder::has_placeholder(&fragment);
        let source = Source::Environment(format!("e{}", number / 2));
        Layer {
            source,
            file: "f.yaml".into(),
            line: 1,
            file_mounts: None,
            conflict,
            explicit,
            placeholders,
            unknown: false,
            fragment,
        }
    });
    layers.collect()
}

/// The pod that comes out and the patch to it, what it says was applied and how many fragments were laid; or the refusal.
fn through(pod: &Value, snapshot: &Snapshot, laying: LayerMode) -> Result<(Value, String, String, usize), String> {
    let request = json!({"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": "ml", "object": pod});
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string();
    let arena = Bump::new();
    let review = Review::parse(body.as_bytes(), &arena).unwrap();
    match mutate(&review, snapshot, Execution::Inline, laying, &mut Vec::new(), &arena).map_err(|halted| halted.error) {
        Ok(mutation) => {
            let mutation = mutation.unwrap();
            let patch = serde_json::to_string(mutation.operations).unwrap();
            Ok((mutation.steps.last().to_value(), patch, mutation.applied, mutation.fragments.len()))
        }
        Err(MutateError::Denied(rejection)) => Err(rejection.message),
        Err(MutateError::NeedsPool(_)) => panic!("slow"),
    }
}

fn task(mut pod: Value, clearml: bool, managed: bool) -> Value {
    pod["metadata"]["name"] = json!("p");
    let label = if clearml { "clearml-agent-queue-name" } else { "podgraft.io/queue" };
    pod["metadata"]["labels"][label] = json!("q");
    pod["spec"]["containers"][0]["name"] = json!("main");
    pod["spec"]["containers"][0]["image"] = json!("task");
    if managed {
        let env = json!({"k:{\"name\":\"A\"}": {"f:value": {}}});
        let main = json!({"f:image": {}, "f:env": env, "f:resources": {"f:limits": {"f:cpu": {}}}});
        let spec = json!({"f:containers": {"k:{\"name\":\"main\"}": main}, "f:volumes": {"k:{\"name\":\"a\"}": {}}});
        pod["metadata"]["managedFields"] =
            json!([{"fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": spec}}]);
    }
    pod
}

#[test]
fn layers_merged_beforehand_give_the_patch_that_one_by_one_gives() {
    let stack = prop::collection::vec((0..7_u8, prop::bool::weighted(0.2), template(), 0..40_u8), 0..7);
    let strategy = (template(), stack, any::<bool>(), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6000) });
    let [at_once, again, refused] = [Cell::new(0), Cell::new(0), Cell::new(0)];
    let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
    let result = runner.run(&strategy, |(pod, stack, clearml, managed)| {
        let pod = task(pod, clearml, managed);
        let snapshot = snapshot(layers(stack));
        let one_by_one = through(&pod, &snapshot, LayerMode::PerLayer);
        let merged = through(&pod, &snapshot, LayerMode::Premerged);
        match (one_by_one, merged) {
            (Ok((_, expected, names, single)), Ok((_, patch, applied, laid))) => {
                prop_assert_eq!(patch, expected);
                prop_assert_eq!(applied, names);
                count(if laid < single { &at_once } else { &again });
            }
            (one_by_one, merged) => {
                prop_assert_eq!(merged.unwrap_err(), one_by_one.unwrap_err());
                count(&refused);
            }
        }
        Ok(())
    });
    result.unwrap();
    let counts = [&at_once, &again, &refused].map(Cell::get);
    assert!(counts.iter().all(|count| *count > 300), "at once, one by one, refused: {counts:?}");
}

/// A value that agrees with the pod's although it is written otherwise stays only where no layer before said more.
#[test]
fn what_only_the_pod_can_tell_is_laid_one_by_one() {
    let cpu =
        |amount: &str| json!({"spec": {"containers": [{"name": "primary", "resources": {"limits": {"cpu": amount}}}]}});
    let snapshot = snapshot(layers(vec![(3, true, cpu("2"), 9), (3, true, cpu("1000m"), 9)]));
    let limit = |own: &str| {
        let pod = task(cpu(own), false, false);
        let (pod, _, _, laid) = through(&pod, &snapshot, LayerMode::Premerged).unwrap();
        (pod["spec"]["containers"][0]["resources"]["limits"]["cpu"].clone(), laid)
    };
    assert_eq!(limit("4"), (json!("1000m"), 1));
    assert_eq!(limit("1"), (json!("1000m"), 2));
}

#[test]
fn plans_are_remembered_up_to_a_number() {
    let stack = || vec![(3, true, json!({"metadata": {"labels": {"a": "b"}}}), 9); 40];
    let all = layers(stack());
    let plans = PlanCache::default();
    let mut pairs = (0..40).flat_map(|a| (0..40).map(move |b| (a, b)));
    let both = |(a, b): (usize, usize)| [&all[a], &all[b]];
    let first = plans.get(&both((0, 1))).unwrap();
    assert!(std::ptr::eq(first, plans.get(&both((0, 1))).unwrap()), "made once");
    assert_eq!((first.runs.len(), first.names.as_str()), (1, "environment/e0"));
    let missed = pairs.by_ref().filter(|pair| plans.get(&both(*pair)).is_none()).count();
    assert!(missed >= 40 * 40 - 512, "{missed}");
    assert!(std::ptr::eq(first, plans.get(&both((0, 1))).unwrap()), "what is remembered stays");
}
