//! Results: dependent fields, and the pods that the API server would deny or warn about.

use super::*;

#[test]
fn a_changed_limit_drops_the_request_that_was_its_copy() {
    let resources = |limits: Value| json!({"spec": {"containers": [{"name": "primary", "resources": limits}]}});
    let doubled = snapshot(resources(json!({"limits": {"nvidia.com/gpu": "2"}})), Vec::new());
    let result = patched(&pod(), &answer_for(&pod(), &doubled));
    assert_eq!(
        result["spec"]["containers"][0]["resources"],
        json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {}})
    );
    let mut on_cpu = pod();
    on_cpu["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
    let with_request = resources(json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}));
    let result = patched(&on_cpu, &answer_for(&on_cpu, &snapshot(with_request, Vec::new())));
    assert_eq!(result["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1"}), "a layer set it");
}

#[test]
fn a_request_above_its_limit_is_denied_by_name() {
    let result = |written: Value, resources: Value| {
        let mut pod = pod();
        pod["spec"]["containers"][0]["resources"] = written;
        let layer = json!({"spec": {"containers": [{"name": "primary", "resources": resources}]}});
        denial(&pod, &snapshot(layer, Vec::new()))
    };
    let path = format!("422 InvalidResult queue/GPU: spec.containers[clearml-id-{ID}].resources.requests");
    assert_eq!(
        result(
            json!({"limits": {"memory": "8Gi"}, "requests": {"memory": "4Gi"}}),
            json!({"limits": {"memory": "2Gi"}})
        ),
        format!("{path}.memory is 4Gi, more than the limit of 2Gi")
    );
    assert_eq!(
        result(json!({}), json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}})),
        format!("{path}.nvidia.com/gpu is 1, and must be equal to the limit of 2")
    );
    assert_eq!(
        result(json!({}), json!({"requests": {"hugepages-2Mi": "4Mi"}})),
        format!("{path}.hugepages-2Mi is 4Mi, and needs a limit that is equal")
    );
}

#[test]
fn a_submitted_request_above_its_limit_is_left_to_the_api_server() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}});
    let layer = json!({"spec": {"containers": [{"name": "primary", "env": [{"name": "A", "value": "b"}]}]}});
    assert_eq!(answer_for(&pod, &snapshot(layer, Vec::new())).outcome, Outcome::Patched);
}

#[test]
fn a_warning_that_only_the_result_causes_is_denied_by_name() {
    let layer = json!({"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}});
    assert_eq!(
        denial(&pod(), &snapshot(layer.clone(), Vec::new())),
        "422 InvalidResult queue/GPU: spec.nodeSelector[beta.kubernetes.io/os] would cause a warning of the API server, which fails a ClearML task: deprecated since v1.14; use \"kubernetes.io/os\" instead"
    );
    let mut own = pod();
    own["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    assert_eq!(answer_for(&own, &snapshot(layer, Vec::new())).outcome, Outcome::Patched, "the pod's own");
}

#[test]
fn a_sidecars_port_that_equals_the_tasks_is_denied_by_name() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 10022}]);
    let sidecar =
        json!({"name": "ssh", "image": "ssh", "restartPolicy": "Always", "ports": [{"containerPort": 10022}]});
    let message = denial(&pod, &snapshot(json!({"spec": {"initContainers": [sidecar]}}), Vec::new()));
    assert!(
        message.starts_with("422 InvalidResult queue/GPU: ")
            && message.contains("ports[10022/TCP] would cause a warning")
            && message.contains("duplicate port"),
        "{message}"
    );
}

#[test]
fn a_result_that_the_api_server_would_deny_is_denied_by_name() {
    let volume = |source: Value| json!({"spec": {"volumes": [source]}});
    let primary = |extra: Value| {
        let mut container = json!({"name": "primary"});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let cases = [
        (
            primary(json!({"volumeMounts": [{"name": "nope", "mountPath": "/x"}]})),
            "volumeMounts[/x] mounts the volume \"nope\", which the pod does not have",
        ),
        (json!({"spec": {"containers": [{"name": "side"}]}}), "spec.containers[side] is added without an image"),
        (
            volume(json!({"name": "Upper", "emptyDir": {}})),
            "has a name that is not a DNS label (lower-case letters, digits and -)",
        ),
        (
            volume(json!({"name": "two", "emptyDir": {}, "nfs": {"server": "s", "path": "/"}})),
            "spec.volumes[two] has two sources, emptyDir and nfs",
        ),
        (
            primary(json!({"env": [{"name": "a b", "value": "c"}]})),
            "env[a b] has a name that is invalid for an environment variable",
        ),
        (
            primary(json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]})),
            "env[A] has both value and valueFrom",
        ),
        (
            json!({"metadata": {"labels": {"a": "not a value"}}}),
            "metadata.labels.a has a value that is invalid for a label (at most 63 letters, digits, -, _ and ., ends alphanumeric)",
        ),
        (
            primary(json!({"resources": {"limits": {"cpu": "lots"}}})),
            "should be a quantity, such as \"500m\" or \"4Gi\"",
        ),
        (primary(json!({"ports": [{"containerPort": 4_294_967_296_u64}]})), "should be a whole number of 32 bits"),
        (
            json!({"spec": {"nodeSelector": {"$retainKeys": "a"}}}),
            "spec.nodeSelector has the name $retainKeys, which is a directive, not a name",
        ),
        (json!({"spec": {"tolerations": [null]}}), "spec.tolerations[0] is null, should be an object"),
        (
            json!({"metadata": {"deletionTimestamp": "x"}}),
            "metadata.deletionTimestamp may not be changed: it belongs to the API server or the creator",
        ),
    ];
    for (fragment, end) in cases {
        let message = message_for(&pod(), &fragment);
        assert!(message.ends_with(end), "{fragment}: {message}");
    }
}

