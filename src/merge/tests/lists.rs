//! Tests of the list types, and of the index of a new element.

use super::*;

#[test]
fn env_volumes_and_mounts_of_layers_precede_the_pods_own() {
    let pod = json!({"spec": {"volumes": [{"name": "own"}, {"name": "kube-api-access-x"}], "containers": [{"name": "main", "env": [{"name": "OWN", "value": "1"}]}]}});
    let layer = |name: &str| {
        let mut fragment = primary(&json!({"env": [{"name": name, "value": "x"}]}));
        fragment["spec"]["volumes"] = json!([{"name": name.to_lowercase(), "emptyDir": {}}]);
        (OVERRIDE, fragment)
    };
    let result = merge(&pod, &[layer("A"), layer("B")]).unwrap();
    assert_eq!(names(&result["spec"]["volumes"]), ["a", "b", "own", "kube-api-access-x"]);
    assert_eq!(names(&result["spec"]["containers"][0]["env"]), ["A", "B", "OWN"]);
}

#[test]
fn a_volume_source_and_an_env_value_are_replaced_whole() {
    let pod = json!({"spec": {"volumes": [{"name": "data", "emptyDir": {}}], "containers": [{"name": "main", "env": [{"name": "X", "value": "1"}]}]}});
    let mut fragment =
        primary(&json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}));
    fragment["spec"]["volumes"] = json!([{"name": "data", "nfs": {"server": "s", "path": "/p"}}]);
    let result = merge(&pod, &[(OVERRIDE, fragment.clone())]).unwrap();
    assert_eq!(result["spec"]["volumes"], fragment["spec"]["volumes"]);
    assert_eq!(result["spec"]["containers"][0]["env"], fragment["spec"]["containers"][0]["env"]);
}

#[test]
fn mounts_are_identified_by_path_and_merge_by_field() {
    let pod = main_with(
        &json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "readOnly": true}, {"name": "d", "mountPath": "/b"}]}),
    );
    let fragment = primary(&json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "subPath": "x"}]}));
    let mounts = &merge(&pod, &[(OVERRIDE, fragment)]).unwrap()["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(
        *mounts,
        json!([{"name": "d", "mountPath": "/a", "readOnly": true, "subPath": "x"}, {"name": "d", "mountPath": "/b"}])
    );
}

#[test]
fn an_overridden_duplicate_env_name_becomes_one() {
    let pod = main_with(
        &json!({"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "y"}, {"name": "X", "value": "2"}]}),
    );
    let result = merge(&pod, &[(OVERRIDE, primary(&json!({"env": [{"name": "X", "value": "3"}]})))]).unwrap();
    assert_eq!(
        result["spec"]["containers"][0]["env"],
        json!([{"name": "Y", "value": "y"}, {"name": "X", "value": "3"}])
    );
}

#[test]
fn a_layers_toleration_replaces_a_plugins_300_seconds() {
    let default = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let longer = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600});
    let gpu = json!({"key": "gpu", "operator": "Exists"});
    let pod = json!({"spec": {"tolerations": [default]}});
    let fragment = json!({"spec": {"tolerations": [longer, gpu]}});
    let result = merge(&pod, &[(KEEP, fragment.clone()), (KEEP, fragment)]).unwrap();
    assert_eq!(result["spec"]["tolerations"], json!([longer, gpu]));
}

#[test]
fn tolerations_that_differ_in_seconds_only_are_one() {
    let lasting = |seconds: u32| json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    let layer = |seconds: u32| json!({"spec": {"tolerations": [lasting(seconds)]}});
    let pod = json!({"spec": {"tolerations": [lasting(300)]}});
    let stack = [(KEEP, layer(300)), (OVERRIDE, layer(600))];
    let once = merge(&pod, &stack).unwrap();
    assert_eq!(once, layer(600));
    assert_eq!(merge(&once, &stack).unwrap(), once);
    assert_eq!(merge(&layer(60), &[(KEEP, layer(600))]).unwrap(), layer(60), "the pod's own");
}

