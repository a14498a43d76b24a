//! Each rule of the merge, and that laying a stack twice changes nothing.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const KEEP: Rule = Rule { overrides: false, keeps_env: false, may_remove: false, alias: true };
const OVERRIDE: Rule = Rule { overrides: true, keeps_env: false, may_remove: false, alias: true };

/// Lays fragments over a pod whose primary container is `main`.
fn lay(pod: &Value, fragments: &[(Rule, Value)]) -> Result<Value, Trouble> {
    let arena = Bump::new();
    let original = Json::lift(pod, &arena);
    let owners = Owners::of(original, &arena);
    let mut merger = Merger::new(original, &owners, Some("main"), &arena);
    let mut result = original;
    for (rule, fragment) in fragments {
        result = merger.lay(result, Json::lift(fragment, &arena), *rule)?;
    }
    Ok(result.to_value())
}

fn main_with(extra: &Value) -> Value {
    let mut container = json!({"name": "main"});
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"spec": {"containers": [container]}})
}

fn primary(extra: &Value) -> Value {
    let mut fragment = main_with(extra);
    fragment["spec"]["containers"][0]["name"] = json!("primary");
    fragment
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn keep_leaves_the_pods_own_value_and_override_replaces_it() {
    let pod = json!({"metadata": {"labels": {"team": "a"}}});
    let fragment = json!({"metadata": {"labels": {"team": "b", "tier": "x"}}});
    assert_eq!(
        lay(&pod, &[(KEEP, fragment.clone())]).unwrap()["metadata"]["labels"],
        json!({"team": "a", "tier": "x"})
    );
    assert_eq!(lay(&pod, &[(OVERRIDE, fragment)]).unwrap()["metadata"]["labels"], json!({"team": "b", "tier": "x"}));
}

#[test]
fn inside_a_class_the_later_layer_wins() {
    let layer = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    let pod = json!({"metadata": {}});
    let both = [(KEEP, layer("first")), (KEEP, layer("second"))];
    assert_eq!(lay(&pod, &both).unwrap()["metadata"]["labels"]["team"], "second");
}

#[test]
fn what_a_plugin_put_there_yields_to_keep_and_what_was_written_does_not() {
    let mut pod = main_with(&json!({"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}));
    let owned =
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}});
    pod["metadata"] = json!({"managedFields": [{"fieldsV1": owned}]});
    let result =
        lay(&pod, &[(KEEP, primary(&json!({"resources": {"limits": {"cpu": "4", "memory": "8Gi"}}})))]).unwrap();
    assert_eq!(result["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "4", "memory": "1Gi"}));
}

#[test]
fn empty_zero_and_default_values_are_unset() {
    let pod = json!({"spec": {"restartPolicy": "Always", "securityContext": {}, "containers": [{"name": "main", "resources": {"requests": {"cpu": "0"}}}]}});
    let mut fragment = primary(&json!({"resources": {"requests": {"cpu": "2"}}}));
    fragment["spec"]["restartPolicy"] = json!("Never");
    let result = lay(&pod, &[(KEEP, fragment)]).unwrap();
    assert_eq!(result["spec"]["restartPolicy"], "Never");
    assert_eq!(result["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
}

#[test]
fn env_volumes_and_mounts_of_layers_stand_before_the_pods_own() {
    let pod = json!({"spec": {"volumes": [{"name": "own"}, {"name": "kube-api-access-x"}], "containers": [{"name": "main", "env": [{"name": "OWN", "value": "1"}]}]}});
    let layer = |name: &str| {
        let mut fragment = primary(&json!({"env": [{"name": name, "value": "x"}]}));
        fragment["spec"]["volumes"] = json!([{"name": name.to_lowercase(), "emptyDir": {}}]);
        (OVERRIDE, fragment)
    };
    let result = lay(&pod, &[layer("A"), layer("B")]).unwrap();
    assert_eq!(names(&result["spec"]["volumes"]), ["a", "b", "own", "kube-api-access-x"]);
    assert_eq!(names(&result["spec"]["containers"][0]["env"]), ["A", "B", "OWN"]);
}

#[test]
fn a_volume_source_and_an_env_value_are_replaced_whole() {
    let pod = json!({"spec": {"volumes": [{"name": "data", "emptyDir": {}}], "containers": [{"name": "main", "env": [{"name": "X", "value": "1"}]}]}});
    let mut fragment =
        primary(&json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}));
    fragment["spec"]["volumes"] = json!([{"name": "data", "nfs": {"server": "s", "path": "/p"}}]);
    let result = lay(&pod, &[(OVERRIDE, fragment.clone())]).unwrap();
    assert_eq!(result["spec"]["volumes"], fragment["spec"]["volumes"]);
    assert_eq!(result["spec"]["containers"][0]["env"], fragment["spec"]["containers"][0]["env"]);
}

#[test]
fn mounts_are_told_apart_by_path_and_merge_by_field() {
    let pod = main_with(
        &json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "readOnly": true}, {"name": "d", "mountPath": "/b"}]}),
    );
    let fragment = primary(&json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "subPath": "x"}]}));
    let mounts = &lay(&pod, &[(OVERRIDE, fragment)]).unwrap()["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(
        *mounts,
        json!([{"name": "d", "mountPath": "/a", "readOnly": true, "subPath": "x"}, {"name": "d", "mountPath": "/b"}])
    );
}