#[test]
fn a_limit_below_a_plugins_request_removes_the_request() {
    let mut ranged = pod();
    ranged["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:spec": {"f:restartPolicy": {}}}}]);
    ranged["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}});
    let lowered = json!({"spec": {"containers": [{"name": "primary", "resources": {"limits": {"cpu": "250m"}}}]}});
    let result = patched(&ranged, &answer_for(&ranged, &snapshot(lowered, Vec::new())));
    assert_eq!(result["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "250m"}, "requests": {}}));
}

#[test]
fn oversized_annotations_are_denied_by_name() {
    let layer = json!({"metadata": {"annotations": {"large": "x".repeat(200_000), "small": "y"}}});
    let with = |bytes: usize| {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({"own": "z".repeat(bytes)});
        pod
    };
    assert_eq!(answer_for(&with(60_000), &snapshot(layer.clone(), vec![])).outcome, Outcome::Patched);
    let message = denial(&with(65_000), &snapshot(layer.clone(), vec![]));
    assert!(
        message.starts_with(
            "422 InvalidResult queue/GPU: metadata.annotations.large increases the pod's annotations to 2650"
        ) && message.ends_with("above the limit of 262144"),
        "{message}"
    );
    // kubectl's copy counts with its length after unescaping
    let mut copied = with(0);
    copied["metadata"]["annotations"][crate::k8s::labels::LAST_APPLIED] = json!("\"".repeat(40_000));
    assert_eq!(answer_for(&copied, &snapshot(layer, vec![])).outcome, Outcome::Patched);
}

#[test]
fn a_sidecar_with_the_name_of_a_container_of_the_pod_is_denied_by_name() {
    let mut pod = pod();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "proxy", "image": "own"}));
    let sidecar = |name: &str| json!({"spec": {"initContainers": [{"name": name, "image": "layers", "restartPolicy": "Always"}]}});
    let name = format!("clearml-id-{ID}");
    for name in ["proxy", &name] {
        assert_eq!(
            denial(&pod, &snapshot(sidecar(name), vec![])),
            format!(
                "422 InvalidResult queue/GPU: spec.initContainers[{name}] has the name of another container of the pod"
            )
        );
    }
}

#[test]
fn an_init_container_of_the_pod_does_not_become_a_layers_sidecar() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "fetch", "image": "own"}]);
    let sidecar = json!({"name": "fetch", "image": "layers"});
    assert_eq!(
        denial(&pod, &snapshot(json!({"spec": {"containers": [sidecar]}}), vec![])),
        "422 InvalidResult queue/GPU: spec.initContainers[fetch].restartPolicy would turn the pod's own init container of this name into a sidecar"
    );
    let layer = json!({"spec": {"initContainers": [sidecar]}});
    assert_eq!(
        with_layer(&pod, layer)["spec"]["initContainers"][0]["image"],
        "layers",
        "a patched init container stays one"
    );
}

#[test]
fn a_device_request_is_removed_with_its_limit() {
    let layer = json!({"spec": {"containers": [{"name": "primary", "resources": {"limits": {"$patch": "replace", "cpu": "2"}}}]}});
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}, "requests": {"nvidia.com/gpu": "1", "memory": "1Gi"}});
    let resources = &with_layer(&pod, layer)["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "2"}, "requests": {"memory": "1Gi"}}));
}

