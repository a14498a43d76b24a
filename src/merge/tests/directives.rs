//! Tests of `$patch` and null.

use super::*;

#[test]
fn removals_need_permission() {
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [{"name": "v"}]}});
    let fragment =
        json!({"metadata": {"labels": {"a": null}}, "spec": {"volumes": [{"name": "v", "$patch": "delete"}]}});
    assert_eq!(merge(&pod, &[(OVERRIDE, fragment.clone())]), Err(MergeError::Removal("metadata.labels.a".to_owned())));
    let allowed = MergeRule { may_remove: true, ..OVERRIDE };
    assert_eq!(
        merge(&pod, &[(allowed, fragment)]).unwrap(),
        json!({"metadata": {"labels": {}}, "spec": {"volumes": []}})
    );
}

const REMOVING: MergeRule = MergeRule { may_remove: true, ..OVERRIDE };
const KEEPING: MergeRule = MergeRule { may_remove: true, ..KEEP };

#[expect(clippy::needless_pass_by_value, reason = "json! makes one")]
fn volumes(list: Value) -> Value {
    json!({"spec": {"volumes": list}})
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes one")]
fn labels(map: Value) -> Value {
    json!({"metadata": {"labels": map}})
}

#[test]
fn delete_removes_every_element_with_the_key_in_any_order() {
    let pod = main_with(
        &json!({"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "y"}, {"name": "X", "value": "2"}]}),
    );
    let fragment = primary(
        &json!({"env": [{"name": "X", "value": "3"}, {"name": "X", "$patch": "delete"}, {"name": "Z", "$patch": "delete"}]}),
    );
    let result = merge(&pod, &[(REMOVING, fragment)]).unwrap();
    assert_eq!(
        result["spec"]["containers"][0]["env"],
        json!([{"name": "X", "value": "3"}, {"name": "Y", "value": "y"}])
    );
}

#[test]
fn delete_of_a_port_respects_its_protocol() {
    let pod = main_with(&json!({"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}));
    let fragment = primary(&json!({"ports": [{"containerPort": 53, "protocol": "TCP", "$patch": "delete"}]}));
    assert_eq!(
        merge(&pod, &[(REMOVING, fragment)]).unwrap()["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 53, "protocol": "UDP"}])
    );
}

#[test]
fn replace_leaves_the_fragments_elements_and_the_token_volume() {
    let pod = volumes(json!([{"name": "a", "emptyDir": {}}, {"name": "b"}, {"name": "kube-api-access-x"}]));
    let new = json!({"name": "a", "nfs": {"server": "s", "path": "/"}});
    for fragment in
        [json!([new, {"$patch": "replace"}]), json!([{"$patch": "replace"}, new, {"name": "b", "$patch": "delete"}])]
    {
        let result = merge(&pod, &[(REMOVING, volumes(fragment))]).unwrap();
        assert_eq!(result, volumes(json!([new, {"name": "kube-api-access-x"}])));
    }
}

#[test]
fn replace_of_a_list_needs_permission_only_if_it_removes_something() {
    let fragment = volumes(json!([{"$patch": "replace"}, {"name": "a"}]));
    assert_eq!(merge(&volumes(json!([])), &[(OVERRIDE, fragment.clone())]).unwrap(), volumes(json!([{"name": "a"}])));
    assert_eq!(
        merge(&volumes(json!([{"name": "b"}])), &[(OVERRIDE, fragment)]),
        Err(MergeError::Removal("spec.volumes".to_owned()))
    );
}

#[test]
fn replace_and_delete_of_a_map_or_object_affect_the_whole() {
    let pod = labels(json!({"a": "1", "b": "2"}));
    assert_eq!(
        merge(&pod, &[(REMOVING, labels(json!({"$patch": "replace", "a": "3"})))]).unwrap(),
        labels(json!({"a": "3"}))
    );
    assert_eq!(merge(&pod, &[(REMOVING, labels(json!({"$patch": "delete"})))]).unwrap(), json!({"metadata": {}}));
    assert_eq!(
        merge(&json!({}), &[(REMOVING, labels(json!({"$patch": "replace", "a": "3"})))]).unwrap(),
        labels(json!({"a": "3"})),
        "into an empty pod"
    );
    assert_eq!(
        merge(&pod, &[(OVERRIDE, labels(json!({"$patch": "delete"})))]),
        Err(MergeError::Removal("metadata.labels".to_owned()))
    );
    let probe = |probe: Value| json!({"spec": {"containers": [{"name": "main", "livenessProbe": probe}]}});
    let (own, new) =
        (json!({"httpGet": {"port": 80}, "periodSeconds": 5}), json!({"$patch": "replace", "tcpSocket": {"port": 90}}));
    assert_eq!(merge(&probe(own), &[(REMOVING, probe(new))]).unwrap(), probe(json!({"tcpSocket": {"port": 90}})));
}

#[test]
fn under_keep_the_pods_values_stay_and_those_of_layers_are_removed() {
    let pod = json!({"metadata": {"labels": {"own": "1"}}, "spec": {"volumes": [{"name": "own"}], "nodeSelector": {"own": "1"}}});
    let adding = json!({"metadata": {"labels": {"added": "2"}}, "spec": {"volumes": [{"name": "added"}]}});
    let removing = json!({
        "metadata": {"labels": {"own": null, "added": null}},
        "spec": {"volumes": [{"name": "own", "$patch": "delete"}, {"name": "added", "$patch": "delete"}], "nodeSelector": {"$patch": "delete"}}});
    assert_eq!(merge(&pod, &[(KEEPING, adding.clone()), (KEEPING, removing)]).unwrap(), pod);
    let replacing = json!({"spec": {"volumes": [{"$patch": "replace"}, {"name": "new"}], "nodeSelector": {"$patch": "replace", "new": "1"}}});
    let result = merge(&pod, &[(KEEPING, adding), (KEEPING, replacing)]).unwrap();
    assert_eq!(
        (names(&result["spec"]["volumes"]), &result["spec"]["nodeSelector"]),
        (vec!["new", "own"], &json!({"own": "1", "new": "1"}))
    );
}

#[test]
fn added_values_contain_no_null_and_no_directive() {
    let fragment = json!({"spec": {"initContainers": [{"name": "i", "image": "x", "workingDir": null, "resources": {"$patch": "replace", "limits": {"cpu": "1"}},
        "env": [{"name": "A", "$patch": "delete"}, {"name": "B", "value": "b", "valueFrom": null}, {"$patch": "replace"}], "securityContext": {"$patch": "delete"}}],
        "volumes": [{"name": "v", "nfs": {"$patch": "replace", "server": "s", "readOnly": null}}], "dnsConfig": {"options": [{"name": "o", "value": null}]}}});
    let expected = json!({"spec": {"initContainers": [{"name": "i", "image": "x", "resources": {"limits": {"cpu": "1"}}, "env": [{"name": "B", "value": "b"}]}],
        "volumes": [{"name": "v", "nfs": {"server": "s"}}], "dnsConfig": {"options": [{"name": "o"}]}}});
    assert_eq!(merge(&json!({}), &[(OVERRIDE, fragment)]).unwrap(), expected);
}

#[test]
fn null_removes_a_part_of_a_union() {
    let pod = main_with(&json!({"env": [{"name": "X", "value": "1"}]}));
    let merged =
        |part: &str| merge(&pod, &[(REMOVING, primary(&json!({"env": [{"name": "X", part: null}]})))]).unwrap();
    assert_eq!(merged("value"), main_with(&json!({"env": [{"name": "X"}]})));
    assert_eq!(merged("valueFrom"), pod);
}

#[test]
fn delete_in_a_part_of_a_union_removes_it() {
    let removing = [(
        MergeRule { may_remove: true, ..OVERRIDE },
        volumes(json!([{"name": "v", "emptyDir": {"$patch": "delete"}}])),
    )];
    let pod = volumes(json!([{"name": "v", "emptyDir": {"medium": "Memory"}}]));
    assert_eq!(merge(&pod, &removing), Ok(volumes(json!([{"name": "v"}]))));
    let forbidden = [(OVERRIDE, removing[0].1.clone())];
    assert!(matches!(merge(&pod, &forbidden), Err(MergeError::Removal(_))));
}

#[test]
fn a_list_without_keys_can_only_be_replaced() {
    let tolerations = |list: Value| json!({"spec": {"tolerations": list}});
    let pod = tolerations(json!([{"key": "a"}]));
    assert_eq!(
        merge(&pod, &[(REMOVING, tolerations(json!([{"key": "b"}, {"$patch": "replace"}])))]).unwrap(),
        tolerations(json!([{"key": "b"}]))
    );
    let terms = |list: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list}}}}});
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    assert_eq!(
        merge(&terms(json!([term("a")])), &[(REMOVING, terms(json!([{"$patch": "replace"}, term("b")])))]).unwrap(),
        terms(json!([term("b")]))
    );
    assert!(matches!(
        merge(&pod, &[(REMOVING, tolerations(json!([{"key": "a", "$patch": "delete"}])))]),
        Err(MergeError::Directive(_))
    ));
}

#[test]
fn an_unsupported_directive_is_an_error_that_names_it() {
    let cases = [
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}]}}),
            "spec: $setElementOrder/containers is not supported",
        ),
        (
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            "metadata: $deleteFromPrimitiveList/finalizers is not supported",
        ),
        (volumes(json!([{"name": "own", "$retainKeys": ["name"]}])), "spec.volumes[own]: $retainKeys is not supported"),
        (volumes(json!([{"name": "new", "$retainKeys": ["name"]}])), "spec.volumes[new]: $retainKeys is not supported"),
        (labels(json!({"$patch": "merge"})), "metadata.labels: $patch must be delete or replace"),
        (volumes(json!([{"name": "own", "$patch": true}])), "spec.volumes: $patch must be delete or replace"),
        (
            volumes(json!([{"name": "own", "$patch": "replace"}])),
            "spec.volumes: $patch: replace must be the only key of its element",
        ),
        (volumes(json!([{"emptyDir": {}}])), "spec.volumes: an element lacks its merge key"),
        (volumes(json!([{"emptyDir": {}, "$patch": "delete"}])), "spec.volumes: an element lacks its merge key"),
        (json!({"$patch": "replace", "spec": {}}), ": $patch is not supported"),
    ];
    for (fragment, expected) in cases {
        let Err(MergeError::Directive(what)) = merge(&volumes(json!([{"name": "own"}])), &[(REMOVING, fragment)])
        else {
            panic!("merged: {expected}")
        };
        assert!(what.starts_with(expected), "{what}");
    }
}
