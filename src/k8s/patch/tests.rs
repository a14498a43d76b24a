//! Tests that a comparison's operations are minimal and apply to its input.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn operations(before: &Value, after: &Value) -> Vec<Value> {
    let arena = Bump::new();
    let (a, b) = (Json::borrowed(before, &arena), Json::borrowed(after, &arena));
    let operations = diff(a, b, &arena);
    assert_eq!(apply(a, operations, &arena).unwrap().to_value(), *after, "applied by podgraft");
    let patch: json_patch::Patch = serde_json::from_value(json!(operations)).unwrap();
    let mut document = before.clone();
    json_patch::patch(&mut document, &patch).unwrap();
    assert_eq!(document, *after, "applied by json-patch");
    serde_json::from_value(json!(operations)).unwrap()
}

#[test]
fn an_element_inserted_in_front_is_one_add() {
    let before = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]}});
    let mut after = before.clone();
    after["spec"]["containers"][0]["env"].as_array_mut().unwrap().insert(0, json!({"name": "N", "value": "0"}));
    assert_eq!(
        operations(&before, &after),
        [json!({"op": "add", "path": "/spec/containers/0/env/0", "value": {"name": "N", "value": "0"}})]
    );
}

#[test]
fn a_changed_value_is_one_replace_and_a_union_is_replaced_whole() {
    let env = |element: Value| json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Z"}, element]}]}});
    assert_eq!(
        operations(&env(json!({"name": "X", "value": "1"})), &env(json!({"name": "X", "value": "2"}))),
        [json!({"op": "replace", "path": "/spec/containers/0/env/1/value", "value": "2"})]
    );
    let from = json!({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}});
    assert_eq!(
        operations(&env(json!({"name": "X", "value": "1"})), &env(from.clone())),
        [json!({"op": "replace", "path": "/spec/containers/0/env/1", "value": from})]
    );
    let key = json!({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}});
    assert_eq!(
        operations(&env(key), &env(from.clone())),
        [json!({"op": "replace", "path": "/spec/containers/0/env/1", "value": from})]
    );
}

#[test]
fn an_atomic_list_with_an_element_less_is_replaced_whole() {
    let pod = |command: Value| json!({"spec": {"initContainers": [{"name": "i", "command": command}]}});
    assert_eq!(
        operations(&pod(json!(["sh", "-c", "echo A"])), &pod(json!(["sh", "-c", "echo B"]))),
        vec![json!({"op": "replace", "path": "/spec/initContainers/0/command", "value": ["sh", "-c", "echo B"]})]
    );
    assert_eq!(
        operations(&pod(json!(["sh"])), &pod(json!(["sh", "-c"]))),
        vec![json!({"op": "add", "path": "/spec/initContainers/0/command/1", "value": "-c"})]
    );
}

#[test]
fn the_last_of_duplicate_names_is_kept() {
    let env = |list: Value| json!({"spec": {"containers": [{"name": "a", "env": list}]}});
    let (one, two) = (json!({"name": "X", "value": "1"}), json!({"name": "X", "value": "2"}));
    assert_eq!(
        operations(&env(json!([one, two])), &env(json!([two]))),
        [json!({"op": "remove", "path": "/spec/containers/0/env/0"})]
    );
}

#[test]
fn label_keys_are_escaped() {
    let before = json!({"metadata": {"labels": {"a": "b"}}});
    let after = json!({"metadata": {"labels": {"a": "b", "kubernetes.io/x~y": "z"}}});
    assert_eq!(
        operations(&before, &after),
        [json!({"op": "add", "path": "/metadata/labels/kubernetes.io~1x~0y", "value": "z"})]
    );
}

#[test]
fn a_missing_parent_is_added_whole() {
    assert_eq!(
        operations(&json!({"metadata": {}}), &json!({"metadata": {"labels": {"a": "b"}}})),
        [json!({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}})]
    );
}

#[test]
fn a_patch_that_does_not_apply_is_an_error() {
    let arena = Bump::new();
    let path = [PathElement::Member("spec"), PathElement::Member("volumes"), PathElement::Element(3, None)];
    let operation = Operation { action: Action::Add, path: &path, value: Json::Null };
    let document = json!({"spec": {"volumes": []}});
    let error = apply(Json::borrowed(&document, &arena), &[operation], &arena).unwrap_err();
    assert_eq!(error, "Add /spec/volumes/3 does not apply");
}

/// Pods with few names, so that lists collide, swap, repeat and drop elements.
fn pods() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        (0..3i64).prop_map(|n| json!(n)),
        "[a-c]{0,2}".prop_map(|s| json!(s))
    ];
    let env = prop::collection::vec(("[A-D]", scalar.clone(), any::<bool>()), 0..5).prop_map(|list| {
        Value::Array(
            list.into_iter()
                .map(|(name, value, from)| json!({"name": name, if from { "valueFrom" } else { "value" }: value}))
                .collect(),
        )
    });
    let containers =
        prop::collection::vec(("[a-c]", env, prop::collection::vec(scalar.clone(), 0..3)), 0..4).prop_map(|list| {
            Value::Array(
                list.into_iter().map(|(name, env, args)| json!({"name": name, "env": env, "args": args})).collect(),
            )
        });
    let labels = prop::collection::hash_map("[a-c/~]{1,2}", scalar.clone(), 0..4);
    let tolerations = prop::collection::vec(prop::collection::hash_map("[a-b]", scalar, 0..2), 0..4);
    (containers, labels, tolerations).prop_map(|(containers, labels, tolerations)| {
        json!({"metadata": {"labels": labels}, "spec": {"containers": containers, "tolerations": tolerations}, "unknown": {"x": [1, [2]]}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn applying_the_difference_gives_the_other(before in pods(), after in pods()) {
        operations(&before, &after);
    }

    #[test]
    fn no_difference_is_no_operation(pod in pods()) {
        prop_assert!(operations(&pod, &pod).is_empty());
    }
}
