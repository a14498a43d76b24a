//! `Keep`, `Override` and `Deny`, and what counts as unset.

use super::*;

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
fn objects_that_no_schema_knows_merge_key_by_key() {
    let pod = json!({"spec": {"future": {"own": 1, "both": {"a": "pod"}, "list": [1]}}});
    let fragment =
        json!({"spec": {"future": {"new": 2, "both": {"a": "layer", "b": "layer"}, "list": [2]}, "other": {"x": {}}}});
    let result = |rule| lay(&pod, &[(rule, fragment.clone())]).unwrap()["spec"].clone();
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
    assert_eq!(lay(&pod, &[(removing, gone)]).unwrap(), json!({"spec": {"future": {"list": [1]}}}));
    let absent = json!({"spec": {"absent": {"$patch": "delete"}}});
    assert_eq!(lay(&pod, &[(removing, absent)]).unwrap(), pod);
    let other = json!({"spec": {"future": {"new": 2, "own": 3}}});
    let denied = lay(&pod, &[(DENY, other)]).unwrap_err();
    assert!(format!("{denied:?}").contains("spec.future.own"), "{denied:?}");
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
fn empty_and_zero_values_in_a_map_are_somebodys_choice() {
    let pod = json!({"metadata": {"labels": {"e": "", "z": "0"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": ""}}});
    let fragment = json!({"metadata": {"labels": {"e": "x", "z": "1"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": "yes"}}});
    assert_eq!(lay(&pod, &[(KEEP, fragment)]).unwrap(), pod);
}

#[test]
fn env_that_the_tasks_owner_gave_stays_unless_override_was_written_out() {
    let pod = main_with(&json!({"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}));
    let fragment = primary(&json!({"env": [{"name": "NCCL_DEBUG", "value": "WARN"}, {"name": "NEW", "value": "1"}]}));
    let value =
        |rule: MergeRule| lay(&pod, &[(rule, fragment.clone())]).unwrap()["spec"]["containers"][0]["env"].clone();
    assert_eq!(value(MergeRule { keeps_env: true, ..OVERRIDE })[1], json!({"name": "NCCL_DEBUG", "value": "INFO"}));
    assert_eq!(value(OVERRIDE)[1], json!({"name": "NCCL_DEBUG", "value": "WARN"}));
}

/// A layer's value for `path` of the spec over the pod's, under `Keep`.
fn kept(own: &Value, layer: &Value, pointer: &str) -> Value {
    let (pod, fragment) = (json!({ "spec": own }), json!({ "spec": layer }));
    let result = lay(&pod, &[(KEEP, fragment)]).unwrap();
    result["spec"].pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn env_of_a_layer_that_says_override_is_not_a_later_layers_that_does_not() {
    let env = |value: &str| primary(&json!({"env": [{"name": "A", "value": value}]}));
    let stack = [(OVERRIDE, env("said")), (MergeRule { keeps_env: true, ..OVERRIDE }, env("not said"))];
    for pod in [main_with(&json!({})), main_with(&json!({"env": [{"name": "A", "value": "own"}]}))] {
        let once = lay(&pod, &stack).unwrap();
        assert_eq!(once["spec"]["containers"][0]["env"], json!([{"name": "A", "value": "said"}]));
        assert_eq!(lay(&once, &stack), Ok(once), "the second time");
    }
}

#[test]
fn a_schema_default_is_unset() {
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
fn what_is_a_default_elsewhere_is_somebodys_choice() {
    let pod = json!({"metadata": {"labels": {"restartPolicy": "Always"}}, "spec": {"initContainers": [{"name": "a", "restartPolicy": "Always"}]}});
    let fragment = json!({"metadata": {"labels": {"restartPolicy": "x"}}, "spec": {"initContainers": [{"name": "a", "restartPolicy": "Never"}]}});
    assert_eq!(lay(&pod, &[(KEEP, fragment)]).unwrap(), pod);
}

#[test]
fn the_pull_policy_that_follows_from_the_image_is_unset_and_another_is_not() {
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
fn an_empty_list_or_string_of_a_field_is_unset() {
    assert_eq!(kept(&json!({"hostname": ""}), &json!({"hostname": "h"}), "/hostname"), "h");
    let dns = |servers: Value| json!({"dnsConfig": {"nameservers": servers}});
    assert_eq!(kept(&dns(json!([])), &dns(json!(["1.1.1.1"])), "/dnsConfig/nameservers/0"), "1.1.1.1");
}

#[test]
fn a_zero_quantity_is_unset_however_it_is_written() {
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
fn a_request_that_equals_its_limit_is_somebodys_choice() {
    let gpu = json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}});
    let pod = main_with(&json!({ "resources": gpu }));
    let layer =
        primary(&json!({"resources": {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}}));
    assert_eq!(lay(&pod, &[(KEEP, layer)]).unwrap(), pod);
}

#[test]
fn what_a_plugin_added_to_a_list_yields_to_keep() {
    let pod = json!({
        "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:volumes": {"k:{\"name\":\"own\"}": {}}}}}]},
        "spec": {"volumes": [{"name": "own", "emptyDir": {}}, {"name": "plugins", "emptyDir": {}}]}});
    let nfs = |name: &str| json!({"name": name, "nfs": {"server": "s", "path": "/"}});
    let result = lay(&pod, &[(KEEP, json!({"spec": {"volumes": [nfs("own"), nfs("plugins")]}}))]).unwrap();
    assert_eq!(result["spec"]["volumes"], json!([{"name": "own", "emptyDir": {}}, nfs("plugins")]));
}

#[test]
fn deny_refuses_a_different_value_and_names_the_path() {
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
        assert_eq!(lay(&pod, &[(DENY, fragment)]), Err(MergeError::Conflict(path.to_owned())));
    }
}

#[test]
fn deny_agrees_with_the_same_value_and_adds_where_nothing_is_set() {
    let pod = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"restartPolicy": "Always", "nodeSelector": {}}});
    let fragment = json!({"metadata": {"labels": {"team": "a", "tier": "x"}}, "spec": {"restartPolicy": "Never", "nodeSelector": {"gpu": "yes"}}});
    assert_eq!(lay(&pod, &[(DENY, fragment.clone())]).unwrap(), fragment);
}

#[test]
fn deny_gives_its_value_where_a_plugin_gave_another() {
    let pod = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:hostname": {}}}}]}, "spec": {"serviceAccountName": "default"}});
    let result = lay(&pod, &[(DENY, json!({"spec": {"serviceAccountName": "trainer"}}))]).unwrap();
    assert_eq!(result["spec"]["serviceAccountName"], "trainer");
}

#[test]
fn deny_takes_what_the_api_server_makes_of_its_value_for_the_same() {
    let pod = json!({"spec": {
        "volumes": [{"name": "c", "configMap": {"name": "c", "defaultMode": 420}}, {"name": "e", "emptyDir": {"sizeLimit": "1Gi"}}],
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "500m"}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}]}]}});
    let mut fragment = primary(
        &json!({"resources": {"limits": {"cpu": "0.5"}}, "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}),
    );
    fragment["spec"]["volumes"] =
        json!([{"name": "c", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {"sizeLimit": "1024Mi"}}]);
    assert_eq!(lay(&pod, &[(DENY, fragment.clone())]).unwrap(), pod);
    assert_eq!(lay(&pod, &[(OVERRIDE, fragment)]).unwrap(), pod, "and no operation under Override");
}

#[test]
fn deny_judges_the_submitted_pod_and_not_what_layers_made_of_it() {
    let layer = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    let stack = [(KEEP, layer("k")), (OVERRIDE, layer("o")), (DENY, layer("d"))];
    assert_eq!(lay(&json!({}), &stack).unwrap(), layer("d"));
    assert_eq!(lay(&layer("d"), &stack).unwrap(), layer("d"), "the second time");
    assert_eq!(lay(&layer("x"), &stack), Err(MergeError::Conflict("metadata.labels.team".to_owned())));
    let volume = |source: Value| json!({"spec": {"volumes": [source]}});
    let taking = MergeRule { may_remove: true, ..OVERRIDE };
    let stack = [
        (taking, volume(json!({"name": "v", "$patch": "delete"}))),
        (DENY, volume(json!({"name": "v", "emptyDir": {}}))),
    ];
    let pod = volume(json!({"name": "v", "nfs": {"server": "s"}}));
    assert_eq!(
        lay(&pod, &stack),
        Err(MergeError::Conflict("spec.volumes[v]".to_owned())),
        "also where a layer took it away"
    );
}

#[test]
fn two_layers_that_deny_and_disagree_refuse_every_pod() {
    let labels = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    assert!(matches!(lay(&json!({}), &[(DENY, labels("a")), (DENY, labels("b"))]), Err(MergeError::Conflict(_))));
    let volume = |source: Value| json!({"spec": {"volumes": [source]}});
    let stack = [
        (DENY, volume(json!({"name": "v", "emptyDir": {}}))),
        (DENY, volume(json!({"name": "v", "nfs": {"server": "s"}}))),
    ];
    assert_eq!(lay(&json!({}), &stack), Err(MergeError::Conflict("spec.volumes[v]".to_owned())));
    assert_eq!(lay(&json!({}), &[(DENY, labels("a")), (DENY, labels("a"))]).unwrap(), labels("a"));
}

#[test]
fn deny_refuses_another_duration_of_the_same_toleration() {
    let layer = |seconds: u32| json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]}});
    assert_eq!(lay(&layer(60), &[(DENY, layer(60))]).unwrap(), layer(60));
    assert_eq!(
        lay(&layer(60), &[(DENY, layer(90))]),
        Err(MergeError::Conflict("spec.tolerations[gpu/Exists//NoExecute]".to_owned()))
    );
    assert!(matches!(lay(&json!({}), &[(DENY, layer(60)), (DENY, layer(90))]), Err(MergeError::Conflict(_))));
}

#[test]
fn deny_takes_nothing_away() {
    for fragment in [
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"labels": {"$patch": "delete"}}}),
        json!({"spec": {"volumes": [{"name": "v", "$patch": "delete"}]}}),
    ] {
        let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [{"name": "v"}]}});
        let Err(MergeError::Directive(what)) = lay(&pod, &[(DENY, fragment)]) else { panic!("laid") };
        assert!(what.ends_with("a layer whose conflict is Deny takes nothing away"), "{what}");
    }
}