#[test]
fn init_containers_of_layers_come_first_and_native_sidecars_before_them() {
    let pod = json!({"spec": {"initContainers": [{"name": "own"}]}});
    let layer = |list: Value| (OVERRIDE, json!({"spec": {"initContainers": list}}));
    let layers = [
        layer(json!([{"name": "prepare"}])),
        layer(json!([{"name": "sidecar", "restartPolicy": "Always"}, {"name": "late"}])),
    ];
    assert_eq!(names(&merge(&pod, &layers).unwrap()["spec"]["initContainers"]), ["sidecar", "prepare", "late", "own"]);
}

#[test]
fn required_node_affinity_is_added_to_every_term() {
    let affinity = |terms: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
    let expression = |key: &str| json!({"key": key, "operator": "Exists"});
    let pod = affinity(json!([{"matchExpressions": [expression("a")]}, {"matchExpressions": [expression("b")]}]));
    let fragment = affinity(json!([{"matchExpressions": [expression("gpu")]}]));
    let expected = affinity(
        json!([{"matchExpressions": [expression("a"), expression("gpu")]}, {"matchExpressions": [expression("b"), expression("gpu")]}]),
    );
    assert_eq!(merge(&pod, &[(OVERRIDE, fragment.clone()), (OVERRIDE, fragment)]).unwrap(), expected);
}

#[test]
fn fields_of_an_unknown_primary_container_are_an_error() {
    let arena = Bump::new();
    let pod = main_with(&json!({}));
    let original = Json::borrowed(&pod, &arena);
    let managed_fields = ManagedFields::from_pod(original, &arena);
    let fragment = primary(&json!({"env": []}));
    let result =
        Merger::new(original, &managed_fields, None, &arena).apply(original, Json::borrowed(&fragment, &arena), KEEP);
    assert_eq!(result.err(), Some(MergeError::NoPrimary));
}

#[test]
fn an_empty_fragment_returns_the_input_itself() {
    let arena = Bump::new();
    let pod = main_with(&json!({"env": [{"name": "X", "value": "1"}]}));
    let original = Json::borrowed(&pod, &arena);
    let managed_fields = ManagedFields::from_pod(original, &arena);
    let fragment = json!({"metadata": {"labels": {}}, "spec": {"volumes": [], "containers": [{"name": "primary", "env": [{"name": "X", "value": "1"}]}]}});
    let result = Merger::new(original, &managed_fields, Some("main"), &arena).apply(
        original,
        Json::borrowed(&fragment, &arena),
        OVERRIDE,
    );
    assert!(result.unwrap().ptr_eq(&original));
}

#[test]
fn lists_with_a_merge_key_merge_element_by_element() {
    let spec = |list: &str, items: Value| json!({"spec": {list: items}});
    let container = |list: &str, items: Value| main_with(&json!({list: items}));
    let cases = [
        (
            spec("containers", json!([{"name": "a", "image": "i"}])),
            spec("containers", json!([{"name": "a", "tty": true}])),
            json!({"name": "a", "image": "i", "tty": true}),
        ),
        (
            spec("initContainers", json!([{"name": "a", "image": "i"}])),
            spec("initContainers", json!([{"name": "a", "tty": true}])),
            json!({"name": "a", "image": "i", "tty": true}),
        ),
        (
            spec("hostAliases", json!([{"ip": "1.1.1.1", "future": 1}])),
            spec("hostAliases", json!([{"ip": "1.1.1.1", "hostnames": ["h"]}])),
            json!({"ip": "1.1.1.1", "future": 1, "hostnames": ["h"]}),
        ),
        (
            spec("imagePullSecrets", json!([{"name": "a", "future": 1}])),
            spec("imagePullSecrets", json!([{"name": "a"}])),
            json!({"name": "a", "future": 1}),
        ),
        (
            spec("resourceClaims", json!([{"name": "a", "resourceClaimName": "x"}])),
            spec("resourceClaims", json!([{"name": "a", "resourceClaimTemplateName": "y"}])),
            json!({"name": "a", "resourceClaimTemplateName": "y"}),
        ),
        (
            container("volumeDevices", json!([{"devicePath": "/d", "name": "x"}])),
            container("volumeDevices", json!([{"devicePath": "/d", "name": "y"}])),
            json!({"devicePath": "/d", "name": "y"}),
        ),
    ];
    for (pod, fragment, expected) in cases {
        let result = merge(&pod, &[(OVERRIDE, fragment)]).unwrap();
        let list = |value: &Value| value.as_object().unwrap().values().find_map(|list| list.as_array().cloned());
        let outer = list(&result["spec"]).unwrap();
        let inner = if outer[0]["name"] == "main" { list(&outer[0]).unwrap() } else { outer };
        assert_eq!(inner, [expected]);
    }
}