#[test]
fn mutually_exclusive_fields_are_denied_by_name() {
    let mut pod = pod();
    let profile = json!({"type": "Localhost", "localhostProfile": "p"});
    let main = &mut pod["spec"]["containers"][0];
    main["livenessProbe"] = json!({"exec": {"command": ["true"]}});
    main["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 1}}});
    main["securityContext"] = json!({"seccompProfile": profile});
    main["volumeMounts"][0]["subPath"] = json!("own");
    pod["spec"]["securityContext"] = json!({"appArmorProfile": profile});
    let main = format!("spec.containers[clearml-id-{ID}]");
    let replace = "`$patch: replace` beside the new one removes the old one";
    let profiled = format!("has a localhostProfile, which only the type Localhost allows: {replace}");
    let primary = |part: Value| {
        let mut container = part;
        container["name"] = json!("primary");
        json!({"spec": {"containers": [container]}})
    };
    let unconfined = |kind: &str| json!({"securityContext": {kind: {"type": "Unconfined"}}});
    for (layer, path, what) in [
        (
            primary(json!({"livenessProbe": {"httpGet": {"port": 80}}})),
            format!("{main}.livenessProbe"),
            format!("has two handlers, exec and httpGet: {replace}"),
        ),
        (
            primary(json!({"lifecycle": {"preStop": {"exec": {"command": ["a"]}}}})),
            format!("{main}.lifecycle.preStop"),
            format!("has two handlers, exec and sleep: {replace}"),
        ),
        (primary(unconfined("seccompProfile")), format!("{main}.securityContext.seccompProfile"), profiled.clone()),
        (json!({"spec": unconfined("appArmorProfile")}), "spec.securityContext.appArmorProfile".to_owned(), profiled),
        (
            primary(
                json!({"volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets", "subPathExpr": "b"}]}),
            ),
            format!("{main}.volumeMounts[/var/run/secrets]"),
            "has both subPath and subPathExpr".to_owned(),
        ),
    ] {
        assert_eq!(denial(&pod, &snapshot(layer, vec![])), format!("422 InvalidResult queue/GPU: {path} {what}"));
    }
    let replaced = json!({"livenessProbe": {"$patch": "replace", "httpGet": {"port": 80}}});
    let result = with_layer(&pod, primary(replaced));
    assert_eq!(result["spec"]["containers"][0]["livenessProbe"], json!({"httpGet": {"port": 80}}));
}

#[test]
fn a_pod_security_violation_of_only_the_result_is_denied_by_name() {
    let context = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut compliant = pod();
    for container in compliant["spec"]["containers"].as_array_mut().unwrap() {
        container["securityContext"] = context.clone();
    }
    let restricted = |layer: Value| {
        let snapshot = snapshot(layer, Vec::new());
        snapshot.pod_security.set(HashMap::from([("clearml".to_owned(), "restricted".parse().unwrap())]));
        snapshot
    };
    let with_init = |more: Value| {
        let mut init = json!({"name": "fetch", "image": "busybox"});
        init["securityContext"] = more;
        json!({"spec": {"initContainers": [init]}})
    };
    assert_eq!(
        denial(&compliant, &restricted(with_init(json!({})))),
        "422 InvalidResult queue/GPU: spec.initContainers[fetch].securityContext.allowPrivilegeEscalation must be false: \
         the pod would violate its namespace's PodSecurity \"restricted:latest\" (allowPrivilegeEscalation != false), \
         and the API server's warning fails a ClearML task"
    );
    let fetch = json!({"name": "fetch", "image": "busybox", "ports": [{"containerPort": 80, "hostPort": 80}]});
    let fetch = json!({"spec": {"initContainers": [fetch]}});
    let hook = module(move |_| Ok(HookOutput::Fragment(fetch.to_string())));
    let with_module = snapshot(json!({}), vec![hook]);
    with_module.pod_security.set_everywhere(Some("baseline".parse().unwrap()));
    let message = denial(&compliant, &with_module);
    assert!(message.contains("module/hook: spec.initContainers[fetch].ports may have no hostPort"), "{message}");
    let mut compliant_as_a_whole = compliant.clone();
    compliant_as_a_whole["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    compliant_as_a_whole["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = Value::Null;
    let removed = denial(
        &compliant_as_a_whole,
        &restricted(json!({"spec": {"securityContext": {"$patch": "replace", "fsGroup": 1}}})),
    );
    assert!(removed.contains("queue/GPU: spec.containers[clearml-id-"), "{removed}");
    assert!(removed.contains(".securityContext.runAsNonRoot must be true: "), "{removed}");
    let loose = denial(&compliant, &restricted(json!({"spec": {"securityContext": {"runAsUser": 0}}})));
    assert!(loose.starts_with("422 InvalidResult queue/GPU: spec.securityContext.runAsUser may not be 0: "), "{loose}");
    assert_eq!(
        answer_for(&compliant, &restricted(with_init(context))).outcome,
        Outcome::Patched,
        "as compliant as before"
    );
    assert_eq!(
        answer_for(&pod(), &restricted(with_init(json!({})))).outcome,
        Outcome::Patched,
        "the pod's own violation"
    );
    let elsewhere = snapshot(with_init(json!({})), Vec::new());
    elsewhere.pod_security.set(HashMap::from([("other".to_owned(), "restricted".parse().unwrap())]));
    assert_eq!(answer_for(&compliant, &elsewhere).outcome, Outcome::Patched, "another namespace's level");
}

#[test]
fn an_error_under_a_key_with_dots_names_its_layer() {
    let layer = json!({"metadata": {"annotations": {"example.com/big": "x".repeat(300 << 10)}}});
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"own": "x"});
    let message = denial(&pod, &snapshot(layer, vec![]));
    let begin =
        "422 InvalidResult queue/GPU: metadata.annotations[example.com/big] increases the pod's annotations to ";
    assert!(message.starts_with(begin), "{message}");
}
