//! Placeholders: their values, and the denials of invalid ones.

use super::*;

#[test]
fn a_layers_placeholders_are_filled_for_each_pod() {
    let layer = json!({"spec": {"containers": [{"name": "primary", "env": [
        {"name": "WHO", "value": "${task.id} ${queue.name} ${pod.namespace} ${CLEARML_WORKER_ID} ${HOME}"}]}]}});
    let result = patched(&pod(), &answer_for(&pod(), &snapshot(layer, Vec::new())));
    let expected = format!("{ID} GPU clearml w:{ID} ${{HOME}}");
    assert_eq!(result["spec"]["containers"][0]["env"][0], json!({"name": "WHO", "value": expected}));
}

#[test]
fn a_placeholder_without_a_value_names_its_layer_file_and_line() {
    let layer = json!({"metadata": {"annotations": {"a": "${task_config.nfs.server}"}}});
    assert_eq!(
        denial(&pod(), &snapshot(layer, Vec::new())),
        "422 Placeholder queue/GPU (podgraft.yaml:1): the placeholder ${task_config.nfs.server} has no value: taskConfig has no such key for the pod"
    );
}

#[test]
fn a_denial_does_not_contain_a_placeholders_value() {
    let mount = json!({"name": "primary", "volumeMounts": [{"name": "x", "mountPath": "/${task_config.secret}"}]});
    let mut snapshot = snapshot(json!({"spec": {"containers": [mount]}}), Vec::new());
    let config = Arc::new(json!({"secret": "canary-in-the-vault"}));
    snapshot.task_config = vec![Vault { namespaces: Vec::new(), queue: None, user: None, config }];
    let message = denial(&pod(), &snapshot);
    assert!(message.contains("mounts the volume \"x\"") && !message.contains("canary"), "{message}");
}

/// Returns a snapshot whose task config has `word`, and a layer that uses it.
fn with_word(word: &str, fragment: Value) -> Snapshot {
    let mut snapshot = snapshot(fragment, vec![]);
    let config = Arc::new(json!({"word": word}));
    snapshot.task_config = vec![Vault { namespaces: Vec::new(), queue: None, user: None, config }];
    snapshot
}

#[test]
fn an_invalid_filled_claim_name_is_denied_by_name() {
    let layer = json!({"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-${task_config.word}"}}]}});
    let claim = |word: &str| with_word(word, layer.clone());
    assert_eq!(answer_for(&pod(), &claim("a.b")).outcome, Outcome::Patched);
    for word in ["Alice", "a_b", "ends-", "x".repeat(250).as_str()] {
        let message = denial(&pod(), &claim(word));
        let begin = "422 Placeholder queue/GPU (podgraft.yaml:1): spec.volumes[data].persistentVolumeClaim.claimName: ";
        let end = ", filled for this pod, is not a valid object name (lower-case letters, digits, - and .)";
        assert!(message.starts_with(begin) && message.ends_with(end), "{message}");
    }
}