#[test]
fn ports_are_identified_by_port_and_protocol_which_defaults_to_tcp() {
    let ports = |list: Value| primary(&json!({"ports": list}));
    let pod = main_with(
        &json!({"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]}),
    );
    let result =
        merge(&pod, &[(OVERRIDE, ports(json!([{"containerPort": 53, "name": "dns"}, {"containerPort": 80}])))])
            .unwrap();
    assert_eq!(
        result["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP", "name": "dns"}])
    );
}

#[test]
fn spread_constraints_are_identified_by_key_and_action() {
    let constraint =
        |action: &str, skew: u32| json!({"topologyKey": "zone", "whenUnsatisfiable": action, "maxSkew": skew});
    let spec = |list: Value| json!({"spec": {"topologySpreadConstraints": list}});
    let pod = spec(json!([constraint("DoNotSchedule", 1), constraint("ScheduleAnyway", 2)]));
    let result = merge(&pod, &[(OVERRIDE, spec(json!([constraint("ScheduleAnyway", 5)])))]).unwrap();
    assert_eq!(result, spec(json!([constraint("DoNotSchedule", 1), constraint("ScheduleAnyway", 5)])));
}

#[test]
fn an_empty_selector_is_added_and_an_empty_list_is_not() {
    let spec = |constraint: Value| json!({"spec": {"topologySpreadConstraints": [constraint]}});
    let own = json!({"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1});
    let layer =
        json!({"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, "matchLabelKeys": []});
    let mut expected = own.clone();
    expected["labelSelector"] = json!({});
    assert_eq!(merge(&spec(own), &[(OVERRIDE, spec(layer))]).unwrap(), spec(expected));
}

#[test]
fn an_entry_without_a_part_changes_nothing() {
    let pod = json!({"spec": {"volumes": [{"name": "v", "nfs": {"server": "s"}}], "containers": [{"name": "main", "env": [{"name": "X", "value": "1"}]}]}});
    let mut fragment = primary(&json!({"env": [{"name": "X"}]}));
    fragment["spec"]["volumes"] = json!([{"name": "v"}]);
    assert_eq!(merge(&pod, &[(OVERRIDE, fragment)]).unwrap(), pod);
}

#[test]
fn prepended_elements_come_first_and_once() {
    let at = |pointer: &str, items: Value| {
        pointer.rsplit('/').fold(items, |below, step| match step {
            "" => below,
            "0" => json!([{"name": "main", "inner": below}]),
            step => json!({ step: below }),
        })
    };
    let inner = |value: &Value| value.clone();
    let paths = [
        "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution",
        "/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution",
        "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution",
    ];
    let term = |weight: u32| json!({ "weight": weight });
    for path in paths {
        let layer = |items: Value| (KEEP, at(path, items));
        let pod = at(path, json!([term(1), term(2)]));
        let result = merge(&pod, &[layer(json!([term(3), term(2)])), layer(json!([term(4)]))]).unwrap();
        assert_eq!(inner(result.pointer(path).unwrap()), json!([term(4), term(3), term(1), term(2)]), "{path}");
    }
    let source = |name: &str| json!({"configMapRef": {"name": name}});
    let pod = main_with(
        &json!({"envFrom": [source("own")], "securityContext": {"capabilities": {"add": ["OWN"], "drop": ["ALL"]}}}),
    );
    let layer = primary(
        &json!({"envFrom": [source("own"), source("layer")], "securityContext": {"capabilities": {"add": ["NEW"], "drop": ["ALL"]}}}),
    );
    let result = merge(&pod, &[(OVERRIDE, layer)]).unwrap();
    assert_eq!(result["spec"]["containers"][0]["envFrom"], json!([source("layer"), source("own")]));
    assert_eq!(
        result["spec"]["containers"][0]["securityContext"]["capabilities"],
        json!({"add": ["NEW", "OWN"], "drop": ["ALL"]})
    );
}

#[test]
fn tolerations_are_a_set() {
    let spec = |list: Value| json!({"spec": {"tolerations": list}});
    let pod = spec(json!([{"key": "a", "value": "x", "effect": "NoSchedule"}]));
    let layer = spec(
        json!([{"key": "a", "operator": "Equal", "value": "x", "effect": "NoSchedule"}, {"key": "b", "operator": "Exists"}]),
    );
    let result = merge(&pod, &[(KEEP, layer.clone()), (KEEP, layer)]).unwrap();
    assert_eq!(result, spec(json!([pod["spec"]["tolerations"][0], {"key": "b", "operator": "Exists"}])));
}

#[test]
fn a_layers_toleration_that_equals_a_plugins_keeps_its_position() {
    let seconds = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let tolerations = |list: Value| json!({"spec": {"tolerations": list}});
    let every = tolerations(json!([{"operator": "Exists"}]));
    let others = tolerations(json!([seconds, {"key": "a", "operator": "Exists"}]));
    let stack = [(OVERRIDE, every), (OVERRIDE, others)];
    let once = merge(&json!({"spec": {}}), &stack).unwrap();
    assert_eq!(merge(&once, &stack), Ok(once));
}

#[test]
fn a_missing_operator_is_equal_under_every_rule() {
    let pod = json!({"spec": {"tolerations": [{"key": "a", "operator": "Equal", "value": "b"}]}});
    let layer = json!({"spec": {"tolerations": [{"key": "a", "value": "b"}]}});
    for rule in [KEEP, OVERRIDE, DENY] {
        assert_eq!(merge(&pod, &[(rule, layer.clone())]), Ok(pod.clone()));
        assert_eq!(merge(&layer, &[(rule, pod.clone())]), Ok(layer.clone()));
    }
}

#[test]
fn a_layer_that_tolerates_every_taint_replaces_a_plugins_300_seconds() {
    let default =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let both = [default("node.kubernetes.io/not-ready"), default("node.kubernetes.io/unreachable")];
    let pod = json!({"spec": {"tolerations": both}});
    let layer = |toleration: Value| (KEEP, json!({"spec": {"tolerations": [toleration]}}));
    let tolerations = |toleration: Value| {
        let once = merge(&pod, &[layer(toleration.clone())]).unwrap();
        assert_eq!(merge(&once, &[layer(toleration)]).unwrap(), once, "applied twice");
        once["spec"]["tolerations"].clone()
    };
    assert_eq!(tolerations(json!({"operator": "Exists"})), json!([{"operator": "Exists"}]));
    let not_ready = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists"});
    assert_eq!(tolerations(not_ready.clone()), json!([both[1], not_ready]));
    let other = json!({"operator": "Exists", "effect": "NoSchedule"});
    assert_eq!(tolerations(other.clone()), json!([both[0], both[1], other]), "another effect");
}

#[test]
fn alternatives_of_required_node_affinity_are_multiplied() {
    let spec = |terms: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
    let has = |keys: &[&str]| json!({"matchExpressions": keys.iter().map(|key| json!({"key": key, "operator": "Exists"})).collect::<Vec<_>>()});
    let layer = spec(json!([has(&["x"]), has(&["y"])]));
    assert_eq!(
        merge(&spec(json!([has(&["a"]), has(&["x", "b"])])), &[(OVERRIDE, layer.clone())]).unwrap(),
        spec(json!([has(&["a", "x"]), has(&["a", "y"]), has(&["x", "b"])]))
    );
    assert_eq!(merge(&json!({}), &[(OVERRIDE, layer.clone())]).unwrap(), layer, "into an empty pod");
    assert_eq!(
        merge(&spec(json!([{}])), &[(OVERRIDE, layer)]).unwrap(),
        spec(json!([{}])),
        "a term that matches no node still does not"
    );
    let fields = spec(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]));
    assert_eq!(
        merge(&spec(json!([has(&["a"])])), &[(OVERRIDE, fields)]).unwrap(),
        spec(
            json!([{"matchExpressions": [{"key": "a", "operator": "Exists"}], "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])
        )
    );
}

#[test]
fn resources_node_selector_labels_and_annotations_merge_by_key() {
    let pod = |value: &str| {
        json!({
        "metadata": {"labels": {value: value, "both": value}, "annotations": {value: value, "both": value}},
        "spec": {"nodeSelector": {value: value, "both": value}, "containers": [{"name": "main", "resources": {"limits": {value: value, "both": value}, "requests": {value: value}}}]}})
    };
    let map = json!({"1": "1", "2": "2", "both": "2"});
    let result = merge(&pod("1"), &[(OVERRIDE, pod("2"))]).unwrap();
    assert_eq!(
        (&result["metadata"]["labels"], &result["metadata"]["annotations"], &result["spec"]["nodeSelector"]),
        (&map, &map, &map)
    );
    assert_eq!(result["spec"]["containers"][0]["resources"], json!({"limits": map, "requests": {"1": "1", "2": "2"}}));
}

#[test]
fn a_duplicate_env_name_stays_under_keep() {
    let pod = main_with(&json!({"env": [{"name": "X", "value": "1"}, {"name": "X", "value": "2"}]}));
    let layer = |value: &str| primary(&json!({"env": [{"name": "X", "value": value}]}));
    assert_eq!(merge(&pod, &[(KEEP, layer("3"))]).unwrap(), pod);
    assert_eq!(merge(&pod, &[(DENY, layer("2"))]).unwrap(), pod, "the last value is effective");
    assert!(matches!(merge(&pod, &[(DENY, layer("1"))]), Err(MergeError::Conflict(_))));
}

#[test]
fn mounts_that_layers_add_precede_the_pods_own_and_containers_after() {
    let mount = |path: &str| json!({"name": "v", "mountPath": path});
    let pod = json!({"spec": {"containers": [{"name": "main", "volumeMounts": [mount("/own"), mount("/var/run/secrets")]}, {"name": "second"}]}});
    let fragment = json!({"spec": {"containers": [{"name": "added"}, {"name": "primary", "volumeMounts": [mount("/a"), mount("/b")]}]}});
    let result = merge(&pod, &[(OVERRIDE, fragment)]).unwrap();
    assert_eq!(names(&result["spec"]["containers"]), ["main", "second", "added"]);
    assert_eq!(
        result["spec"]["containers"][0]["volumeMounts"],
        json!([mount("/a"), mount("/b"), mount("/own"), mount("/var/run/secrets")])
    );
}

#[test]
fn the_pods_own_elements_keep_their_order_under_any_layers() {
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| json!({"name": name, "emptyDir": {"medium": names.len().to_string()}}))
            .collect::<Vec<_>>()
    };
    let pod = json!({"spec": {"volumes": list(&["c", "a", "b"])}});
    let result = merge(&pod, &[(OVERRIDE, json!({"spec": {"volumes": list(&["a", "b", "new", "c"])}}))]).unwrap();
    assert_eq!(names(&result["spec"]["volumes"]), ["new", "c", "a", "b"]);
}

#[test]
fn unknown_fields_are_kept_and_merged() {
    let pod = json!({"future": 1, "metadata": {"future": {"a": 1}}, "spec": {"future": [1], "containers": [{"name": "main", "future": {"x": [null]}, "env": [{"name": "X", "value": "1", "future": 1}]}]}});
    let mut fragment = primary(&json!({"image": "i", "future": {"y": 1}, "env": [{"name": "Y", "value": "1"}]}));
    fragment["spec"]["new"] = json!({"deep": [{"a": 1}]});
    let mut expected = pod.clone();
    expected["spec"]["new"] = fragment["spec"]["new"].clone();
    expected["spec"]["containers"][0]["image"] = json!("i");
    expected["spec"]["containers"][0]["future"]["y"] = json!(1);
    expected["spec"]["containers"][0]["env"].as_array_mut().unwrap().insert(0, json!({"name": "Y", "value": "1"}));
    assert_eq!(merge(&pod, &[(OVERRIDE, fragment)]).unwrap(), expected);
}
