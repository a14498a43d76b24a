//! Tests of `Keep`, `Override` and `Deny`, and of values that count as defaulted.

use super::*;

#[test]
fn keep_leaves_the_pods_own_value_and_override_replaces_it() {
    let pod = json!({"metadata": {"labels": {"team": "a"}}});
    let fragment = json!({"metadata": {"labels": {"team": "b", "tier": "x"}}});
    assert_eq!(
        merge(&pod, &[(KEEP, fragment.clone())]).unwrap()["metadata"]["labels"],
        json!({"team": "a", "tier": "x"})
    );
    assert_eq!(merge(&pod, &[(OVERRIDE, fragment)]).unwrap()["metadata"]["labels"], json!({"team": "b", "tier": "x"}));
}

#[test]
fn unknown_objects_merge_key_by_key() {
    let pod = json!({"spec": {"future": {"own": 1, "both": {"a": "pod"}, "list": [1]}}});
    let fragment =
        json!({"spec": {"future": {"new": 2, "both": {"a": "layer", "b": "layer"}, "list": [2]}, "other": {"x": {}}}});
    let result = |rule| merge(&pod, &[(rule, fragment.clone())]).unwrap()["spec"].clone();
    assert_eq!(
        result(OVERRIDE),
        json!({"future": {"own": 1, "new": 2, "both": {"a": "layer", "b": "layer"}, "list": [2]}, "other": {"x": {}}})
    );
    assert_eq!(
        result(KEEP),
        json!({"future": {"own": 1, "new": 2, "both": {"a": "pod", "b": "layer"}, "list": [1]}, "other": {"x": {}}})
    );
    let gone = json!({"spec": {"future": {"both": {"$patch": "delete"}, "own": null}}});
    let removing = MergeRule { may_remove: true, ..OVERRIDE };
    assert_eq!(merge(&pod, &[(removing, gone)]).unwrap(), json!({"spec": {"future": {"list": [1]}}}));
    let absent = json!({"spec": {"absent": {"$patch": "delete"}}});
    assert_eq!(merge(&pod, &[(removing, absent)]).unwrap(), pod);
    let other = json!({"spec": {"future": {"new": 2, "own": 3}}});
    let denied = merge(&pod, &[(DENY, other)]).unwrap_err();
    assert!(format!("{denied:?}").contains("spec.future.own"), "{denied:?}");
}

#[test]
fn under_one_rule_the_later_layer_is_effective() {
    let layer = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    let pod = json!({"metadata": {}});
    let both = [(KEEP, layer("first")), (KEEP, layer("second"))];
    assert_eq!(merge(&pod, &both).unwrap()["metadata"]["labels"]["team"], "second");
}