#[test]
fn a_filled_sub_path_outside_the_volume_is_denied_by_name() {
    let layer = json!({"spec": {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{"name": "primary", "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "${task_config.word}"}]}]}});
    let mount = |word: &str| with_word(word, layer.clone());
    assert_eq!(answer_for(&pod(), &mount("users/alice")).outcome, Outcome::Patched);
    for word in ["../alice", "/etc", "a/../../b", ".."] {
        let message = denial(&pod(), &mount(word));
        assert!(
            message
                .ends_with(".subPath: `${task_config.word}`, filled for this pod, must be a relative path without .."),
            "{message}"
        );
    }
}

#[test]
fn an_invalid_filled_value_is_denied_with_layer_and_field() {
    let spec = |spec: Value| json!({"spec": spec});
    let primary = |key: &str, value: Value| json!({"spec": {"containers": [{"name": "primary", key: value}]}});
    let volume = |source: &str, value: Value| spec(json!({"volumes": [{"name": "v", source: value}]}));
    let claim = |part: &str, value: Value| {
        let mut template =
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        *template.pointer_mut(part).unwrap() = value;
        volume("ephemeral", json!({"volumeClaimTemplate": template}))
    };
    let word = "${task_config.word}";
    let name = "is not a valid object name (lower-case letters, digits, - and .)";
    let label = "is not a valid label value (at most 63 letters, digits, -, _ and .)";
    let template = "spec.volumes[v].ephemeral.volumeClaimTemplate";
    for (layer, path, what) in [
        (spec(json!({"serviceAccountName": word})), "spec.serviceAccountName", name),
        (spec(json!({"priorityClassName": word})), "spec.priorityClassName", name),
        (spec(json!({"runtimeClassName": word})), "spec.runtimeClassName", name),
        (spec(json!({"imagePullSecrets": [{"name": word}]})), "spec.imagePullSecrets[${task_config.word}].name", name),
        (spec(json!({"nodeSelector": {"team": word}})), "spec.nodeSelector.team", label),
        (
            spec(json!({"tolerations": [{"key": word, "operator": "Exists"}]})),
            "spec.tolerations[0].key",
            "is not a valid key (`name` or `prefix/name`)",
        ),
        (
            spec(json!({"hostAliases": [{"ip": word}]})),
            "spec.hostAliases[${task_config.word}].ip",
            "is not an IP address",
        ),
        (
            spec(json!({"hostAliases": [{"ip": "::1", "hostnames": ["a", word]}]})),
            "spec.hostAliases[::1].hostnames[1]",
            name,
        ),
        (volume("configMap", json!({"name": word})), "spec.volumes[v].configMap.name", name),
        (volume("secret", json!({"secretName": word})), "spec.volumes[v].secret.secretName", name),
        (
            volume("projected", json!({"sources": [{"secret": {"name": word}}]})),
            "spec.volumes[v].projected.sources[0].secret.name",
            name,
        ),
        (
            primary("envFrom", json!([{"configMapRef": {"name": word}}])),
            "spec.containers[primary].envFrom[0].configMapRef.name",
            name,
        ),
        (
            primary("env", json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": word, "key": "k"}}}])),
            "spec.containers[primary].env[A].valueFrom.secretKeyRef.name",
            name,
        ),
        (
            primary("resources", json!({"limits": {"memory": word}})),
            "spec.containers[primary].resources.limits.memory",
            "is not a quantity, like 2, 500m, 16Gi",
        ),
        (
            primary("imagePullPolicy", json!(word)),
            "spec.containers[primary].imagePullPolicy",
            "must be Always or IfNotPresent or Never",
        ),
        (
            claim("/spec/accessModes/0", json!(word)),
            &format!("{template}.spec.accessModes[0]"),
            "must be ReadWriteOnce or ReadOnlyMany or ReadWriteMany or ReadWriteOncePod",
        ),
        (
            claim("/spec/resources/requests/storage", json!(word)),
            &format!("{template}.spec.resources.requests.storage"),
            "is not a quantity, like 2, 500m, 16Gi",
        ),
        (claim("/spec", json!({"storageClassName": word})), &format!("{template}.spec.storageClassName"), name),
        (
            claim("", json!({"metadata": {"labels": {"team": word}}})),
            &format!("{template}.metadata.labels.team"),
            label,
        ),
        (json!({"metadata": {"labels": {"team": word}}}), "metadata.labels.team", label),
        (json!({"metadata": {"labels": {"a.b/c": word}}}), "metadata.labels[a.b/c]", label),
    ] {
        let message = denial(&pod(), &with_word("Data Science", layer));
        let begin = "422 Placeholder queue/GPU (podgraft.yaml:1)";
        assert_eq!(message, format!("{begin}: {path}: `${{task_config.word}}`, filled for this pod, {what}"));
    }
}

#[test]
fn an_invalid_filled_value_is_not_quoted() {
    for layer in [
        json!({"spec": {"imagePullSecrets": [{"name": "${task_config.word}"}]}}),
        json!({"spec": {"containers": [{"name": "primary", "imagePullPolicy": "${task_config.word}"}]}}),
        json!({"spec": {"hostname": "${task_config.word}"}}),
    ] {
        let message = denial(&pod(), &with_word("Hunter Two", layer.clone()));
        assert!(
            message.starts_with("422 Placeholder queue/GPU (podgraft.yaml:1): spec.") && !message.contains("Hunter"),
            "{message}"
        );
    }
    let valid = with_word("data-science", json!({"spec": {"imagePullSecrets": [{"name": "${task_config.word}"}]}}));
    let result = patched(&pod(), &answer_for(&pod(), &valid));
    assert_eq!(result["spec"]["imagePullSecrets"], json!([{"name": "data-science"}]));
}

#[test]
fn an_invalid_filled_file_path_is_denied_by_name() {
    let folder = "must be a path from the root (/) without .. and :";
    let name = "must end with a file name";
    for (path, word, what) in [
        ("${task_config.word}/x", "etc", folder),
        ("${task_config.word}/x", "..", folder),
        ("/etc/${task_config.word}", "..", folder),
        ("/etc/${task_config.word}/x", "a/../../b", folder),
        ("/etc/${task_config.word}", "a:b", folder),
        ("/etc/${task_config.word}", "", name),
        ("/etc/${task_config.word}", ".", name),
    ] {
        let file = json!({"spec": {"volumes": [{"name": "file-0123456789abcdef", "emptyDir": {}}], "containers": [
            {"name": "primary", "volumeMounts": [{"name": "file-0123456789abcdef", "mountPath": path}]}]}});
        let begin = "422 Placeholder queue/GPU (podgraft.yaml:1): spec.containers[primary]";
        let message = denial(&pod(), &with_word(word, file.clone()));
        let expected = format!("{begin}.volumeMounts[{path}].mountPath: `{path}`, filled for this pod, {what}");
        assert_eq!(message, expected, "{word}");
        let valid = if path.starts_with('/') { "fine" } else { "/fine" };
        assert_eq!(answer_for(&pod(), &with_word(valid, file)).message, None, "{path}");
    }
}

#[test]
fn two_elements_with_one_filled_name_are_denied() {
    let env = |other: &str| {
        json!({"spec": {"containers": [{"name": "primary", "env": [
            {"name": "${task_config.word}", "value": "one"}, {"name": "B", "value": other}]}]}})
    };
    assert_eq!(
        denial(&pod(), &with_word("B", env("two"))),
        "422 Placeholder queue/GPU (podgraft.yaml:1): spec.containers[primary].env[${task_config.word}].name: `${task_config.word}`, filled for this pod, is twice in the list"
    );
    for (word, other) in [("A", "two"), ("B", "one")] {
        assert_eq!(answer_for(&pod(), &with_word(word, env(other))).message, None, "{word} {other}");
    }
    let mut removed = env("two");
    removed["spec"]["containers"][0]["env"][0] = json!({"name": "${task_config.word}", "$patch": "delete"});
    assert_eq!(answer_for(&pod(), &with_word("B", removed)).message, None);
}
