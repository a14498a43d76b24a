//! Merges random stacks of layers into random pods.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

/// Fragments of the supported keys with names that collide with the pod's and each other's.
fn fragments() -> impl Strategy<Value = Value> {
    let pair = || prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let env = prop::collection::btree_map("[A-C]", "[x-z]", 0..3)
        .prop_map(|map| map.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>());
    let volumes =
        prop::collection::btree_map("[a-c]", any::<bool>(), 0..3).prop_map(|map| {
            map.into_iter()
                .map(|(name, dir)| {
                    if dir {
                        json!({"name": name, "emptyDir": {}})
                    } else {
                        json!({"name": name, "nfs": {"path": "/"}})
                    }
                })
                .collect::<Vec<_>>()
        });
    let mounts = prop::collection::btree_map("/[a-b]", "[a-c]", 0..3).prop_map(|map| {
        map.into_iter().map(|(path, name)| json!({"name": name, "mountPath": path})).collect::<Vec<_>>()
    });
    (pair(), pair(), env, volumes, mounts, prop::collection::vec("[a-b]", 0..2), pair()).prop_map(|(labels, selector, env, volumes, mounts, tolerations, limits)| {
        let tolerations: Vec<Value> = tolerations.into_iter().map(|key| json!({"key": key})).collect();
        json!({"metadata": {"labels": labels}, "spec": {"nodeSelector": selector, "volumes": volumes, "tolerations": tolerations,
            "containers": [{"name": "primary", "env": env, "volumeMounts": mounts, "resources": {"limits": limits}}]}})
    })
}

/// Fragments that remove elements, keys, a whole map or list.
fn removals() -> impl Strategy<Value = Value> {
    let key = prop::option::of("[a-c]");
    (key.clone(), key.clone(), key, 0..8_u32).prop_map(|(label, selector, volume, whole)| {
        let mut fragment = json!({"metadata": {"labels": {}}, "spec": {"nodeSelector": {}, "volumes": []}});
        if let Some(label) = label {
            fragment["metadata"]["labels"][label] = Value::Null;
        }
        if let Some(selector) = selector {
            fragment["spec"]["nodeSelector"] = match whole {
                0 => json!({"$patch": "delete"}),
                1 => json!({"$patch": "replace", selector: "z"}),
                _ => json!({ selector: null }),
            };
        }
        if let Some(volume) = volume {
            fragment["spec"]["volumes"] = match whole {
                2 => json!([{"$patch": "replace"}, {"name": volume, "emptyDir": {}}]),
                _ => json!([{"name": volume, "$patch": "delete"}]),
            };
        }
        fragment
    })
}

/// Small fragments for `Deny` layers: larger ones would deny every pod.
fn denying() -> impl Strategy<Value = Value> {
    let pair = || prop::collection::btree_map("[a-c]", "[x-z]", 0..2);
    (pair(), prop::collection::vec(("[a-c]", any::<bool>()), 0..2), 0..2_u32).prop_map(|(labels, volumes, seconds)| {
        let volumes: Vec<Value> =
            volumes
                .into_iter()
                .map(|(name, dir)| {
                    if dir {
                        json!({"name": name, "emptyDir": {}})
                    } else {
                        json!({"name": name, "nfs": {"path": "/"}})
                    }
                })
                .collect();
        json!({"metadata": {"labels": labels}, "spec": {"volumes": volumes,
            "tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": seconds}]}})
    })
}

/// A fragment and its rule: 0 keeps, 1 overrides, 2 denies.
fn layers() -> impl Strategy<Value = (u8, Value)> {
    prop_oneof![
        4 => (0..2_u8, fragments()),
        2 => (0..2_u8, removals()),
        1 => (Just(2_u8), denying()),
    ]
}

/// The layers are in the order of their rules. Applying them to the result changes nothing, both when the webhook is
/// called again (with the same managedFields) and when the result is created again (with every value set by its
/// creator).
#[test]
fn applying_a_stack_twice_changes_nothing() {
    let rules = [KEEP, OVERRIDE, DENY].map(|rule| MergeRule { may_remove: true, ..rule });
    let strategy = (fragments(), prop::collection::vec(layers(), 0..6), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) });
    let counts = (Cell::new(0), Cell::new(0));
    let result = runner.run(&strategy, |(mut pod, mut stack, managed)| {
        pod["spec"]["containers"][0]["name"] = json!("main");
        pod["spec"]["future"] = json!({"field": [1]});
        if managed {
            let owned = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:volumes": {"k:{\"name\":\"a\"}": {}}, "f:tolerations": {}}});
            pod["metadata"]["managedFields"] = json!([{ "fieldsV1": owned }]);
        }
        stack.sort_by_key(|(rule, _)| *rule);
        let denies = stack.iter().any(|(rule, _)| *rule == 2);
        let stack: Vec<(MergeRule, Value)> = stack.into_iter().map(|(rule, fragment)| (rules[usize::from(rule)], fragment)).collect();
        let once = match merge(&pod, &stack) {
            Err(MergeError::Conflict(_)) if denies => {
                counts.1.set(counts.1.get() + 1);
                return Ok(());
            }
            once => once.unwrap(),
        };
        counts.0.set(counts.0.get() + u32::from(denies));
        prop_assert_eq!(&once["spec"]["future"], &pod["spec"]["future"], "unknown fields survive");
        prop_assert_eq!(&merge(&once, &stack).unwrap(), &once);
        let mut recreated = once.clone();
        recreated["metadata"].as_object_mut().unwrap().remove("managedFields");
        prop_assert_eq!(merge(&recreated, &stack).unwrap(), recreated);
        Ok(())
    });
    result.unwrap();
    let (merged, denied) = (counts.0.get(), counts.1.get());
    assert!(merged > 100 && denied > 100, "{merged} stacks that deny were merged, {denied} denied");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_pods_own_elements_keep_their_order(pod in fragments(), stack in prop::collection::vec(fragments(), 0..4)) {
        let mut pod = pod;
        pod["spec"]["containers"][0]["name"] = json!("main");
        let layers: Vec<(MergeRule, Value)> = stack.into_iter().map(|fragment| (OVERRIDE, fragment)).collect();
        let result = merge(&pod, &layers).unwrap();
        for pointer in ["/spec/volumes", "/spec/containers/0/env"] {
            let list = |pod: &Value| pod.pointer(pointer).map(|list| names(list).into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
            let (own, all) = (list(&pod), list(&result));
            prop_assert!(all.ends_with(&own), "{own:?} within {all:?}");
        }
    }
}