#[test]
fn keep_replaces_a_plugins_value_and_not_the_submitters() {
    let mut pod = main_with(&json!({"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}));
    let owned =
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}});
    pod["metadata"] = json!({"managedFields": [{"fieldsV1": owned}]});
    let result =
        merge(&pod, &[(KEEP, primary(&json!({"resources": {"limits": {"cpu": "4", "memory": "8Gi"}}})))]).unwrap();
    assert_eq!(result["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "4", "memory": "1Gi"}));
}

#[test]
fn empty_zero_and_default_values_are_not_explicit() {
    let pod = json!({"spec": {"restartPolicy": "Always", "securityContext": {}, "containers": [{"name": "main", "resources": {"requests": {"cpu": "0"}}}]}});
    let mut fragment = primary(&json!({"resources": {"requests": {"cpu": "2"}}}));
    fragment["spec"]["restartPolicy"] = json!("Never");
    let result = merge(&pod, &[(KEEP, fragment)]).unwrap();
    assert_eq!(result["spec"]["restartPolicy"], "Never");
    assert_eq!(result["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
}

#[test]
fn empty_and_zero_values_in_a_map_are_explicit() {
    let pod = json!({"metadata": {"labels": {"e": "", "z": "0"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": ""}}});
    let fragment = json!({"metadata": {"labels": {"e": "x", "z": "1"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": "yes"}}});
    assert_eq!(merge(&pod, &[(KEEP, fragment)]).unwrap(), pod);
}

#[test]
fn the_users_env_stays_unless_override_is_explicit() {
    let pod = main_with(&json!({"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}));
    let fragment = primary(&json!({"env": [{"name": "NCCL_DEBUG", "value": "WARN"}, {"name": "NEW", "value": "1"}]}));
    let value =
        |rule: MergeRule| merge(&pod, &[(rule, fragment.clone())]).unwrap()["spec"]["containers"][0]["env"].clone();
    assert_eq!(value(MergeRule { keeps_env: true, ..OVERRIDE })[1], json!({"name": "NCCL_DEBUG", "value": "INFO"}));
    assert_eq!(value(OVERRIDE)[1], json!({"name": "NCCL_DEBUG", "value": "WARN"}));
}

/// Merges a layer's spec into the pod's under `Keep` and returns the value at a pointer.
fn kept(own: &Value, layer: &Value, pointer: &str) -> Value {
    let (pod, fragment) = (json!({ "spec": own }), json!({ "spec": layer }));
    let result = merge(&pod, &[(KEEP, fragment)]).unwrap();
    result["spec"].pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn env_of_an_explicit_override_stays_under_a_later_implicit_one() {
    let env = |value: &str| primary(&json!({"env": [{"name": "A", "value": value}]}));
    let stack = [(OVERRIDE, env("explicit")), (MergeRule { keeps_env: true, ..OVERRIDE }, env("implicit"))];
    for pod in [main_with(&json!({})), main_with(&json!({"env": [{"name": "A", "value": "own"}]}))] {
        let once = merge(&pod, &stack).unwrap();
        assert_eq!(once["spec"]["containers"][0]["env"], json!([{"name": "A", "value": "explicit"}]));
        assert_eq!(merge(&once, &stack), Ok(once), "applied twice");
    }
}

#[test]
fn a_schema_default_is_not_explicit() {
    let cases = [
        (json!({"dnsPolicy": "ClusterFirst"}), json!({"dnsPolicy": "None"}), "/dnsPolicy"),
        (json!({"schedulerName": "default-scheduler"}), json!({"schedulerName": "volcano"}), "/schedulerName"),
        (
            json!({"terminationGracePeriodSeconds": 30}),
            json!({"terminationGracePeriodSeconds": 5}),
            "/terminationGracePeriodSeconds",
        ),
        (json!({"enableServiceLinks": true}), json!({"enableServiceLinks": false}), "/enableServiceLinks"),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"periodSeconds": 10}}]}),
            json!({"containers": [{"name": "a", "livenessProbe": {"periodSeconds": 5}}]}),
            "/containers/0/livenessProbe/periodSeconds",
        ),
        (
            json!({"containers": [{"name": "a", "terminationMessagePolicy": "File"}]}),
            json!({"containers": [{"name": "a", "terminationMessagePolicy": "FallbackToLogsOnError"}]}),
            "/containers/0/terminationMessagePolicy",
        ),
    ];
    for (own, layer, pointer) in cases {
        assert_eq!(kept(&own, &layer, pointer), *layer.pointer(pointer).unwrap(), "{own}");
    }
}

#[test]
fn a_value_that_is_a_default_of_another_field_is_explicit() {
    let pod = json!({"metadata": {"labels": {"restartPolicy": "Always"}}, "spec": {"initContainers": [{"name": "a", "restartPolicy": "Always"}]}});
    let fragment = json!({"metadata": {"labels": {"restartPolicy": "x"}}, "spec": {"initContainers": [{"name": "a", "restartPolicy": "Never"}]}});
    assert_eq!(merge(&pod, &[(KEEP, fragment)]).unwrap(), pod);
}

#[test]
fn a_pull_policy_derived_from_the_image_is_not_explicit_and_another_is() {
    let policy = |image: &str, own: &str| {
        let container =
            |policy: &str| json!({"containers": [{"name": "a", "image": image, "imagePullPolicy": policy}]});
        kept(&container(own), &container("Never"), "/containers/0/imagePullPolicy")
    };
    for image in ["busybox", "busybox:latest", "registry:5000/busybox"] {
        assert_eq!(
            (policy(image, "Always"), policy(image, "IfNotPresent")),
            (json!("Never"), json!("IfNotPresent")),
            "{image}"
        );
    }
    for image in ["busybox:1", "registry:5000/busybox:1", "busybox@sha256:0"] {
        assert_eq!(
            (policy(image, "Always"), policy(image, "IfNotPresent")),
            (json!("Always"), json!("Never")),
            "{image}"
        );
    }
}

#[test]
fn an_empty_list_or_string_of_a_field_is_not_explicit() {
    assert_eq!(kept(&json!({"hostname": ""}), &json!({"hostname": "h"}), "/hostname"), "h");
    let dns = |servers: Value| json!({"dnsConfig": {"nameservers": servers}});
    assert_eq!(kept(&dns(json!([])), &dns(json!(["1.1.1.1"])), "/dnsConfig/nameservers/0"), "1.1.1.1");
}

#[test]
fn a_zero_quantity_in_any_spelling_is_not_explicit() {
    for zero in [json!("0"), json!("0m"), json!(0), json!("0.0Gi"), json!("-0")] {
        let limits = |cpu: Value| json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": cpu}}}]});
        assert_eq!(
            kept(&limits(zero.clone()), &limits(json!("2")), "/containers/0/resources/limits/cpu"),
            "2",
            "{zero}"
        );
    }
    let overhead = |cpu: &str| json!({"overhead": {"cpu": cpu}});
    assert_eq!(kept(&overhead("0"), &overhead("1"), "/overhead/cpu"), "1", "every map of quantities");
}

#[test]
fn a_request_that_equals_its_limit_is_explicit() {
    let gpu = json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}});
    let pod = main_with(&json!({ "resources": gpu }));
    let layer =
        primary(&json!({"resources": {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}}));
    assert_eq!(merge(&pod, &[(KEEP, layer)]).unwrap(), pod);
}

#[test]
fn keep_replaces_a_plugins_list_element() {
    let pod = json!({
        "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:volumes": {"k:{\"name\":\"own\"}": {}}}}}]},
        "spec": {"volumes": [{"name": "own", "emptyDir": {}}, {"name": "plugins", "emptyDir": {}}]}});
    let nfs = |name: &str| json!({"name": name, "nfs": {"server": "s", "path": "/"}});
    let result = merge(&pod, &[(KEEP, json!({"spec": {"volumes": [nfs("own"), nfs("plugins")]}}))]).unwrap();
    assert_eq!(result["spec"]["volumes"], json!([{"name": "own", "emptyDir": {}}, nfs("plugins")]));
}

#[test]
fn deny_denies_a_different_value_and_names_the_path() {
    let cases = [
        (
            json!({"metadata": {"labels": {"team": "a"}}}),
            json!({"metadata": {"labels": {"team": "b"}}}),
            "metadata.labels.team",
        ),
        (
            main_with(&json!({"env": [{"name": "X", "value": "1"}]})),
            primary(&json!({"env": [{"name": "X", "value": "2"}]})),
            "spec.containers[main].env[X]",
        ),
        (
            json!({"spec": {"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a"]}]}}),
            json!({"spec": {"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["b"]}]}}),
            "spec.hostAliases[1.1.1.1].hostnames",
        ),
        (
            json!({"spec": {"runtimeClassName": "x"}}),
            json!({"spec": {"runtimeClassName": "y"}}),
            "spec.runtimeClassName",
        ),
    ];
    for (pod, fragment, path) in cases {
        assert_eq!(merge(&pod, &[(DENY, fragment)]), Err(MergeError::Conflict(path.to_owned())));
    }
}

#[test]
fn deny_accepts_an_equal_value_and_adds_a_missing_one() {
    let pod = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"restartPolicy": "Always", "nodeSelector": {}}});
    let fragment = json!({"metadata": {"labels": {"team": "a", "tier": "x"}}, "spec": {"restartPolicy": "Never", "nodeSelector": {"gpu": "yes"}}});
    assert_eq!(merge(&pod, &[(DENY, fragment.clone())]).unwrap(), fragment);
}

