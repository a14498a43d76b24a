//! `$patch` and null.

use super::*;

#[test]
fn removals_need_permission() {
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [{"name": "v"}]}});
    let fragment =
        json!({"metadata": {"labels": {"a": null}}, "spec": {"volumes": [{"name": "v", "$patch": "delete"}]}});
    assert_eq!(lay(&pod, &[(OVERRIDE, fragment.clone())]), Err(MergeError::Removal("metadata.labels.a".to_owned())));
    let allowed = MergeRule { may_remove: true, ..OVERRIDE };
    assert_eq!(
        lay(&pod, &[(allowed, fragment)]).unwrap(),
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
fn delete_takes_every_element_with_the_key_wherever_the_directive_stands() {
    let pod = main_with(
        &json!({"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "y"}, {"name": "X", "value": "2"}]}),
    );
    let fragment = primary(
        &json!({"env": [{"name": "X", "value": "3"}, {"name": "X", "$patch": "delete"}, {"name": "Z", "$patch": "delete"}]}),
    );
    let result = lay(&pod, &[(REMOVING, fragment)]).unwrap();
    assert_eq!(
        result["spec"]["containers"][0]["env"],
        json!([{"name": "X", "value": "3"}, {"name": "Y", "value": "y"}])
    );
}

#[test]
fn delete_of_a_port_is_of_its_protocol() {
    let pod = main_with(&json!({"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}));
    let fragment = primary(&json!({"ports": [{"containerPort": 53, "protocol": "TCP", "$patch": "delete"}]}));
    assert_eq!(
        lay(&pod, &[(REMOVING, fragment)]).unwrap()["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 53, "protocol": "UDP"}])
    );
}

#[test]
fn replace_leaves_of_a_list_what_stands_beside_it_and_the_token_volume() {
    let pod = volumes(json!([{"name": "a", "emptyDir": {}}, {"name": "b"}, {"name": "kube-api-access-x"}]));
    let new = json!({"name": "a", "nfs": {"server": "s", "path": "/"}});
    for fragment in
        [json!([new, {"$patch": "replace"}]), json!([{"$patch": "replace"}, new, {"name": "b", "$patch": "delete"}])]
    {
        let result = lay(&pod, &[(REMOVING, volumes(fragment))]).unwrap();
        assert_eq!(result, volumes(json!([new, {"name": "kube-api-access-x"}])));
    }
}

#[test]
fn replace_of_a_list_needs_permission_only_where_something_goes() {
    let fragment = volumes(json!([{"$patch": "replace"}, {"name": "a"}]));
    assert_eq!(lay(&volumes(json!([])), &[(OVERRIDE, fragment.clone())]).unwrap(), volumes(json!([{"name": "a"}])));
    assert_eq!(
        lay(&volumes(json!([{"name": "b"}])), &[(OVERRIDE, fragment)]),
        Err(MergeError::Removal("spec.volumes".to_owned()))
    );
}

#[test]
fn replace_and_delete_of_a_map_or_object_are_of_the_whole() {
    let pod = labels(json!({"a": "1", "b": "2"}));
    assert_eq!(
        lay(&pod, &[(REMOVING, labels(json!({"$patch": "replace", "a": "3"})))]).unwrap(),
        labels(json!({"a": "3"}))
    );
    assert_eq!(lay(&pod, &[(REMOVING, labels(json!({"$patch": "delete"})))]).unwrap(), json!({"metadata": {}}));
    assert_eq!(
        lay(&json!({}), &[(REMOVING, labels(json!({"$patch": "replace", "a": "3"})))]).unwrap(),
        labels(json!({"a": "3"})),
        "over nothing"
    );
    assert_eq!(
        lay(&pod, &[(OVERRIDE, labels(json!({"$patch": "delete"})))]),
        Err(MergeError::Removal("metadata.labels".to_owned()))
    );
    let probe = |probe: Value| json!({"spec": {"containers": [{"name": "main", "livenessProbe": probe}]}});
    let (own, new) =
        (json!({"httpGet": {"port": 80}, "periodSeconds": 5}), json!({"$patch": "replace", "tcpSocket": {"port": 90}}));
    assert_eq!(lay(&probe(own), &[(REMOVING, probe(new))]).unwrap(), probe(json!({"tcpSocket": {"port": 90}})));
}

#[test]
fn under_keep_what_the_pod_wrote_stays_and_what_layers_added_goes() {
    let pod = json!({"metadata": {"labels": {"own": "1"}}, "spec": {"volumes": [{"name": "own"}], "nodeSelector": {"own": "1"}}});
    let adding = json!({"metadata": {"labels": {"added": "2"}}, "spec": {"volumes": [{"name": "added"}]}});
    let taking = json!({
        "metadata": {"labels": {"own": null, "added": null}},
        "spec": {"volumes": [{"name": "own", "$patch": "delete"}, {"name": "added", "$patch": "delete"}], "nodeSelector": {"$patch": "delete"}}});
    assert_eq!(lay(&pod, &[(KEEPING, adding.clone()), (KEEPING, taking)]).unwrap(), pod);
    let replacing = json!({"spec": {"volumes": [{"$patch": "replace"}, {"name": "new"}], "nodeSelector": {"$patch": "replace", "new": "1"}}});
    let result = lay(&pod, &[(KEEPING, adding), (KEEPING, replacing)]).unwrap();
    assert_eq!(
        (names(&result["spec"]["volumes"]), &result["spec"]["nodeSelector"]),
        (vec!["new", "own"], &json!({"own": "1", "new": "1"}))
    );
}

#[test]
fn what_is_added_holds_no_null_and_no_directive() {
    let fragment = json!({"spec": {"initContainers": [{"name": "i", "image": "x", "workingDir": null, "resources": {"$patch": "replace", "limits": {"cpu": "1"}},
        "env": [{"name": "A", "$patch": "delete"}, {"name": "B", "value": "b", "valueFrom": null}, {"$patch": "replace"}], "securityContext": {"$patch": "delete"}}],
        "volumes": [{"name": "v", "nfs": {"$patch": "replace", "server": "s", "readOnly": null}}], "dnsConfig": {"options": [{"name": "o", "value": null}]}}});
    let expected = json!({"spec": {"initContainers": [{"name": "i", "image": "x", "resources": {"limits": {"cpu": "1"}}, "env": [{"name": "B", "value": "b"}]}],
        "volumes": [{"name": "v", "nfs": {"server": "s"}}], "dnsConfig": {"options": [{"name": "o"}]}}});
    assert_eq!(lay(&json!({}), &[(OVERRIDE, fragment)]).unwrap(), expected);
}

#[test]
fn null_takes_away_the_part_of_a_union_that_it_names() {
    let pod = main_with(&json!({"env": [{"name": "X", "value": "1"}]}));
    let laid = |part: &str| lay(&pod, &[(REMOVING, primary(&json!({"env": [{"name": "X", part: null}]})))]).unwrap();
    assert_eq!(laid("value"), main_with(&json!({"env": [{"name": "X"}]})));
    assert_eq!(laid("valueFrom"), pod);
}

#[test]
fn delete_takes_away_the_part_of_a_union_that_it_stands_in() {
    let taking = [(
        MergeRule { may_remove: true, ..OVERRIDE },
        volumes(json!([{"name": "v", "emptyDir": {"$patch": "delete"}}])),
    )];
    let pod = volumes(json!([{"name": "v", "emptyDir": {"medium": "Memory"}}]));
    assert_eq!(lay(&pod, &taking), Ok(volumes(json!([{"name": "v"}]))));
    let forbidden = [(OVERRIDE, taking[0].1.clone())];
    assert!(matches!(lay(&pod, &forbidden), Err(MergeError::Removal(_))));
}

#[test]
fn a_list_without_keys_can_only_be_replaced() {
    let tolerations = |list: Value| json!({"spec": {"tolerations": list}});
    let pod = tolerations(json!([{"key": "a"}]));
    assert_eq!(
        lay(&pod, &[(REMOVING, tolerations(json!([{"key": "b"}, {"$patch": "replace"}])))]).unwrap(),
        tolerations(json!([{"key": "b"}]))
    );
    let terms = |list: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list}}}}});
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    assert_eq!(
        lay(&terms(json!([term("a")])), &[(REMOVING, terms(json!([{"$patch": "replace"}, term("b")])))]).unwrap(),
        terms(json!([term("b")]))
    );
    assert!(matches!(
        lay(&pod, &[(REMOVING, tolerations(json!([{"key": "a", "$patch": "delete"}])))]),
        Err(MergeError::Directive(_))
    ));
}

#[test]
fn a_directive_that_is_not_supported_is_refused_by_name() {
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
        (labels(json!({"$patch": "merge"})), "metadata.labels: $patch is neither delete nor replace"),
        (volumes(json!([{"name": "own", "$patch": true}])), "spec.volumes: $patch is neither delete nor replace"),
        (
            volumes(json!([{"name": "own", "$patch": "replace"}])),
            "spec.volumes: $patch: replace stands in an element of its own",
        ),
        (volumes(json!([{"emptyDir": {}}])), "spec.volumes: an element without its key"),
        (volumes(json!([{"emptyDir": {}, "$patch": "delete"}])), "spec.volumes: an element without its key"),
        (json!({"$patch": "replace", "spec": {}}), ": $patch is not supported"),
    ];
    for (fragment, expected) in cases {
        let Err(MergeError::Directive(what)) = lay(&volumes(json!([{"name": "own"}])), &[(REMOVING, fragment)]) else {
            panic!("laid: {expected}")
        };
        assert!(what.starts_with(expected), "{what}");
    }
}