#[test]
fn env_that_the_tasks_owner_gave_stays_unless_override_was_written_out() {
    let pod = main_with(&json!({"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}));
    let fragment = primary(&json!({"env": [{"name": "NCCL_DEBUG", "value": "WARN"}, {"name": "NEW", "value": "1"}]}));
    let value = |rule: Rule| lay(&pod, &[(rule, fragment.clone())]).unwrap()["spec"]["containers"][0]["env"].clone();
    assert_eq!(value(Rule { keeps_env: true, ..OVERRIDE })[1], json!({"name": "NCCL_DEBUG", "value": "INFO"}));
    assert_eq!(value(OVERRIDE)[1], json!({"name": "NCCL_DEBUG", "value": "WARN"}));
}

#[test]
fn an_overridden_env_name_that_stood_twice_stands_once() {
    let pod = main_with(
        &json!({"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "y"}, {"name": "X", "value": "2"}]}),
    );
    let result = lay(&pod, &[(OVERRIDE, primary(&json!({"env": [{"name": "X", "value": "3"}]})))]).unwrap();
    assert_eq!(
        result["spec"]["containers"][0]["env"],
        json!([{"name": "Y", "value": "y"}, {"name": "X", "value": "3"}])
    );
}

#[test]
fn a_plugins_300_second_toleration_yields_to_a_layers() {
    let default = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let longer = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600});
    let gpu = json!({"key": "gpu", "operator": "Exists"});
    let pod = json!({"spec": {"tolerations": [default]}});
    let fragment = json!({"spec": {"tolerations": [longer, gpu]}});
    let result = lay(&pod, &[(KEEP, fragment.clone()), (KEEP, fragment)]).unwrap();
    assert_eq!(result["spec"]["tolerations"], json!([longer, gpu]));
}

#[test]
fn empty_and_zero_values_in_a_map_are_somebodys_choice() {
    let pod = json!({"metadata": {"labels": {"e": "", "z": "0"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": ""}}});
    let fragment = json!({"metadata": {"labels": {"e": "x", "z": "1"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": "yes"}}});
    assert_eq!(lay(&pod, &[(KEEP, fragment)]).unwrap(), pod);
}

#[test]
fn tolerations_that_differ_in_seconds_alone_are_one() {
    let lasting = |seconds: u32| json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    let layer = |seconds: u32| json!({"spec": {"tolerations": [lasting(seconds)]}});
    let pod = json!({"spec": {"tolerations": [lasting(300)]}});
    let stack = [(KEEP, layer(300)), (OVERRIDE, layer(600))];
    let once = lay(&pod, &stack).unwrap();
    assert_eq!(once, layer(600));
    assert_eq!(lay(&once, &stack).unwrap(), once);
    assert_eq!(lay(&layer(60), &[(KEEP, layer(600))]).unwrap(), layer(60), "the pod's own");
}

#[test]
fn layers_init_containers_come_first_and_native_sidecars_before_them() {
    let pod = json!({"spec": {"initContainers": [{"name": "own"}]}});
    let layer = |list: Value| (OVERRIDE, json!({"spec": {"initContainers": list}}));
    let layers = [
        layer(json!([{"name": "prepare"}])),
        layer(json!([{"name": "sidecar", "restartPolicy": "Always"}, {"name": "late"}])),
    ];
    assert_eq!(names(&lay(&pod, &layers).unwrap()["spec"]["initContainers"]), ["sidecar", "prepare", "late", "own"]);
}

#[test]
fn required_node_affinity_is_anded_into_every_term() {
    let affinity = |terms: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
    let expression = |key: &str| json!({"key": key, "operator": "Exists"});
    let pod = affinity(json!([{"matchExpressions": [expression("a")]}, {"matchExpressions": [expression("b")]}]));
    let fragment = affinity(json!([{"matchExpressions": [expression("gpu")]}]));
    let expected = affinity(
        json!([{"matchExpressions": [expression("a"), expression("gpu")]}, {"matchExpressions": [expression("b"), expression("gpu")]}]),
    );
    assert_eq!(lay(&pod, &[(OVERRIDE, fragment.clone()), (OVERRIDE, fragment)]).unwrap(), expected);
}

#[test]
fn removals_need_permission() {
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [{"name": "v"}]}});
    let fragment =
        json!({"metadata": {"labels": {"a": null}}, "spec": {"volumes": [{"name": "v", "$patch": "delete"}]}});
    assert_eq!(lay(&pod, &[(OVERRIDE, fragment.clone())]), Err(Trouble::Removal("metadata.labels.a".to_owned())));
    let allowed = Rule { may_remove: true, ..OVERRIDE };
    assert_eq!(
        lay(&pod, &[(allowed, fragment)]).unwrap(),
        json!({"metadata": {"labels": {}}, "spec": {"volumes": []}})
    );
}

#[test]
fn without_a_primary_container_its_fields_are_refused() {
    let arena = Bump::new();
    let pod = main_with(&json!({}));
    let original = Json::lift(&pod, &arena);
    let owners = Owners::of(original, &arena);
    let fragment = primary(&json!({"env": []}));
    let result = Merger::new(original, &owners, None, &arena).lay(original, Json::lift(&fragment, &arena), KEEP);
    assert_eq!(result.err(), Some(Trouble::NoPrimary));
}

#[test]
fn an_empty_fragment_gives_the_very_same_pod() {
    let arena = Bump::new();
    let pod = main_with(&json!({"env": [{"name": "X", "value": "1"}]}));
    let original = Json::lift(&pod, &arena);
    let owners = Owners::of(original, &arena);
    let fragment = json!({"metadata": {"labels": {}}, "spec": {"volumes": [], "containers": [{"name": "primary", "env": [{"name": "X", "value": "1"}]}]}});
    let result =
        Merger::new(original, &owners, Some("main"), &arena).lay(original, Json::lift(&fragment, &arena), OVERRIDE);
    assert!(result.unwrap().same(&original));
}

/// Fragments of the supported keys with names that meet the pod's and each other's.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Layers that keep first, then those that override: the order that `layers.rs` gives them.
    #[test]
    fn laying_a_stack_twice_changes_nothing(pod in fragments(), keep in prop::collection::vec(fragments(), 0..3), over in prop::collection::vec(fragments(), 0..3)) {
        let mut pod = pod;
        pod["spec"]["containers"][0]["name"] = json!("main");
        pod["spec"]["future"] = json!({"field": [1]});
        let stack: Vec<(Rule, Value)> = keep.into_iter().map(|f| (KEEP, f)).chain(over.into_iter().map(|f| (OVERRIDE, f))).collect();
        let once = lay(&pod, &stack).unwrap();
        prop_assert_eq!(&once["spec"]["future"], &pod["spec"]["future"], "unknown fields survive");
        let twice = lay(&once, &stack).unwrap();
        prop_assert_eq!(once, twice);
    }
}
