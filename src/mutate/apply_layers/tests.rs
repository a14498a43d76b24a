//! Layers that were merged beforehand give the same pod and the same denial as layers one by one.

use std::cell::Cell;

use bumpalo::Bump;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::super::{LayerMode, MutateError, mutate};
use crate::merge::layer::{Conflict, Layer, Source};
use crate::merge::plan_cache::PlanCache;
use crate::model::hook::Execution;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::mutate::fixtures::{layer, review, snapshot};

/// Generates parts of a pod or fragment, with names that collide and equal values in different spellings.
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

/// Adds a part that keeps a layer from being merged beforehand, for some kinds.
fn with_unmergeable_part(mut fragment: Value, kind: u8) -> Value {
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

fn layers(stack: Vec<(u8, bool, Value, u8)>) -> Vec<Layer> {
    let conflicts = [Conflict::Keep, Conflict::Override, Conflict::Deny];
    let layers = stack.into_iter().enumerate().map(|(number, (class, explicit, fragment, kind))| {
        let conflict = conflicts[usize::from(class / 3).min(2)];
        // A layer that denies removes nothing and has few values, or every pod would be denied.
        let fragment = match conflict {
            Conflict::Deny => json!({"metadata": {"labels": fragment["metadata"]["labels"]}}),
            _ => with_unmergeable_part(fragment, kind),
        };
        let source = Source::Environment(format!("e{}", number / 2));
        Layer { explicit, ..layer(source, conflict, fragment) }
    });
    layers.collect()
}

/// Returns the pod, its patch, the applied names and the number of fragments; or the denial.
fn mutated(pod: &Value, snapshot: &Snapshot, mode: LayerMode) -> Result<(Value, String, String, usize), String> {
    let (body, arena) = (review(pod, "ml", ""), Bump::new());
    let review = Review::parse(&body, &arena).unwrap();
    match mutate(&review, snapshot, Execution::Inline, mode, &mut Vec::new(), &arena).map_err(|failure| failure.error) {
        Ok(mutation) => {
            let mutation = mutation.unwrap();
            let patch = serde_json::to_string(mutation.operations).unwrap();
            Ok((mutation.steps.last().to_value(), patch, mutation.applied, mutation.fragments.len()))
        }
        Err(MutateError::Denied(denial)) => Err(denial.message),
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
fn premerged_layers_give_the_same_patch_as_one_by_one() {
    let stack = prop::collection::vec((0..7_u8, prop::bool::weighted(0.2), template(), 0..40_u8), 0..7);
    let strategy = (template(), stack, any::<bool>(), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6000) });
    let [premerged, fallback, denied] = [Cell::new(0), Cell::new(0), Cell::new(0)];
    let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
    let result = runner.run(&strategy, |(pod, stack, clearml, managed)| {
        let pod = task(pod, clearml, managed);
        let snapshot = snapshot(layers(stack));
        let one_by_one = mutated(&pod, &snapshot, LayerMode::PerLayer);
        let merged = mutated(&pod, &snapshot, LayerMode::Premerged);
        match (one_by_one, merged) {
            (Ok((_, expected, names, single)), Ok((_, patch, applied, fragments))) => {
                prop_assert_eq!(patch, expected);
                prop_assert_eq!(applied, names);
                count(if fragments < single { &premerged } else { &fallback });
            }
            (one_by_one, merged) => {
                prop_assert_eq!(merged.unwrap_err(), one_by_one.unwrap_err());
                count(&denied);
            }
        }
        Ok(())
    });
    result.unwrap();
    let counts = [&premerged, &fallback, &denied].map(Cell::get);
    assert!(counts.iter().all(|count| *count > 300), "premerged, one by one, denied: {counts:?}");
}

/// A value that equals the pod's in another spelling stays only if no earlier layer sets another one.
#[test]
fn layers_that_depend_on_the_pods_value_are_applied_one_by_one() {
    let cpu =
        |amount: &str| json!({"spec": {"containers": [{"name": "primary", "resources": {"limits": {"cpu": amount}}}]}});
    let snapshot = snapshot(layers(vec![(3, true, cpu("2"), 9), (3, true, cpu("1000m"), 9)]));
    let limit = |own: &str| {
        let pod = task(cpu(own), false, false);
        let (pod, _, _, fragments) = mutated(&pod, &snapshot, LayerMode::Premerged).unwrap();
        (pod["spec"]["containers"][0]["resources"]["limits"]["cpu"].clone(), fragments)
    };
    assert_eq!(limit("4"), (json!("1000m"), 1));
    assert_eq!(limit("1"), (json!("1000m"), 2));
}

#[test]
fn plans_are_cached_up_to_a_limit() {
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
    assert!(std::ptr::eq(first, plans.get(&both((0, 1))).unwrap()), "a cached plan stays");
}