#[test]
fn deny_replaces_a_plugins_value() {
    let pod = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:hostname": {}}}}]}, "spec": {"serviceAccountName": "default"}});
    let result = merge(&pod, &[(DENY, json!({"spec": {"serviceAccountName": "trainer"}}))]).unwrap();
    assert_eq!(result["spec"]["serviceAccountName"], "trainer");
}

#[test]
fn deny_accepts_a_value_that_is_equal_after_defaulting() {
    let pod = json!({"spec": {
        "volumes": [{"name": "c", "configMap": {"name": "c", "defaultMode": 420}}, {"name": "e", "emptyDir": {"sizeLimit": "1Gi"}}],
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "500m"}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}]}]}});
    let mut fragment = primary(
        &json!({"resources": {"limits": {"cpu": "0.5"}}, "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}),
    );
    fragment["spec"]["volumes"] =
        json!([{"name": "c", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {"sizeLimit": "1024Mi"}}]);
    assert_eq!(merge(&pod, &[(DENY, fragment.clone())]).unwrap(), pod);
    assert_eq!(merge(&pod, &[(OVERRIDE, fragment)]).unwrap(), pod, "and no operation under Override");
}

#[test]
fn deny_judges_the_submitted_pod_and_not_the_result_of_layers() {
    let layer = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    let stack = [(KEEP, layer("k")), (OVERRIDE, layer("o")), (DENY, layer("d"))];
    assert_eq!(merge(&json!({}), &stack).unwrap(), layer("d"));
    assert_eq!(merge(&layer("d"), &stack).unwrap(), layer("d"), "applied twice");
    assert_eq!(merge(&layer("x"), &stack), Err(MergeError::Conflict("metadata.labels.team".to_owned())));
    let volume = |source: Value| json!({"spec": {"volumes": [source]}});
    let removing = MergeRule { may_remove: true, ..OVERRIDE };
    let stack = [
        (removing, volume(json!({"name": "v", "$patch": "delete"}))),
        (DENY, volume(json!({"name": "v", "emptyDir": {}}))),
    ];
    let pod = volume(json!({"name": "v", "nfs": {"server": "s"}}));
    assert_eq!(
        merge(&pod, &stack),
        Err(MergeError::Conflict("spec.volumes[v]".to_owned())),
        "also if a layer removed it"
    );
}

#[test]
fn two_deny_layers_with_different_values_deny_every_pod() {
    let labels = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    assert!(matches!(merge(&json!({}), &[(DENY, labels("a")), (DENY, labels("b"))]), Err(MergeError::Conflict(_))));
    let volume = |source: Value| json!({"spec": {"volumes": [source]}});
    let stack = [
        (DENY, volume(json!({"name": "v", "emptyDir": {}}))),
        (DENY, volume(json!({"name": "v", "nfs": {"server": "s"}}))),
    ];
    assert_eq!(merge(&json!({}), &stack), Err(MergeError::Conflict("spec.volumes[v]".to_owned())));
    assert_eq!(merge(&json!({}), &[(DENY, labels("a")), (DENY, labels("a"))]).unwrap(), labels("a"));
}

#[test]
fn deny_denies_other_seconds_of_a_toleration() {
    let layer = |seconds: u32| json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]}});
    assert_eq!(merge(&layer(60), &[(DENY, layer(60))]).unwrap(), layer(60));
    assert_eq!(
        merge(&layer(60), &[(DENY, layer(90))]),
        Err(MergeError::Conflict("spec.tolerations[gpu/Exists//NoExecute]".to_owned()))
    );
    assert!(matches!(merge(&json!({}), &[(DENY, layer(60)), (DENY, layer(90))]), Err(MergeError::Conflict(_))));
}

#[test]
fn deny_cannot_remove_anything() {
    for fragment in [
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"labels": {"$patch": "delete"}}}),
        json!({"spec": {"volumes": [{"name": "v", "$patch": "delete"}]}}),
    ] {
        let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [{"name": "v"}]}});
        let Err(MergeError::Directive(what)) = merge(&pod, &[(DENY, fragment)]) else { panic!("merged") };
        assert!(what.ends_with("a layer whose conflict is Deny cannot remove anything"), "{what}");
    }
}
